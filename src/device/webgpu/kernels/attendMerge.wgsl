// attendMerge: a head's spans of attendDecode into its output, f32 or q8. A workgroup does one head.
// lib: step, spans, q8
// <values>
const HEAD_DIM: u32 = 64u;
const TILE: u32 = 256u;
const MOST_SPANS: u32 = 128u;
// The next matmul's form: q8 for head sizes that are whole groups of 32.
const OUT_Q8: bool = false;
// </values>

const WORKGROUP: u32 = 128u;
const GROUPS: u32 = HEAD_DIM / 32u;

struct Params {
  window: u32,
  // Groups of 32 in a row of the output: the planes of q8.
  outGroups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [heads][MOST_SPANS] of HEAD_DIM sums, maximum, total.
@group(0) @binding(2) var<storage, read> partials: array<f32>;
// [heads][HEAD_DIM]
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

var<workgroup> factors: array<f32, MOST_SPANS>;
var<workgroup> merged: array<f32, HEAD_DIM>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x;
  let spans = spansOf(step.position, params.window, TILE, MOST_SPANS).count;
  let first = head * MOST_SPANS * (HEAD_DIM + 2u);
  for (var span = local; span < spans; span += WORKGROUP) {
    factors[span] = partials[first + span * (HEAD_DIM + 2u) + HEAD_DIM];
  }
  workgroupBarrier();
  var most = factors[0];
  for (var span = 1u; span < spans; span++) {
    most = max(most, factors[span]);
  }
  workgroupBarrier();
  for (var span = local; span < spans; span += WORKGROUP) {
    factors[span] = exp2(factors[span] - most);
  }
  workgroupBarrier();
  var total = 0.0;
  for (var span = 0u; span < spans; span++) {
    total += factors[span] * partials[first + span * (HEAD_DIM + 2u) + HEAD_DIM + 1u];
  }
  for (var d = local; d < HEAD_DIM; d += WORKGROUP) {
    var sum = 0.0;
    for (var span = 0u; span < spans; span++) {
      sum += factors[span] * partials[first + span * (HEAD_DIM + 2u) + d];
    }
    if (OUT_Q8) {
      merged[d] = sum / total;
    } else {
      out[head * HEAD_DIM + d] = bitcast<u32>(sum / total);
    }
  }
  if (OUT_Q8) {
    workgroupBarrier();
    for (var i = local; i < GROUPS; i += WORKGROUP) {
      var four: array<vec4<f32>, 8>;
      for (var j = 0u; j < 8u; j++) {
        let at = i * 32u + j * 4u;
        four[j] = vec4<f32>(merged[at], merged[at + 1u], merged[at + 2u], merged[at + 3u]);
      }
      let group = q8Quantize(four);
      for (var j = 0u; j < 4u; j++) {
        let at = (head * GROUPS + i) * 4u + j;
        out[at] = group.low[j];
        out[params.outGroups * 4u + at] = group.high[j];
        out[params.outGroups * 8u + at] = group.scales[j];
      }
    }
  }
}
