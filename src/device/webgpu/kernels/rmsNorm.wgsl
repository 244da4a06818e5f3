// rmsNorm, with the addition and the norm that precede it in a block: out = norm(x + norm(added) * addedWeight) * weight. The sum, the
// residual stream, is also written. Without HAS_ADD, x is normalized as it is. One workgroup per row; `out` has the form that the next
// operation reads. (RMSNorm, arXiv 1910.07467)
// lib: step, workgroupSum, q8, q8Threads, narrow, rowFactor
// <values>
const SUBGROUP: u32 = 1u;
const HAS_ADD: bool = false;
// `added` is the sum of N experts' products, weighted by `picks` (combine.wgsl); 0: it is one product.
const PICKS: u32 = 0u;
// `added` is the sum of N splits of a product.
const SPLITS: u32 = 1u;
// norm(added) * addedWeight instead of added: Gemma's post-norms.
const HAS_ADDED_NORM: bool = false;
const HAS_ADDED_WEIGHT: bool = false;
const HAS_WEIGHT: bool = true;
// false: the sum is the result.
const HAS_NORM: bool = true;
// 0: f32, 1: f16 (lib/rowFactor.wgsl), 2: q8. f16 and q8 only for whole rows.
const OUT_FORM: u32 = 0u;
// Also store the result in f32.
const HAS_PLAIN: bool = false;
const WORKGROUP: u32 = 256u;
// vec4s per thread, an even number.
const EACH: u32 = 8u;
// Rows are the step's outputs, not its tokens.
const OUTPUTS: bool = false;
// </values>

struct Params {
  // Length of a row, a multiple of 4 (f16: 8, q8: 32).
  cols: u32,
  epsilon: f32,
  addedEpsilon: f32,
  // The factor of the sum.
  factor: f32,
  // Vectors (heads) in each token's row; 1: the row is one vector.
  groups: u32,
  // f16: the 16-byte word of `out` where the rows' factors begin.
  factorsAt: u32,
  // vec4s from one split of `added` to the next.
  splitStride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> added: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> addedWeight: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> sum: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read_write> plain: array<vec4<f32>>;
// [rows][PICKS ids, PICKS weights]
@group(0) @binding(9) var<storage, read> picks: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * 65535u;
  if (row >= select(step.tokens, step.outputs, OUTPUTS) * params.groups) {
    return;
  }
  let count = params.cols / 4u;
  let at = row * count;
  // A thread keeps its vec4s from the first load to the result: one read and one write.
  var values: array<vec4<f32>, EACH>;
  var inverse = 0.0;
  if (SPLITS > 1u) {
    // All threads load four splits at once; after the last split, loads repeat it.
    for (var split = 0u; split < SPLITS; split += 4u) {
      for (var j = 0u; j < EACH; j++) {
        let here = row * count + min(place(lane, j), count - 1u);
        values[j] += fourSplits(split, here);
      }
    }
  }
  if (HAS_ADDED_NORM) {
    var squares = 0.0;
    for (var j = 0u; j < EACH; j++) {
      let i = place(lane, j);
      if (i < count) {
        values[j] = addedAt(row, count, i, values[j]);
        squares += dot(values[j], values[j]);
      }
    }
    inverse = inverseSqrt(workgroupSum(squares, lane) / f32(params.cols) + params.addedEpsilon);
  }
  var squares = 0.0;
  for (var j = 0u; j < EACH; j++) {
    let i = place(lane, j);
    if (i < count) {
      var value = x[at + i];
      if (HAS_ADDED_NORM) {
        var more = values[j] * inverse;
        if (HAS_ADDED_WEIGHT) {
          more *= addedWeight[i];
        }
        value += more;
      } else if (HAS_ADD) {
        value += addedAt(row, count, i, values[j]);
      }
      if (HAS_ADD) {
        value *= params.factor;
        if (HAS_NORM) {
          sum[at + i] = value;
        }
      }
      values[j] = value;
      squares += dot(value, value);
    }
  }
  if (HAS_NORM) {
    inverse = inverseSqrt(workgroupSum(squares, lane) / f32(params.cols) + params.epsilon);
    for (var j = 0u; j < EACH; j++) {
      values[j] *= inverse;
      if (HAS_WEIGHT) {
        values[j] *= weight[min(place(lane, j), count - 1u)];
      }
    }
  }

  if (HAS_PLAIN) {
    for (var j = 0u; j < EACH; j++) {
      if (place(lane, j) < count) {
        plain[at + place(lane, j)] = values[j];
      }
    }
  }
  if (OUT_FORM == 0u) {
    for (var j = 0u; j < EACH; j++) {
      if (place(lane, j) < count) {
        out[at + place(lane, j)] = bitcast<vec4<u32>>(values[j]);
      }
    }
  } else if (OUT_FORM == 1u) {
    var largest = vec4<f32>(0.0);
    for (var j = 0u; j < EACH; j++) {
      if (place(lane, j) < count) {
        largest = max(largest, abs(values[j]));
      }
    }
    let factor = rowFactor(max(max(largest.x, largest.y), max(largest.z, largest.w)), lane);
    let back = inverseFactor(factor);
    for (var j = 0u; j < EACH / 2u; j++) {
      if (place(lane, 2u * j) < count) {
        out[(at + place(lane, 2u * j)) / 2u] = halvesOf(values[2u * j] * back, values[2u * j + 1u] * back);
      }
    }
    if (lane == 0u) {
      out[params.factorsAt + row] = vec4<u32>(bitcast<u32>(factor), 0u, 0u, 0u);
    }
  } else {
    let groups = params.cols / 32u;
    for (var j = 0u; j < EACH; j++) {
      if (j * WORKGROUP < count) {
        let i = place(lane, j);
        let packed = q8OfThreads(select(vec4<f32>(), values[j], i < count), lane);
        if (i < count && lane % 8u == 0u) {
          let first = 3u * row * groups + i / 8u;
          out[first] = packed.low;
          out[first + groups] = packed.high;
          out[first + 2u * groups] = packed.scales;
        }
      }
    }
  }
}

// The vec4 of `added` at index i of a row of `count` vec4s. splits: its value if it is a sum of splits.
fn addedAt(row: u32, count: u32, i: u32, splits: vec4<f32>) -> vec4<f32> {
  if (SPLITS > 1u) {
    return splits;
  }
  if (PICKS == 0u) {
    return added[row * count + i];
  }
  var sum = vec4<f32>(0.0);
  for (var pick = 0u; pick < PICKS; pick++) {
    sum += picks[(row * 2u + 1u) * PICKS + pick] * added[(row * PICKS + pick) * count + i];
  }
  return sum;
}

fn fourSplits(split: u32, at: u32) -> vec4<f32> {
  let first = added[split * params.splitStride + at];
  var sum = first;
  // each S 1..3
  let next{S} = added[min(split + {S}u, SPLITS - 1u) * params.splitStride + at];
  // end
  // each S 1..3
  if (split + {S}u < SPLITS) { sum += next{S}; }
  // end
  return sum;
}

// The index in the row of a thread's j-th vec4: next to those of the other threads, in twos if two make a word of halves.
fn place(lane: u32, j: u32) -> u32 {
  if (OUT_FORM == 1u) {
    return (lane + j / 2u * WORKGROUP) * 2u + j % 2u;
  }
  return lane + j * WORKGROUP;
}
