// route: softmax over a row's experts, and the PICKS largest, largest first; ties: lowest id first. One workgroup per row. Each
// expert's rank is the number of experts before it, so no rank occurs twice and none is left out.
// lib: step, workgroupSum
// <values>
const SUBGROUP: u32 = 1u;
const EXPERTS: u32 = 8u;
const PICKS: u32 = 2u;
// Weights of the picks are divided by their sum.
const NORMALISE: bool = false;
const HAS_WEIGHTS: bool = false;
const OUTPUTS: bool = false;
// </values>

@group(0) @binding(1) var<uniform> step: Step;
// [rows][EXPERTS]
@group(0) @binding(2) var<storage, read> logits: array<f32>;
// [EXPERTS]: factors on the weights.
@group(0) @binding(3) var<storage, read> weights: array<f32>;
// [rows][PICKS ids, PICKS weights] f32
@group(0) @binding(4) var<storage, read_write> out: array<u32>;

// Logits as integers in the same order, NaN at the ends.
var<workgroup> keys: array<u32, EXPERTS>;
var<workgroup> places: array<u32, PICKS>;

const NOT_A_NUMBER: u32 = 0x7fc00000u;

const WORKGROUP: u32 = 256u;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.x + group.y * 65535u;
  if (row >= select(step.tokens, step.outputs, OUTPUTS)) {
    return;
  }
  var strange = 0.0;
  for (var e = lane; e < EXPERTS; e += WORKGROUP) {
    // -0 counts as 0.
    var bits = bitcast<u32>(logits[row * EXPERTS + e]);
    bits = select(bits, 0u, bits == 0x80000000u);
    // NaN, and +infinity, whose weight would be infinity / infinity.
    if ((bits & 0x7fffffffu) >= 0x7f800000u && bits != 0xff800000u) {
      strange = 1.0;
    }
    keys[e] = select(bits ^ 0x80000000u, ~bits, bits >= 0x80000000u);
  }
  // This has barriers, after which the keys are complete.
  let isStrange = workgroupSum(strange, lane) > 0.0;
  for (var e = lane; e < EXPERTS; e += WORKGROUP) {
    let key = keys[e];
    var place = 0u;
    for (var other = 0u; other < EXPERTS; other++) {
      place += u32(keys[other] > key || (keys[other] == key && other < e));
    }
    if (place < PICKS) {
      places[place] = e;
    }
  }
  workgroupBarrier();
  let largest = logits[row * EXPERTS + places[0]];
  var sum = 0.0;
  if (NORMALISE) {
    // With NORMALISE, the sum over all experts would cancel out, so only picks are added.
    if (lane < PICKS) {
      sum = exp(logits[row * EXPERTS + places[lane]] - largest);
    }
  } else {
    for (var e = lane; e < EXPERTS; e += WORKGROUP) {
      sum += exp(logits[row * EXPERTS + e] - largest);
    }
  }
  let total = workgroupSum(sum, lane);
  if (lane < PICKS) {
    let id = places[lane];
    var weight = exp(logits[row * EXPERTS + id] - largest) / total;
    if (HAS_WEIGHTS) {
      weight *= weights[id];
    }
    let at = row * 2u * PICKS + lane;
    out[at] = bitcast<u32>(f32(id));
    out[at + PICKS] = select(bitcast<u32>(weight), NOT_A_NUMBER, isStrange);
  }
}
