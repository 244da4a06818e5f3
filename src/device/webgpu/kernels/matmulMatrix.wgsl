// Weights of any form times many tokens of f16 activations, by f16 subgroup matrices with f32 sums. A workgroup owns 128 rows and, per
// subgroup, 32 tokens; weights are expanded to f16 in workgroup memory, 32 columns at a time. out = x [tokens x cols] times weight
// [rows x cols] transposed: the left matrix is x, the right one the weight by columns. Rows of x have factors (lib/rowFactor.wgsl); a
// tile in which they are not all 1 is written like tiles at the edge. Tiles that would fill only part of a GPU are divided into splits
// of their columns, which sumSplits adds.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, weight, codes, weightTile, weightHalves, narrow

// <values>
// include: weightValues
const SUBGROUP: u32 = 32u;
// Each subgroup has its own 32 tokens and all 128 rows, so that offsets of weights in the tile are constants: Dawn puts an `if` around
// each matrix load with a variable offset (lab/LOG.md: 93 -> 160 TFLOP/s on H100, 2026-11-23).
const SUBGROUPS: u32 = 4u;
const HAS_BIAS: bool = false;
// Rows are the step's outputs, not its tokens.
const OUTPUTS: bool = false;
// </values>

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

// include: halvesBindings
// [tokens][outCols]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
// [splits][tokens][rows after whole tiles]
@group(0) @binding(7) var<storage, read_write> sums: array<f32>;

const WORKGROUP: u32 = SUBGROUP * SUBGROUPS;
const TILE_ROWS: u32 = 128u;
const TILE_TOKENS: u32 = SUBGROUPS * 32u;
// In items of eight f16. A row of a tile has 32 columns and one more item, so that the eight rows that a matrix load takes at once are
// in different banks.
const STRIDE: u32 = 5u;
var<workgroup> weightTile: array<vec4<u32>, TILE_ROWS * STRIDE>;
var<workgroup> xTile: array<vec4<u32>, TILE_TOKENS * STRIDE>;
// Whether any factor of the tile differs from 1.
var<workgroup> scaledRows: atomic<u32>;
var<workgroup> isScaled: u32;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  // Tokens vary fastest, so that workgroups that run together share weights.
  let firstToken = place.x * TILE_TOKENS;
  let work = workOf(place.y);
  let firstRow = work.tile * TILE_ROWS;
  let subgroup = local / SUBGROUP;
  let xAt = subgroup * 32u * STRIDE;
  noteFactors(firstToken, local);

  // Rows by tokens. Not an array: an array that a loop indexes is in memory, not in registers (28 -> 97 TFLOP/s).
  // each R 0..7
  var acc{R}0: Result; var acc{R}1: Result;
  // end
  var loads = load(firstRow, firstToken, params.tokens - 1u, work.group, local);
  for (var group = work.group; group < work.end; group++) {
    workgroupBarrier();
    store(&loads, group, local);
    // The next tile is loaded while this one is multiplied. The last loads repeat a tile; their results are not used. Loading before
    // the barrier: 242 -> 250 TFLOP/s for q4_0. Floats, which are more bytes, are loaded after it: 169 -> 209.
    let following = min(group + 1u, work.end - 1u);
    if (CODES < F32) {
      loads = load(firstRow, firstToken, params.tokens - 1u, following, local);
    }
    workgroupBarrier();
    if (CODES >= F32) {
      loads = load(firstRow, firstToken, params.tokens - 1u, following, local);
    }
    // Columns 0..15, then 16..31.
    // each C 0..1
    {
      let left0 = subgroupMatrixLoad<Left, row_major>(&xTile, xAt + {2 * C}u, STRIDE);
      let left1 = subgroupMatrixLoad<Left, row_major>(&xTile, xAt + 16u * STRIDE + {2 * C}u, STRIDE);
      // each R 0..7
      let right{R} = subgroupMatrixLoad<Right, col_major>(&weightTile, {16 * R}u * STRIDE + {2 * C}u, STRIDE);
      acc{R}0 = subgroupMatrixMultiplyAccumulate(left0, right{R}, acc{R}0);
      acc{R}1 = subgroupMatrixMultiplyAccumulate(left1, right{R}, acc{R}1);
      // end
    }
    // end
  }

  let token = firstToken + subgroup * 32u;
  // Complete tiles are stored directly.
  let complete = firstRow + TILE_ROWS <= params.rows && firstToken + TILE_TOKENS <= params.tokens;
  if (local == 0u) {
    isScaled = atomicLoad(&scaledRows);
  }
  if (!HAS_BIAS && complete && workgroupUniformLoad(&isScaled) == 0u) {
    let next = 16u * work.stride;
    let at = work.base + token * work.stride + firstRow;
    if (work.isWhole) {
      // each R 0..7
      subgroupMatrixStore<row_major>(&out, at + {16 * R}u, acc{R}0, work.stride);
      subgroupMatrixStore<row_major>(&out, at + next + {16 * R}u, acc{R}1, work.stride);
      // end
    } else {
      // each R 0..7
      subgroupMatrixStore<row_major>(&sums, at + {16 * R}u, acc{R}0, work.stride);
      subgroupMatrixStore<row_major>(&sums, at + next + {16 * R}u, acc{R}1, work.stride);
      // end
    }
    return;
  }
  // each R 0..7
  writeEdge(acc{R}0, work, firstRow + {16 * R}u, token, local);
  writeEdge(acc{R}1, work, firstRow + {16 * R}u, token + 16u, local);
  // end
}

