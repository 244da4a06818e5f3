// copyRows: rows of `cols` values out of a wider or longer buffer, in the form that the next operation reads. Serves
// takeOutputs (the rows that reach the output), one part of a concatenated product, and changes of form.
// lib: step, batch, q8, narrow, rowFactor, halfRow
// <values>
// 0: f32, 1: f16 (lib/rowFactor.wgsl), 2: q8.
const OUT_FORM: u32 = 0u;
const OUTPUTS: bool = false;
// Rows of the copy are the rows of x that reach the output.
const TAKES: bool = false;
const WORKGROUP: u32 = 64u;
// </values>

struct Params {
  cols: u32,
  // In floats; the stride is from one token's row to the next.
  offset: u32,
  stride: u32,
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
  return x[params.offset + source * params.stride + col];
}

fn store(at: u32, words: vec4<u32>) {
  for (var i = 0u; i < 4u; i++) {
    out[at + i] = words[i];
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let workgroup = group.x + group.y * 65535u;
  let unit = workgroup * WORKGROUP + lane;
  let rows = select(step.tokens, step.outputs, OUTPUTS);
  let cols = params.cols;
  if (OUT_FORM == 0u) {
    if (unit < rows * cols) {
      out[unit] = bitcast<u32>(valueAt(unit / cols, unit % cols));
    }
  } else if (OUT_FORM == 1u) {
    if (workgroup < rows) {
      storeHalfRow(workgroup, cols, params.factorsAt, lane);
    }
  } else {
    let groups = cols / 32u;
    if (unit < rows * groups) {
      let row = unit / groups;
      let g = unit % groups;
      var values: array<vec4<f32>, 8>;
      for (var i = 0u; i < 8u; i++) {
        let col = 32u * g + 4u * i;
        values[i] = vec4<f32>(valueAt(row, col), valueAt(row, col + 1u), valueAt(row, col + 2u), valueAt(row, col + 3u));
      }
      let packed = q8Quantize(values);
      let first = 3u * row * groups + g;
      store(4u * first, packed.low);
      store(4u * (first + groups), packed.high);
      store(4u * (first + 2u * groups), packed.scales);
    }
  }
}
