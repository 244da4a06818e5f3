// rmsNorm, with what stands around it in a block: out = norm(x + norm(added) * addedWeight) * weight. The sum is written
// too (the residual stream); without HAS_ADD x is normed as it is. One workgroup a row; `out` in the form that the
// next operation reads. (RMSNorm, arXiv 1910.07467)
// lib: step, workgroupSum, q8
// <values>
const SUBGROUP: u32 = 1u;
const HAS_ADD: bool = false;
// norm(added) * addedWeight instead of added: Gemma's post-norms.
const HAS_ADDED_NORM: bool = false;
const HAS_ADDED_WEIGHT: bool = false;
const HAS_WEIGHT: bool = true;
// 0: f32, 1: f16 (two a word), 2: q8.
const OUT_FORM: u32 = 0u;
// Rows are the step's outputs, not its tokens.
const OUTPUTS: bool = false;
// </values>

struct Params {
  // Length of a row, a multiple of 4 (f16: 8, q8: 32).
  cols: u32,
  epsilon: f32,
  addedEpsilon: f32,
  // Vectors in each token's row (heads), 1 for a whole row.
  groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> added: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> addedWeight: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> sum: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4<u32>>;

const THREADS: u32 = 256u;

fn rowValue(at: u32, i: u32, addedInverse: f32) -> vec4<f32> {
  var value = x[at + i];
  if (HAS_ADD) {
    var more = added[at + i];
    if (HAS_ADDED_NORM) {
      more *= addedInverse;
      if (HAS_ADDED_WEIGHT) {
        more *= addedWeight[i];
      }
    }
    value += more;
  }
  return value;
}

fn normed(at: u32, i: u32, addedInverse: f32, inverse: f32) -> vec4<f32> {
  var value = rowValue(at, i, addedInverse) * inverse;
  if (HAS_WEIGHT) {
    value *= weight[i];
  }
  return value;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * 65535u;
  if (row >= select(step.tokens, step.outputs, OUTPUTS) * params.groups) {
    return;
  }
  let count = params.cols / 4u;
  let at = row * count;
  var addedInverse = 0.0;
  if (HAS_ADDED_NORM) {
    var squares = 0.0;
    for (var i = lane; i < count; i += THREADS) {
      squares += dot(added[at + i], added[at + i]);
    }
    addedInverse = inverseSqrt(workgroupSum(squares, lane) / f32(params.cols) + params.addedEpsilon);
  }
  var squares = 0.0;
  for (var i = lane; i < count; i += THREADS) {
    let value = rowValue(at, i, addedInverse);
    if (HAS_ADD) {
      sum[at + i] = value;
    }
    squares += dot(value, value);
  }
  let inverse = inverseSqrt(workgroupSum(squares, lane) / f32(params.cols) + params.epsilon);

  if (OUT_FORM == 0u) {
    for (var i = lane; i < count; i += THREADS) {
      out[at + i] = bitcast<vec4<u32>>(normed(at, i, addedInverse, inverse));
    }
  } else if (OUT_FORM == 1u) {
    for (var i = lane; i < count / 2u; i += THREADS) {
      let a = normed(at, 2u * i, addedInverse, inverse);
      let b = normed(at, 2u * i + 1u, addedInverse, inverse);
      out[at / 2u + i] = vec4<u32>(
        pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
    }
  } else {
    let groups = params.cols / 32u;
    for (var g = lane; g < groups; g += THREADS) {
      var values: array<vec4<f32>, 8>;
      for (var i = 0u; i < 8u; i++) {
        values[i] = normed(at, 8u * g + i, addedInverse, inverse);
      }
      let packed = q8Quantize(values);
      let first = 3u * row * groups + g;
      out[first] = packed.low;
      out[first + groups] = packed.high;
      out[first + 2u * groups] = packed.scales;
    }
  }
}
