// rope: rotates the pairs (i, i + pairs) of each head by the step's angles; dims from 2 * pairs on stay. One output value per thread.
// angles [tokens, 2, pairs]: cosines, then sines, of each position (the host computes them in float64).
// lib: step

struct Params {
  heads: u32,
  headDim: u32,
  pairs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> angles: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * 65535u) * 64u + lane;
  let cols = params.heads * params.headDim;
  if (i >= step.tokens * cols) {
    return;
  }
  let pairs = params.pairs;
  let dim = i % params.headDim;
  if (dim >= 2u * pairs) {
    out[i] = x[i];
    return;
  }
  let angle = (i / cols) * 2u * pairs + dim % pairs;
  // The other dim of the pair, with the sign of its sine.
  var other = 0.0;
  if (dim < pairs) {
    other = -x[i + pairs];
  } else {
    other = x[i - pairs];
  }
  out[i] = x[i] * angles[angle] + other * angles[angle + pairs];
}
