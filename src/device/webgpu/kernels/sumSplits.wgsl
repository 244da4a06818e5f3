// sumSplits: adds the splits of a product's columns, and the bias. One item of the output per thread.
// lib: step

// <values>
const SPLITS: u32 = 2u;
const OUTPUTS: bool = false;
const HAS_BIAS: bool = false;
// Four values if all numbers of columns are multiples of four, otherwise one.
alias Item = f32;
// </values>

struct Params {
  // Columns of the splits, in items, as all that follows but tokens.
  cols: u32,
  // Tokens for which a split has room.
  tokens: u32,
  outCols: u32,
  // The column of `out` for a split's first.
  firstColumn: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [SPLITS][tokens][cols]
@group(0) @binding(2) var<storage, read> splits: array<Item>;
// [outCols]
@group(0) @binding(3) var<storage, read> bias: array<Item>;
// [tokens][outCols]
@group(0) @binding(4) var<storage, read_write> out: array<Item>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * 65535u) * 64u + lane;
  if (i >= select(step.tokens, step.outputs, OUTPUTS) * params.cols) {
    return;
  }
  var sum = Item();
  for (var split = 0u; split < SPLITS; split++) {
    sum += splits[split * params.tokens * params.cols + i];
  }
  let column = params.firstColumn + i % params.cols;
  if (HAS_BIAS) {
    sum += bias[column];
  }
  out[i / params.cols * params.outCols + column] = sum;
}
