// copyRows: copies rows of `cols` values from a wider or longer buffer, in the form that the next operation reads. Used for
// takeOutputs (the rows that reach the output), slice, scale, one part of a concatenated product, and changes of form.
// lib: step, batch, formed, q8, q8Threads, narrow, rowFactor
// <values>
// 0: f32, 1: f16 (lib/rowFactor.wgsl), 2: q8.
const OUT_FORM: u32 = 0u;
const OUTPUTS: bool = false;
// The copied rows are the rows of x that reach the output.
const TAKES: bool = false;
// How the columns of x are arranged (`placed` in lib/formed.wgsl).
const X_SIZE: u32 = 0u;
const X_STRIDE: u32 = 0u;
// Values times `factor`.
const SCALED: bool = false;
const WORKGROUP: u32 = 64u;
// </values>

struct Params {
  cols: u32,
  // In floats; a stride is the distance from one token's row to the next.
  offset: u32,
  stride: u32,
  factor: f32,
  // f16: the word of `out` where the rows' factors begin.
  factorsAt: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;
@group(0) @binding(4) var<storage, read> batch: array<u32>;

fn valueAt(row: u32, col: u32) -> f32 {
  var source = row;
  if (TAKES) {
    source = batch[step.outputsAt + row];
  }
  let value = x[params.offset + source * params.stride + placed(col, X_SIZE, X_STRIDE)];
  return select(value, value * params.factor, SCALED);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let rows = select(step.tokens, step.outputs, OUTPUTS);
  storeFormed(group.x + group.y * 65535u, lane, rows, params.cols, params.factorsAt);
}
