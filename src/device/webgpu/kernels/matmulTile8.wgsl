// Quantized weights times many tokens of f32 activations, by 8x8x8 subgroup matrices of float32, which Metal has. A workgroup is one
// subgroup of 32 and owns 32 rows x 32 tokens, in 16 matrices. For each 32 columns, a lane expands one row of weights and copies one
// token into workgroup memory. Each register of a lane has a name: an array that a loop indexes would be in memory. With experts
// (expertMatmul), a workgroup has 32 entries of one expert, in the order of groupPicks, instead of tokens.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: weight, codes, fourWeights, floatCodes

// <values>
// include: weightValues
const HAS_BIAS: bool = false;
// The weights are experts with `rows` each; out is [entries][rows].
const EXPERTS: bool = false;
// How many entries of a token read the same row of x; 1: each has its own.
const SHARED: u32 = 1u;
// </values>

struct Params {
  rows: u32,
  groups: u32,
  // Tokens for which x and out have room.
  tokens: u32,
  outCols: u32,
  // The column of `out` for row 0.
  firstColumn: u32,
  // For experts: rows of all experts before these buffers, and in them; where the list of entries begins in `sorted`.
  partFirst: u32,
  partRows: u32,
  listAt: u32,
}

// include: tileBindings

alias Left = subgroup_matrix_left<f32, 8, 8>;
alias Right = subgroup_matrix_right<f32, 8, 8>;
alias Result = subgroup_matrix_result<f32, 8, 8>;

// Rows of 32 floats, in vec4s, with a gap to avoid bank conflicts.
const STRIDE: u32 = 9u;
// [row][column]; at the end products [token][row].
var<workgroup> weightTile: array<vec4<f32>, 32u * STRIDE>;
// [token][column]
var<workgroup> xTile: array<vec4<f32>, 32u * STRIDE>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  prepareCodes(lane);
  let firstRow = place.x * 32u;
  // Tokens, or positions in the list.
  var firstToken = place.y * 32u;
  var count = params.tokens - firstToken;
  var base = 0u;
  var biasAt = params.firstColumn;
  if (EXPERTS) {
    if (place.y >= sorted[0]) {
      return;
    }
    biasAt = sorted[4u + 4u * place.y] * params.rows;
    base = biasAt - params.partFirst;
    if (biasAt < params.partFirst || base >= params.partRows) {
      return;
    }
    firstToken = params.listAt + sorted[5u + 4u * place.y];
    count = sorted[6u + 4u * place.y];
  }
  // Rows and tokens past the end repeat the last one and are not written.
  let row = base + min(firstRow + lane, params.rows - 1u);
  var token = firstToken + min(lane, count - 1u);
  if (EXPERTS) {
    token = sorted[token] / SHARED;
  }
  // each T 0..3
  // each R 0..3
  var sum{4 * T + R}: Result;
  // end
  // end
  for (var group = 0u; group < params.groups; group++) {
    workgroupBarrier();
    let low = halfScale(row, group, 0u);
    let high = halfScale(row, group, 1u);
    let lowShares = low.x * SHARES.xzxz;
    let highShares = high.x * SHARES.xzxz;
    // each W 0..3
    weightTile[lane * STRIDE + {W}u] = fma(byteFloats(fourCodes(row, group, 0u, {W}u), 0.0), lowShares, vec4<f32>(low.y));
    weightTile[lane * STRIDE + {W + 4}u] = fma(byteFloats(fourCodes(row, group, 1u, {W}u), 0.0), highShares, vec4<f32>(high.y));
    // end
    // each W 0..7
    xTile[lane * STRIDE + {W}u] = x[(token * params.groups + group) * 8u + {W}u];
    // end
    workgroupBarrier();
    // each K 0..3
    // each T 0..3
    let left{4 * K + T} = subgroupMatrixLoad<Left, row_major>(&xTile, {8 * T}u * STRIDE + {2 * K}u, STRIDE);
    // end
    // each R 0..3
    let right{4 * K + R} = subgroupMatrixLoad<Right, col_major>(&weightTile, {8 * R}u * STRIDE + {2 * K}u, STRIDE);
    // each T 0..3
    sum{4 * T + R} = subgroupMatrixMultiplyAccumulate(left{4 * K + T}, right{4 * K + R}, sum{4 * T + R});
    // end
    // end
    // end
  }
  workgroupBarrier();
  // each T 0..3
  // each R 0..3
  subgroupMatrixStore<row_major>(&weightTile, {8 * T}u * STRIDE + {2 * R}u, sum{4 * T + R}, STRIDE);
  // end
  // end
  workgroupBarrier();
  // Neighbouring lanes write neighbouring rows.
  if (firstRow + lane < params.rows) {
    var more = 0.0;
    if (HAS_BIAS) {
      more = bias[biasAt + firstRow + lane];
    }
    for (var t = 0u; t < min(32u, count); t++) {
      var outRow = firstToken + t;
      if (EXPERTS) {
        outRow = sorted[outRow];
      }
      out[outRow * params.outCols + params.firstColumn + firstRow + lane] = weightTile[t * STRIDE + lane / 4u][lane % 4u] + more;
    }
  }
}
