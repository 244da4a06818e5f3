// Quantized weights times many tokens of f32 activations by 8x8x8 subgroup matrices of float32, which Metal has. A workgroup is one
// subgroup of 32 and owns 32 rows x 32 tokens, in 16 matrices; of each 32 columns a lane expands a row of weights and brings a
// token into workgroup memory. What a lane holds has a name each, since indexed it would live in memory.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: weight, codes, fourWeights

// <values>
const CODES: u32 = 0u;
const SCALES: u32 = 0u;
const BIAS: f32 = 8.0;
const CODES_0: u32 = 0u;
const CODES_1: u32 = 0u;
const CODES_2: u32 = 0u;
const CODES_3: u32 = 0u;
const HAS_BIAS: bool = false;
// </values>

struct Params {
  rows: u32,
  groups: u32,
  // Tokens that x and out have room for.
  tokens: u32,
  outCols: u32,
  // Of `out`, where row 0 goes.
  firstColumn: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
// [tokens][groups * 32]
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
// [outCols]
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// [tokens][outCols]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

alias Left = subgroup_matrix_left<f32, 8, 8>;
alias Right = subgroup_matrix_right<f32, 8, 8>;
alias Result = subgroup_matrix_result<f32, 8, 8>;

// Rows of 32 floats, in vec4s, with a gap against bank conflicts.
const STRIDE: u32 = 9u;
// [row][column]; at last products [token][row].
var<workgroup> weightTile: array<vec4<f32>, 32u * STRIDE>;
// [token][column]
var<workgroup> xTile: array<vec4<f32>, 32u * STRIDE>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  prepareCodes(lane);
  let firstRow = place.x * 32u;
  let firstToken = place.y * 32u;
  // Rows and tokens past the end repeat the last one and are not written.
  let row = min(firstRow + lane, params.rows - 1u);
  let token = min(firstToken + lane, params.tokens - 1u);
  // each T 0..3
  // each R 0..3
  var sum{4 * T + R}: Result;
  // end
  // end
  for (var group = 0u; group < params.groups; group++) {
    workgroupBarrier();
    let low = halfScale(row, group, 0u);
    let high = halfScale(row, group, 1u);
    // each W 0..3
    weightTile[lane * STRIDE + {W}u] = fourWeights(row, group, 0u, {W}u, low);
    weightTile[lane * STRIDE + {W + 4}u] = fourWeights(row, group, 1u, {W}u, high);
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
    let column = params.firstColumn + firstRow + lane;
    var more = 0.0;
    if (HAS_BIAS) {
      more = bias[column];
    }
    for (var t = 0u; t < min(32u, params.tokens - firstToken); t++) {
      out[(firstToken + t) * params.outCols + column] = weightTile[t * STRIDE + lane / 4u][lane % 4u] + more;
    }
  }
}
