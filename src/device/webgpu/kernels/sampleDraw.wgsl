// The end of the tree, one workgroup per row: takes the KEEP largest of all logits, cuts them by top-k, top-p and min-p, and draws
// one, as engine/sample.ts does: cuts apply to the distribution without temperature, and the uniform number selects from ids in the
// order of their likelihood. The id is stored where the text's next row reads it. The result is NOT_PROVEN if top-k is off and the cut
// may be beyond the KEEP largest, if a logit is NaN or infinite, or if all are -Infinity; the host then reads the logits, and the
// stored id is any valid one.
// lib: step, batch, top

// <values>
const KEEP: u32 = 64u;
// </values>

const NOT_PROVEN = 0xffffffffu;

struct Params {
  // Pairs of the last level per row.
  count: u32,
  perThread: u32,
  // Chunks of the first level per row.
  chunks: u32,
  texts: u32,
}

// A row's options, in the order in which sample.ts writes them after the row of logits and the text.
struct Choice {
  // 0: the largest logit is chosen.
  temperature: f32,
  topP: f32,
  minP: f32,
  // 0: off.
  topK: u32,
  seed: u32,
  // The index of the seed's uniform number to use.
  draw: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> batch: array<u32>;
@group(0) @binding(3) var<storage, read> before: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> sums: array<vec2<f32>>;
// [rows, 256] (bits of the logit, id), largest first; those beyond the candidates have -Infinity.
@group(0) @binding(5) var<storage, read_write> candidates: array<vec2<u32>>;
// [texts] ids, and one more for rows without a text. Then [rows]: the id, or NOT_PROVEN.
@group(0) @binding(6) var<storage, read_write> chosen: array<u32>;

var<workgroup> through: array<f32, 256>;
var<workgroup> smallest: atomic<u32>;
var<workgroup> smallestFound: u32;
var<private> sampled: u32;

fn elementAt(index: u32) -> vec2<u32> {
  if (index >= params.count) {
    return vec2<u32>(0u, 0xffffffffu);
  }
  return before[sampled * params.count + index];
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  sampled = group.x;
  // Not private: barriers depend on it, and a compiler cannot know that a private value is uniform.
  let at = step.sampledAt + 8u * group.x;
  let choice = Choice(
    bitcast<f32>(batch[at + 2u]), bitcast<f32>(batch[at + 3u]), bitcast<f32>(batch[at + 4u]),
    batch[at + 5u], batch[at + 6u], batch[at + 7u]);
  let count = keepTop(0u, params.perThread, lane);
  let mine = pairs[lane];
  if (lane < KEEP) {
    candidates[sampled * 256u + lane] =
      select(vec2<u32>(0xff800000u, 0xffffffffu), vec2<u32>(bitsOf(mine.x), mine.y), lane < count);
  }
  let best = workgroupUniformLoad(&pairs[0]);
  // Without a finite largest logit there is no distribution to draw from.
  let isNumber = count > 0u && best.x < INFINITY_KEY;
  if (!isNumber || choice.temperature == 0.0) {
    if (lane == 0u) {
      write(select(0u, best.y, isNumber), isNumber);
    }
    return;
  }

  let most = select(min(count, choice.topK), count, choice.topK == 0u);
  let largest = bitcast<f32>(bitsOf(best.x));
  let below = select(0.0, bitcast<f32>(bitsOf(mine.x)) - largest, lane < most);
  let weight = select(0.0, exp(max(below, -200.0)), lane < most);
  scan(weight, lane);
  var total = workgroupUniformLoad(&through[most - 1u]);
  let sumBefore = select(0.0, through[max(lane, 1u) - 1u], lane > 0u);
  if (choice.topK == 0u) {
    total = sumOfAll(largest, lane);
  }
  // The first weight that is cut, and all after it, are left out.
  let isCut = lane >= most || (lane > 0u && (sumBefore >= choice.topP * total || weight < choice.minP));
  let left = firstLane(isCut, min(most, 256u), lane);
  let isProven = choice.topK != 0u || left < count || count < KEEP;

  // Compared before the division, which would overflow for temperatures near 0.
  let isTiny = below < -100.0 * choice.temperature;
  let tempered = select(exp(select(below / choice.temperature, 0.0, isTiny)), 0.0, isTiny || lane >= left);
  scan(tempered, lane);
  let mark = uniformNumber(choice.seed, choice.draw) * workgroupUniformLoad(&through[left - 1u]);
  let drawn = firstLane(lane < left && mark < through[lane], left - 1u, lane);
  if (lane == 0u) {
    write(pairs[drawn].y, isProven);
  }
}

fn write(id: u32, isProven: bool) {
  chosen[batch[step.sampledAt + 8u * sampled + 1u]] = id;
  chosen[params.texts + 1u + sampled] = select(NOT_PROVEN, id, isProven);
}

// through[i] = the sum of the first i + 1 lanes' values.
fn scan(value: f32, lane: u32) {
  workgroupBarrier();
  through[lane] = value;
  for (var reach = 1u; reach < 256u; reach *= 2u) {
    workgroupBarrier();
    let more = select(0.0, through[max(lane, reach) - reach], lane >= reach);
    workgroupBarrier();
    through[lane] += more;
  }
  workgroupBarrier();
}

// The softmax's sum over all words, relative to the largest logit.
fn sumOfAll(largest: f32, lane: u32) -> f32 {
  var sum = 0.0;
  for (var i = lane; i < params.chunks; i += 256u) {
    let two = sums[sampled * params.chunks + i];
    sum += two.y * exp(max(two.x - largest, -200.0));
  }
  scan(sum, lane);
  return workgroupUniformLoad(&through[255]);
}

// The first lane for which `holds` is true, or `none`.
fn firstLane(holds: bool, none: u32, lane: u32) -> u32 {
  if (lane == 0u) {
    atomicStore(&smallest, none);
  }
  workgroupBarrier();
  if (holds) {
    atomicMin(&smallest, lane);
  }
  workgroupBarrier();
  if (lane == 0u) {
    smallestFound = atomicLoad(&smallest);
  }
  return workgroupUniformLoad(&smallestFound);
}

// A number in [0, 1), by the same generator as device/uniform.ts. An f32 holds the upper 24 of its 32 bits.
fn uniformNumber(seed: u32, draw: u32) -> f32 {
  var z = seed + 0x9e3779b9u * (draw + 1u);
  z = (z ^ (z >> 16u)) * 0x85ebca6bu;
  z = (z ^ (z >> 13u)) * 0xc2b2ae35u;
  z = z ^ (z >> 16u);
  return f32(z >> 8u) / 16777216.0;
}
