// softcap: out = cap * tanh(x / cap), one value per thread.
// lib: step
// <values>
const OUTPUTS: bool = false;
// </values>

struct Params {
  cols: u32,
  cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * 65535u) * 64u + lane;
  if (i < select(step.tokens, step.outputs, OUTPUTS) * params.cols) {
    // tanh overflows in some drivers for large arguments; beyond 10 it is 1 in float32 anyway.
    out[i] = params.cap * tanh(clamp(x[i] / params.cap, -10.0, 10.0));
  }
}