// What a workgroup computes: a tile of rows, groups of its columns, and the place of its row 0 of the first token.
struct Work {
  tile: u32,
  group: u32,
  end: u32,
  isWhole: bool,
  base: u32,
  stride: u32,
}

// Workgroups after those of whole tiles have one split of a tile each.
fn workOf(index: u32) -> Work {
  if (index < params.whole) {
    return Work(index, 0u, params.groups, true, params.firstColumn, params.outCols);
  }
  let tiles = (params.rows + TILE_ROWS - 1u) / TILE_ROWS - params.whole;
  let split = (index - params.whole) / tiles;
  let groups = (params.groups + params.splits - 1u) / params.splits;
  let stride = params.rows - params.whole * TILE_ROWS;
  let base = split * params.tokens * stride - params.whole * TILE_ROWS;
  return Work(params.whole + (index - params.whole) % tiles, split * groups, min((split + 1u) * groups, params.groups), false, base, stride);
}

fn weightRowOf(row: u32) -> u32 {
  return row;
}

fn xRowOf(token: u32) -> u32 {
  return token;
}

fn factorOfToken(token: u32) -> f32 {
  return bitcast<f32>(x[params.factorsAt + token].x);
}

/// Notes whether the tile's tokens of this step have factors; the result is read after the groups' barriers.
fn noteFactors(firstToken: u32, local: u32) {
  let live = min(select(step.tokens, step.outputs, OUTPUTS), params.tokens);
  if (local == 0u) {
    atomicStore(&scaledRows, 0u);
  }
  workgroupBarrier();
  for (var token = firstToken + local; token < min(firstToken + TILE_TOKENS, live); token += WORKGROUP) {
    if (factorOfToken(token) != 1.0) {
      atomicStore(&scaledRows, 1u);
    }
  }
}

/// Writes a fragment at the edge of `out`, or with factors or a bias, through the weights' tile, which is no longer needed.
fn writeEdge(fragment: Result, work: Work, firstRow: u32, firstToken: u32, local: u32) {
  let place = local / SUBGROUP * 64u;
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&weightTile, place, fragment, 4u);
  workgroupBarrier();
  for (var i = local % SUBGROUP; i < 256u; i += SUBGROUP) {
    let token = firstToken + i / 16u;
    let row = firstRow + i % 16u;
    if (token < params.tokens && row < params.rows) {
      var value = bitcast<f32>(weightTile[place + i / 4u][i % 4u]) * factorOfToken(token);
      if (HAS_BIAS) {
        value += bias[params.firstColumn + row];
      }
      let at = work.base + token * work.stride + row;
      if (work.isWhole) {
        out[at] = value;
      } else {
        sums[at] = value;
      }
    }
  }
}
