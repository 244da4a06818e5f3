// Params and results of products of prompts (lib/productTiles.wgsl).
struct Params {
  rows: u32,
  groups: u32,
  // Tokens for which x and each split have room.
  tokens: u32,
  outCols: u32,
  // The column of `out` for row 0.
  firstColumn: u32,
  // The item of `x` where the rows' factors begin (lib/rowFactor.wgsl).
  factorsAt: u32,
  // Tiles of rows that are not divided, and splits of the others.
  whole: u32,
  splits: u32,
}

// [tokens][outCols]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
// [splits][tokens][rows after whole tiles]
@group(0) @binding(7) var<storage, read_write> sums: array<f32>;
// Whether any factor of the tile differs from 1.
var<workgroup> scaledRows: atomic<u32>;
var<workgroup> isScaled: u32;
