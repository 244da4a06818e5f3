// sumSplits: adds the splits of a product's columns, and the bias. One output value per thread.
// lib: step

// <values>
const SPLITS: u32 = 2u;
const OUTPUTS: bool = false;
const HAS_BIAS: bool = false;
// </values>

struct Params {
  cols: u32,
  // Tokens for which a split has room.
  tokens: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [SPLITS][tokens][cols]
@group(0) @binding(2) var<storage, read> splits: array<f32>;
// [cols]
@group(0) @binding(3) var<storage, read> bias: array<f32>;
// [tokens][cols]
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * 65535u) * 64u + lane;
  if (i >= select(step.tokens, step.outputs, OUTPUTS) * params.cols) {
    return;
  }
  var sum = 0.0;
  for (var split = 0u; split < SPLITS; split++) {
    sum += splits[split * params.tokens * params.cols + i];
  }
  if (HAS_BIAS) {
    sum += bias[i % params.cols];
  }
  out[i] = sum;
}
