// combine: out [rows, cols] = sum over the picks of a row, in order, of weight * x [rows, PICKS * cols].
// lib: step, formed, q8, q8Threads, narrow, rowFactor
// <values>
const PICKS: u32 = 2u;
// 0: f32, 1: f16 (lib/rowFactor.wgsl), 2: q8.
const OUT_FORM: u32 = 0u;
const OUTPUTS: bool = false;
const WORKGROUP: u32 = 64u;
// </values>

struct Params {
  cols: u32,
  // f16: the word of `out` where the rows' factors begin.
  factorsAt: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>;
// [rows][PICKS ids, PICKS weights]
@group(0) @binding(3) var<storage, read> picks: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<u32>;

fn valueAt(row: u32, col: u32) -> f32 {
  var sum = 0.0;
  for (var pick = 0u; pick < PICKS; pick++) {
    sum += picks[(row * 2u + 1u) * PICKS + pick] * x[(row * PICKS + pick) * params.cols + col];
  }
  return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let rows = select(step.tokens, step.outputs, OUTPUTS);
  storeFormed(group.x + group.y * 65535u, lane, rows, params.cols, params.factorsAt);
}
