// gate: out = activation(gate) * up (lib/activation.wgsl), in the form that the next operation reads. gate and up may be columns
// of one wider buffer, so they have offsets and strides.
// lib: step, activation, formed, q8, q8Threads, narrow, rowFactor
// <values>
const ACTIVATION: u32 = 0u;
// Columns of `up` for each value of `gate`.
const EACH: u32 = 1u;
// How their columns are arranged (`placed` in lib/formed.wgsl).
const GATE_SIZE: u32 = 0u;
const GATE_STRIDE: u32 = 0u;
const UP_SIZE: u32 = 0u;
const UP_STRIDE: u32 = 0u;
// Each is the sum of N splits of a product.
const GATE_SPLITS: u32 = 1u;
const UP_SPLITS: u32 = 1u;
// 0: f32, 1: f16 (lib/rowFactor.wgsl), 2: q8.
const OUT_FORM: u32 = 0u;
const OUTPUTS: bool = false;
const WORKGROUP: u32 = 64u;
// </values>

struct Params {
  cols: u32,
  // In floats; a stride is the distance from one token's row to the next.
  gateOffset: u32,
  gateStride: u32,
  upOffset: u32,
  upStride: u32,
  gateSplitStride: u32,
  upSplitStride: u32,
  // f16: the word of `out` where the rows' factors begin.
  factorsAt: u32,
  limit: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> gate: array<f32>;
@group(0) @binding(3) var<storage, read> up: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<u32>;

fn valueAt(row: u32, col: u32) -> f32 {
  let gateAt = params.gateOffset + row * params.gateStride + placed(col / EACH, GATE_SIZE, GATE_STRIDE);
  let upAt = params.upOffset + row * params.upStride + placed(col, UP_SIZE, UP_STRIDE);
  var g = gate[gateAt];
  for (var split = 1u; split < GATE_SPLITS; split++) {
    g += gate[gateAt + split * params.gateSplitStride];
  }
  var u = up[upAt];
  for (var split = 1u; split < UP_SPLITS; split++) {
    u += up[upAt + split * params.upSplitStride];
  }
  return gated(ACTIVATION, g, u, params.limit);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let rows = select(step.tokens, step.outputs, OUTPUTS);
  storeFormed(group.x + group.y * 65535u, lane, rows, params.cols, params.factorsAt);
}
