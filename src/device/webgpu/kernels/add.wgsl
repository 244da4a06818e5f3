// add: out = a + b, one value per thread.
// lib: step
// <values>
const OUTPUTS: bool = false;
// </values>

struct Params {
  cols: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * 65535u) * 64u + lane;
  if (i < select(step.tokens, step.outputs, OUTPUTS) * params.cols) {
    out[i] = a[i] + b[i];
  }
}
