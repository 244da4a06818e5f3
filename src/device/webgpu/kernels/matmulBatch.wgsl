// Weights of any form times up to 32 tokens of f16 activations, by f16 subgroup matrices with f32 sums: for steps in which several
// texts generate. A workgroup owns 128 rows, a subgroup 32 of them and all tokens, so that each weight is read and expanded once.
// Columns are split over enough workgroups to fill a GPU, and sumSplits adds the splits.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, weight, codes, weightTile, weightHalves, narrow

// <values>
// include: weightValues
const SUBGROUP: u32 = 32u;
const OUTPUTS: bool = false;
// Number of splits of the columns. 1: the sums are the product.
const SPLITS: u32 = 1u;
const HAS_BIAS: bool = false;
// </values>

struct Params {
  rows: u32,
  groups: u32,
  // Tokens for which x and each split of `out` have room.
  tokens: u32,
  outCols: u32,
  // The column of `out` for row 0.
  firstColumn: u32,
  // The item of `x` where the rows' factors begin (lib/rowFactor.wgsl).
  factorsAt: u32,
}

// include: halvesBindings
// [SPLITS][tokens][outCols]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

const SUBGROUPS: u32 = 4u;
const WORKGROUP: u32 = SUBGROUP * SUBGROUPS;
const TILE_ROWS: u32 = 128u;
const TILE_TOKENS: u32 = 32u;
// In items of eight f16: one more than a row has, to avoid bank conflicts (see matmulMatrix).
const STRIDE: u32 = 5u;
var<workgroup> weightTile: array<vec4<u32>, TILE_ROWS * STRIDE>;
var<workgroup> xTile: array<vec4<u32>, TILE_TOKENS * STRIDE>;
// For the tile's tokens.
var<workgroup> factors: array<f32, TILE_TOKENS>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  let firstToken = place.x * TILE_TOKENS;
  let firstRow = place.y * TILE_ROWS;
  let tokens = select(step.tokens, step.outputs, OUTPUTS);
  let subgroup = local / SUBGROUP;
  let mine = subgroup * 32u;
  let firstGroup = params.groups * place.z / SPLITS;
  let endGroup = params.groups * (place.z + 1u) / SPLITS;

  // Barriers of the loop below come before these are read.
  for (var i = local; i < TILE_TOKENS; i += WORKGROUP) {
    factors[i] = bitcast<f32>(x[params.factorsAt + min(firstToken + i, tokens - 1u)].x);
  }

  // Each has 16 tokens and 16 rows.
  var acc00: Result;
  var acc01: Result;
  var acc10: Result;
  var acc11: Result;
  var loads = load(firstRow, firstToken, tokens - 1u, firstGroup, local);
  for (var group = firstGroup; group < endGroup; group++) {
    workgroupBarrier();
    store(&loads, group, local);
    loads = load(firstRow, firstToken, tokens - 1u, min(group + 1u, endGroup - 1u), local);
    workgroupBarrier();
    // Columns 0..15, then 16..31.
    {
      let left0 = subgroupMatrixLoad<Left, row_major>(&xTile, 0u, STRIDE);
      let left1 = subgroupMatrixLoad<Left, row_major>(&xTile, 16u * STRIDE, STRIDE);
      let right0 = subgroupMatrixLoad<Right, col_major>(&weightTile, mine * STRIDE, STRIDE);
      let right1 = subgroupMatrixLoad<Right, col_major>(&weightTile, (mine + 16u) * STRIDE, STRIDE);
      acc00 = subgroupMatrixMultiplyAccumulate(left0, right0, acc00);
      acc01 = subgroupMatrixMultiplyAccumulate(left0, right1, acc01);
      acc10 = subgroupMatrixMultiplyAccumulate(left1, right0, acc10);
      acc11 = subgroupMatrixMultiplyAccumulate(left1, right1, acc11);
    }
    {
      let left0 = subgroupMatrixLoad<Left, row_major>(&xTile, 2u, STRIDE);
      let left1 = subgroupMatrixLoad<Left, row_major>(&xTile, 16u * STRIDE + 2u, STRIDE);
      let right0 = subgroupMatrixLoad<Right, col_major>(&weightTile, mine * STRIDE + 2u, STRIDE);
      let right1 = subgroupMatrixLoad<Right, col_major>(&weightTile, (mine + 16u) * STRIDE + 2u, STRIDE);
      acc00 = subgroupMatrixMultiplyAccumulate(left0, right0, acc00);
      acc01 = subgroupMatrixMultiplyAccumulate(left0, right1, acc01);
      acc10 = subgroupMatrixMultiplyAccumulate(left1, right0, acc10);
      acc11 = subgroupMatrixMultiplyAccumulate(left1, right1, acc11);
    }
  }

  let split = place.z * params.tokens * params.outCols;
  write(acc00, split, firstRow + mine, firstToken, 0u, tokens, local);
  write(acc01, split, firstRow + mine + 16u, firstToken, 0u, tokens, local);
  write(acc10, split, firstRow + mine, firstToken, 16u, tokens, local);
  write(acc11, split, firstRow + mine + 16u, firstToken, 16u, tokens, local);
}

fn weightRowOf(row: u32) -> u32 {
  return row;
}

fn xRowOf(token: u32) -> u32 {
  return token;
}

// Writes a fragment to `out`, through the weights' tile, which is no longer needed. offset: the fragment's first token in the tile.
fn write(fragment: Result, split: u32, firstRow: u32, firstToken: u32, offset: u32, tokens: u32, local: u32) {
  let place = local / SUBGROUP * 64u;
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&weightTile, place, fragment, 4u);
  workgroupBarrier();
  for (var i = local % SUBGROUP; i < 256u; i += SUBGROUP) {
    let token = firstToken + offset + i / 16u;
    let row = firstRow + i % 16u;
    if (token < tokens && row < params.rows) {
      let column = params.firstColumn + row;
      var value = factors[offset + i / 16u] * bitcast<f32>(weightTile[place + i / 4u][i % 4u]);
      if (HAS_BIAS && SPLITS == 1u) {
        value += bias[column];
      }
      out[split + token * params.outCols + column] = value;
    }
  }
}
