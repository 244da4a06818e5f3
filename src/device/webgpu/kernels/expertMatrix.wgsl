// expertMatmul for many rows: experts' weights of any form times tiles of 32 entries (groupPicks.wgsl), by f16 subgroup matrices with
// f32 sums. Each subgroup owns 32 rows of one expert and all entries of the tile, so that each weight is expanded once. Tiles of one
// expert follow each other and find its weights in the GPU's cache.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: weight, codes, weightTile, weightHalves, narrow

// <values>
// include: weightValues
const SUBGROUP: u32 = 32u;
const SUBGROUPS: u32 = 4u;
const PICKS: u32 = 2u;
// All picks of a token read the same row of x.
const SHARED: bool = true;
const HAS_BIAS: bool = false;
// </values>

struct Params {
  // Rows of one expert.
  rows: u32,
  groups: u32,
  // Rows of all experts before these buffers, and in them.
  partFirst: u32,
  partRows: u32,
  // Where the list of entries begins in `sorted`.
  listAt: u32,
  // The item of `x` where the factors of its rows begin, one per token (lib/rowFactor.wgsl).
  factorsAt: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
// [tokens, or entries][groups * 32] f16, then [tokens] factors
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;
// For the rows of all experts.
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// [entries][rows]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
// From groupPicks.wgsl.
@group(0) @binding(7) var<storage, read> sorted: array<u32>;

const WORKGROUP: u32 = SUBGROUP * SUBGROUPS;
const TILE_ROWS: u32 = SUBGROUPS * 32u;
const TILE_TOKENS: u32 = 32u;
// In items of eight f16: one more than a row has, to avoid bank conflicts (see matmulMatrix).
const STRIDE: u32 = 5u;
var<workgroup> weightTile: array<vec4<u32>, TILE_ROWS * STRIDE>;
var<workgroup> xTile: array<vec4<u32>, TILE_TOKENS * STRIDE>;
// Entries of the tile; after its end, the last one is repeated.
var<workgroup> entries: array<u32, TILE_TOKENS>;
// The expert's first row in these buffers, and among all rows.
var<private> partRow: u32;
var<private> firstOfExpert: u32;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  if (place.x >= sorted[0]) {
    return;
  }
  let expertRow = sorted[4u + 4u * place.x] * params.rows;
  if (expertRow < params.partFirst || expertRow - params.partFirst >= params.partRows) {
    return;
  }
  firstOfExpert = expertRow;
  partRow = expertRow - params.partFirst;
  let count = sorted[6u + 4u * place.x];
  if (local < TILE_TOKENS) {
    entries[local] = sorted[params.listAt + sorted[5u + 4u * place.x] + min(local, count - 1u)];
  }
  workgroupBarrier();
  let firstRow = place.y * TILE_ROWS;
  let mine = local / SUBGROUP * 32u;
  // The second half of a tile may be empty.
  let isLong = count > 16u;

  // Each has 16 entries and 16 rows.
  var acc00: Result;
  var acc01: Result;
  var acc10: Result;
  var acc11: Result;
  var loads = load(firstRow, 0u, TILE_TOKENS - 1u, 0u, local);
  for (var group = 0u; group < params.groups; group++) {
    workgroupBarrier();
    store(&loads, group, local);
    // The next tile is loaded while this one is multiplied. The last loads repeat a tile; their results are not used.
    loads = load(firstRow, 0u, TILE_TOKENS - 1u, min(group + 1u, params.groups - 1u), local);
    workgroupBarrier();
    // Columns 0..15, then 16..31.
    {
      let left = subgroupMatrixLoad<Left, row_major>(&xTile, 0u, STRIDE);
      let right0 = subgroupMatrixLoad<Right, col_major>(&weightTile, mine * STRIDE, STRIDE);
      let right1 = subgroupMatrixLoad<Right, col_major>(&weightTile, (mine + 16u) * STRIDE, STRIDE);
      acc00 = subgroupMatrixMultiplyAccumulate(left, right0, acc00);
      acc01 = subgroupMatrixMultiplyAccumulate(left, right1, acc01);
      if (isLong) {
        let more = subgroupMatrixLoad<Left, row_major>(&xTile, 16u * STRIDE, STRIDE);
        acc10 = subgroupMatrixMultiplyAccumulate(more, right0, acc10);
        acc11 = subgroupMatrixMultiplyAccumulate(more, right1, acc11);
      }
    }
    {
      let left = subgroupMatrixLoad<Left, row_major>(&xTile, 2u, STRIDE);
      let right0 = subgroupMatrixLoad<Right, col_major>(&weightTile, mine * STRIDE + 2u, STRIDE);
      let right1 = subgroupMatrixLoad<Right, col_major>(&weightTile, (mine + 16u) * STRIDE + 2u, STRIDE);
      acc00 = subgroupMatrixMultiplyAccumulate(left, right0, acc00);
      acc01 = subgroupMatrixMultiplyAccumulate(left, right1, acc01);
      if (isLong) {
        let more = subgroupMatrixLoad<Left, row_major>(&xTile, 16u * STRIDE + 2u, STRIDE);
        acc10 = subgroupMatrixMultiplyAccumulate(more, right0, acc10);
        acc11 = subgroupMatrixMultiplyAccumulate(more, right1, acc11);
      }
    }
  }

  write(acc00, firstRow + mine, 0u, count, local);
  write(acc01, firstRow + mine + 16u, 0u, count, local);
  if (isLong) {
    write(acc10, firstRow + mine, 16u, count, local);
    write(acc11, firstRow + mine + 16u, 16u, count, local);
  }
}

fn weightRowOf(row: u32) -> u32 {
  return partRow + row;
}

fn xRowOf(token: u32) -> u32 {
  return select(entries[token], entries[token] / PICKS, SHARED);
}

// Writes a fragment to the entries' rows of `out`, through the weights' tile, which is no longer needed.
fn write(fragment: Result, firstRow: u32, first: u32, count: u32, local: u32) {
  let place = local / SUBGROUP * 64u;
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&weightTile, place, fragment, 4u);
  workgroupBarrier();
  for (var i = local % SUBGROUP; i < 256u; i += SUBGROUP) {
    let row = firstRow + i % 16u;
    if (first + i / 16u < count && row < params.rows) {
      let entry = entries[first + i / 16u];
      let factor = bitcast<f32>(x[params.factorsAt + entry / PICKS].x);
      var value = factor * bitcast<f32>(weightTile[place + i / 4u][i % 4u]);
      if (HAS_BIAS) {
        value += bias[firstOfExpert + row];
      }
      out[entry * params.rows + row] = value;
    }
  }
}
