// One level of a tree: each workgroup keeps the KEEP largest of 256 x perThread logits, sorted. The first level reads logits [vocab]
// f32, as bits, and also computes each chunk's share of the softmax's sum; later levels read what the previous level kept. -Infinity
// is not a candidate, NaN counts as the largest.
// lib: step, batch, top

// <values>
const KEEP: u32 = 64u;
const FIRST: bool = true;
// </values>

struct Params {
  // Elements of the input per row: logits, or kept pairs.
  count: u32,
  perThread: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [outputs, vocab]
@group(0) @binding(2) var<storage, read> logits: array<u32>;
// [rows, count] (key, id): the input of later levels.
@group(0) @binding(3) var<storage, read> before: array<vec2<u32>>;
// [rows, chunks, KEEP]; key 0: none.
@group(0) @binding(4) var<storage, read_write> kept: array<vec2<u32>>;
// [rows, chunks] (largest logit, sum of exp(logit - largest)): written by the first level with KEEP 256.
@group(0) @binding(5) var<storage, read_write> sums: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

var<workgroup> partial: array<f32, 256>;
// Where this row's input begins.
var<private> input: u32;

fn elementAt(index: u32) -> vec2<u32> {
  if (index >= params.count) {
    return vec2<u32>(0u, 0xffffffffu);
  }
  if (FIRST) {
    return vec2<u32>(keyOf(logits[input + index]), index);
  }
  return before[input + index];
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  input = group.y * params.count;
  if (FIRST) {
    input = batch[step.sampledAt + 8u * group.y] * params.count;
  }
  let chunk = group.y * groups.x + group.x;
  let first = group.x * 256u * params.perThread;
  let count = keepTop(first, params.perThread, lane);
  if (lane < KEEP) {
    kept[chunk * KEEP + lane] = select(vec2<u32>(0u, 0xffffffffu), pairs[lane], lane < count);
  }
  if (FIRST && KEEP == 256u) {
    let largest = bitcast<f32>(bitsOf(workgroupUniformLoad(&pairs[0]).x));
    var sum = 0.0;
    for (var i = 0u; i < params.perThread; i++) {
      let key = elementAt(first + i * 256u + lane).x;
      if (key > 0u) {
        sum += exp(max(bitcast<f32>(bitsOf(key)) - largest, -200.0));
      }
    }
    partial[lane] = sum;
    for (var half = 128u; half > 0u; half /= 2u) {
      workgroupBarrier();
      if (lane < half) {
        partial[lane] += partial[lane + half];
      }
    }
    if (lane == 0u) {
      // A chunk without candidates has a sum of 0, relative to the smallest logit.
      sums[chunk] = select(vec2<f32>(-3.4e38, 0.0), vec2<f32>(largest, partial[0]), count > 0u);
    }
  }
}
