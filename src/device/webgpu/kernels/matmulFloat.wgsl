// f32, f16 and bf16 weights times one to four tokens of f32 activations, summed in f32. A team of TEAM invocations owns ROWS
// rows; a lane takes 16 bytes of each row at a time. Rows of weights are padded with zeros to whole groups of 32.
// GATED: the weights are gate rows, then as many up rows; out = activation(gate) * up.
// lib: weight, activation, teamSum

// <values>
const CODES: u32 = 4u;
const SCALES: u32 = 0u;
const BIAS: f32 = 0.0;
const WORKGROUP: u32 = 128u;
const TEAM: u32 = 32u;
const SUBGROUP: u32 = 32u;
const ROWS: u32 = 2u;
const TOKENS: u32 = 1u;
const HAS_BIAS: bool = false;
const GATED: bool = false;
const ACTIVATION: u32 = 0u;
// cols is a multiple of 4, so that a token begins with a whole vec4.
const ALIGNED: bool = true;
// </values>

// Row r goes to column r + firstColumn of `out`, from `split` on to r + secondColumn (both modulo 2^32).
struct Params {
  rows: u32,
  cols: u32,
  groups: u32,
  outCols: u32,
  split: u32,
  firstColumn: u32,
  secondColumn: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
// [outCols] f32
@group(0) @binding(4) var<storage, read> bias: array<f32>;
// [tokens][outCols]
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

const TEAMS: u32 = WORKGROUP / TEAM;
const OUTS: u32 = select(ROWS, ROWS / 2u, GATED);
// vec4s of a group of 32 weights, and values of a vec4.
const CHUNKS: u32 = select(4u, 8u, CODES == F32);
const CHUNK: u32 = 32u / CHUNKS;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let lane = local % TEAM;
  let firstOut = (place.x + place.y * 65535u) * (TEAMS * OUTS) + local / TEAM * OUTS;
  let outs = select(params.rows, params.rows / 2u, GATED);
  let chunks = params.groups * CHUNKS;

  var rows: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    if (GATED) {
      rows[r] = min(firstOut + r / 2u, outs - 1u) + (r % 2u) * outs;
    } else {
      rows[r] = min(firstOut + r, outs - 1u);
    }
  }

  var acc: array<f32, ROWS * TOKENS>;
  for (var chunk = lane; chunk < chunks; chunk += TEAM) {
    var words: array<vec4<u32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
      words[r] = codes[rows[r] * chunks + chunk];
    }
    for (var t = 0u; t < TOKENS; t++) {
      let a = xAt(t, chunk * CHUNK);
      var b = vec4<f32>();
      if (CODES != F32) {
        b = xAt(t, chunk * CHUNK + 4u);
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
    for (var o = 0u; o < OUTS; o++) {
      var value = 0.0;
      if (GATED) {
        value = activation(ACTIVATION, teamSum(acc[2u * o * TOKENS + t], local)) * teamSum(acc[(2u * o + 1u) * TOKENS + t], local);
      } else {
        value = teamSum(acc[o * TOKENS + t], local);
      }
      let row = firstOut + o;
      let column = row + select(params.firstColumn, params.secondColumn, row >= params.split);
      if (lane == 0u && row < outs) {
        if (HAS_BIAS) {
          value += bias[column];
        }
        out[t * params.outCols + column] = value;
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
