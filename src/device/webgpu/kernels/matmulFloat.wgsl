// f32, f16 and bf16 weights times a few tokens of f32 activations, summed in f32. A team of TEAM invocations owns ROWS rows; a lane
// takes 16 bytes of each row at a time. Rows of weights are padded with zeros to whole groups of 32. With experts (expertMatmul), each
// entry of `picks` is multiplied with its expert's rows and is a row of out.
// lib: step, weight, teamSum, picks

// <values>
const CODES: u32 = 9u;
const SCALES: u32 = 0u;
const BIAS: f32 = 0.0;
const WORKGROUP: u32 = 128u;
const TEAM: u32 = 32u;
const SUBGROUP: u32 = 32u;
const ROWS: u32 = 2u;
// Tokens per workgroup.
const TOKENS: u32 = 1u;
const OUTPUTS: bool = false;
const HAS_BIAS: bool = false;
// cols is a multiple of 4, so that a token begins with a whole vec4.
const ALIGNED: bool = true;
// Number of experts, with `rows` rows each; TOKENS is then 1. 0: one matrix.
const EXPERTS: u32 = 0u;
const PICKS: u32 = 1u;
// All picks of a token read the same row of x.
const SHARED: bool = false;
// </values>

struct Params {
  rows: u32,
  cols: u32,
  groups: u32,
  outCols: u32,
  // The column of `out` for row 0.
  firstColumn: u32,
  // For experts: rows of all experts before this buffer, and in it.
  partFirst: u32,
  partRows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
// [outCols] f32, or of all experts
@group(0) @binding(4) var<storage, read> bias: array<f32>;
// [tokens][outCols]
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
// [tokens][PICKS ids, PICKS weights]
@group(0) @binding(6) var<storage, read> picks: array<f32>;

// vec4s per group of 32 weights, and values per vec4.
const CHUNKS: u32 = select(4u, 8u, CODES == F32);
const CHUNK: u32 = 32u / CHUNKS;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let lane = local % TEAM;
  let firstRow = ((place.x + place.y * 65535u) * (WORKGROUP / TEAM) + local / TEAM) * ROWS;
  let chunks = params.groups * CHUNKS;

  let firstToken = place.z * TOKENS;
  // Tokens past the end repeat the last one and are not written.
  let tokens = select(step.tokens, step.outputs, OUTPUTS) * PICKS;
  var base = 0u;
  var biasAt = params.firstColumn;
  if (EXPERTS > 0u) {
    biasAt = pickedExpert(place.z, PICKS, EXPERTS) * params.rows;
    base = biasAt - params.partFirst;
    if (biasAt < params.partFirst || base >= params.partRows) {
      return;
    }
  }

  // Rows past the end repeat the last one and are not written.
  var rows: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    rows[r] = base + min(firstRow + r, params.rows - 1u);
  }

  var acc: array<f32, ROWS * TOKENS>;
  for (var chunk = lane; chunk < chunks; chunk += TEAM) {
    var words: array<vec4<u32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
      words[r] = codes[rows[r] * chunks + chunk];
    }
    for (var t = 0u; t < TOKENS; t++) {
      let token = min(firstToken + t, tokens - 1u) / select(1u, PICKS, SHARED);
      let a = xAt(token, chunk * CHUNK);
      var b = vec4<f32>();
      if (CODES != F32) {
        b = xAt(token, chunk * CHUNK + 4u);
      }
      for (var r = 0u; r < ROWS; r++) {
        let w = words[r];
        if (CODES == F32) {
          acc[r * TOKENS + t] += dot(bitcast<vec4<f32>>(w), a);
        } else {
          acc[r * TOKENS + t] += dot(vec4<f32>(floatsOf(w.x), floatsOf(w.y)), a) + dot(vec4<f32>(floatsOf(w.z), floatsOf(w.w)), b);
        }
      }
    }
  }

  for (var t = 0u; t < TOKENS; t++) {
    for (var r = 0u; r < ROWS; r++) {
      var value = teamSum(acc[r * TOKENS + t], local);
      let row = firstRow + r;
      if (lane == 0u && row < params.rows && firstToken + t < tokens) {
        if (HAS_BIAS) {
          value += bias[biasAt + row];
        }
        out[(firstToken + t) * params.outCols + params.firstColumn + row] = value;
      }
    }
  }
}

/// Four activations from `col` (a multiple of 4) on; zeros past the end.
fn xAt(token: u32, col: u32) -> vec4<f32> {
  if (col >= params.cols) {
    return vec4<f32>();
  }
  let at = token * params.cols + col;
  if (ALIGNED) {
    return x[at / 4u];
  }
  var values = vec4<f32>();
  for (var i = 0u; i < min(4u, params.cols - col); i++) {
    values[i] = x[(at + i) / 4u][(at + i) % 4u];
  }
  return values;
}
