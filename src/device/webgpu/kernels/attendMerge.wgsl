// attendMerge: a head's spans of attendDecode into its output, f32 or q8. A workgroup does one head: rows of threads take
// spans in turn, four dims a thread.
// lib: step, spans, lanes, q8
// <values>
const HEAD_DIM: u32 = 64u;
const TILE: u32 = 256u;
const MOST_SPANS: u32 = 128u;
const SUBGROUP: u32 = 32u;
// The next matmul's form: q8 for head sizes that are whole groups of 32.
const OUT_Q8: bool = false;
// </values>

const WORKGROUP: u32 = 256u;
const LANES: u32 = 32u;
const GROUPS: u32 = HEAD_DIM / 32u;
const FOURS: u32 = HEAD_DIM / 4u;
const ROWS: u32 = WORKGROUP / FOURS;
// Spans that a thread loads before it adds them.
const BATCH: u32 = 4u;
const STRIDE: u32 = HEAD_DIM / 4u + 1u;

struct Params {
  window: u32,
  // Groups of 32 in a row of the output: the planes of q8.
  outGroups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [heads][MOST_SPANS] of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(2) var<storage, read> partials: array<vec4<f32>>;
// [heads][HEAD_DIM]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;

var<workgroup> factors: array<f32, MOST_SPANS>;
var<workgroup> rowValues: array<vec2<f32>, WORKGROUP / LANES>;
var<workgroup> merged: array<vec4<f32>, ROWS * FOURS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x;
  let spans = spansOf(step.position, params.window, TILE, MOST_SPANS).count;
  let first = head * MOST_SPANS * STRIDE;
  // There are at most as many spans as threads.
  var stats = vec2<f32>(-1e30, 0.0);
  if (local < spans) {
    stats = partials[first + local * STRIDE + FOURS].xy;
  }
  let rowMost = lanesMax(stats.x, local);
  let rowTotal = lanesSum(stats.y * exp2(stats.x - rowMost), local);
  if (local % LANES == 0u) {
    rowValues[local / LANES] = vec2<f32>(rowMost, rowTotal);
  }
  workgroupBarrier();
  var most = rowValues[0].x;
  for (var i = 1u; i < WORKGROUP / LANES; i++) {
    most = max(most, rowValues[i].x);
  }
  var total = 0.0;
  for (var i = 0u; i < WORKGROUP / LANES; i++) {
    total += rowValues[i].y * exp2(rowValues[i].x - most);
  }
  if (local < spans) {
    factors[local] = exp2(stats.x - most) / total;
  }
  workgroupBarrier();
  let row = local / FOURS;
  if (row < ROWS) {
    var sum = vec4<f32>(0.0);
    for (var begin = row; begin < spans; begin += ROWS * BATCH) {
      var loaded = array<vec4<f32>, BATCH>();
      for (var i = 0u; i < BATCH; i++) {
        loaded[i] = partials[first + min(begin + i * ROWS, spans - 1u) * STRIDE + local % FOURS];
      }
      for (var i = 0u; i < BATCH; i++) {
        if (begin + i * ROWS < spans) {
          sum += factors[begin + i * ROWS] * loaded[i];
        }
      }
    }
    merged[local] = sum;
  }
  workgroupBarrier();
  if (local < FOURS) {
    var sum = merged[local];
    for (var i = 1u; i < ROWS; i++) {
      sum += merged[i * FOURS + local];
    }
    if (OUT_Q8) {
      merged[local] = sum;
    } else {
      out[head * FOURS + local] = bitcast<vec4<u32>>(sum);
    }
  }
  if (OUT_Q8) {
    workgroupBarrier();
    if (local < GROUPS) {
      var fours = array<vec4<f32>, 8>();
      for (var j = 0u; j < 8u; j++) {
        fours[j] = merged[local * 8u + j];
      }
      let group = q8Quantize(fours);
      let at = head * GROUPS + local;
      out[at] = group.low;
      out[params.outGroups + at] = group.high;
      out[params.outGroups * 2u + at] = group.scales;
    }
  }
}
