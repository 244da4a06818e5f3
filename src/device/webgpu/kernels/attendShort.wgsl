// attendShort: one token's queries attend to a short int4 cache, in one dispatch. If the context is short, spans, partial sums and
// their merge cost more than attention itself, and so does code that runs once (lab/LOG.md, 2026-11-28). A workgroup computes 32 dims
// of one head's output for one row; all workgroups of a head compute its scores again. It handles 256 positions at a time: each thread
// scores one, int8 query against codes as in attendDecode; then four threads share a dim, and each takes the tokens of one word in two
// blocks. Data of the next positions is loaded as soon as its registers are free. Registers have names, not indices, as in
// attendDecodeMatrix.
// lib: step, batch, spans, lanes, dots, q8, softcap, sinks
// <values>
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 64u;
const KEY_WORDS: u32 = 80u;
const KEY_SCALES_AT: u32 = 64u;
const VALUE_WORDS: u32 = 80u;
const VALUE_SCALES_AT: u32 = 64u;
const SUBGROUP: u32 = 32u;
const HAS_SOFTCAP: bool = false;
const HAS_SINKS: bool = false;
// The output is q8; otherwise f32.
const AS_Q8: bool = false;
// </values>

const PART: u32 = ALL;
const KEPT: u32 = 0u;
const WORKGROUP: u32 = 256u;
const LANES: u32 = 32u;
const ROWS: u32 = WORKGROUP / LANES;
// Groups of 32 dims: 4 at most.
const GROUPS: u32 = HEAD_DIM / 32u;
const MASKED: f32 = -1e30;
// A dot product with this sums four codes.
const ONES: u32 = 0x01010101u;

struct Params {
  heads: u32,
  kvHeads: u32,
  // Where the pool's tables begin in `batch`.
  table: u32,
  // 0: all positions.
  window: u32,
  // Groups of 32 in a row of the output: the planes of q8.
  outGroups: u32,
  // As in attendDecode.
  scale: f32,
  cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [tokens][heads][HEAD_DIM]
@group(0) @binding(2) var<storage, read> queries: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
// Words of 4 bytes.
@group(0) @binding(4) var<storage, read> values: array<u32>;
// [tokens][heads][HEAD_DIM]
@group(0) @binding(5) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;
// [heads]
@group(0) @binding(7) var<storage, read> sinks: array<f32>;

// For each dim, as int8 in a word; then [group]: dims 0..15, dims 16..31.
var<workgroup> queryBytes: array<u32, HEAD_DIM>;
var<workgroup> queryCodes: array<vec4<u32>, 2u * GROUPS>;
// [group]: scale; the correction for centred keys' codes; sum.
var<workgroup> queryScales: array<vec3<f32>, GROUPS>;
var<workgroup> rowMost: array<f32, ROWS>;
var<workgroup> rowTotals: array<vec2<f32>, ROWS>;
// For each token, times the scale of its values; at the end one sum per thread.
var<workgroup> weights: array<f32, WORKGROUP>;
var<workgroup> sums: array<f32, 32>;
var<workgroup> outCodes: array<u32, 8>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x / GROUPS;
  let dimGroup = workgroup.x % GROUPS;
  let kvHead = head / GROUP;
  let single = spannedOf(workgroup.y);
  let last = single.lastPosition;
  let table = params.table + single.table;
  let spans = spansOf(last, last, single.packed, ALL, params.window, 32u, 1u);
  let lastBlock = last / 32u;
  // The thread's share of values: one word of the codes of one dim, in every other block.
  let word = local % 4u;
  let dim = dimGroup * 32u + local / 4u % 32u;
  let part = local / 128u;

  var queryDim = 0.0;
  if (local < HEAD_DIM) {
    queryDim = queries[(single.row * params.heads + head) * HEAD_DIM + local] * params.scale;
  }
  let token = min(spans.first + local, last);
  let keyBlock = blockOf(table, token / 32u, params.kvHeads, kvHead);
  // each G 0..3
  var key{G}: vec4<u32>;
  var range{G}: u32;
  // end
  // each G 0..3 if GROUPS > G
  key{G} = keys[keyBlock * KEY_WORDS + {32 * G}u + token % 32u];
  range{G} = keys[keyBlock * KEY_WORDS + KEY_SCALES_AT + {8 * G}u + token % 32u / 4u][token % 4u];
  // end
  var valueRange = values[rangeAt(keyBlock, dimGroup, token)];
  // each B 0..3
  let block{B} = blockOf(table, min(spans.first / 32u + part + {2 * B}u, lastBlock), params.kvHeads, kvHead);
  var value{B} = values[(block{B} * VALUE_WORDS + dim) * 4u + word];
  // end

  // The query as int8 with one scale for each 32 dims; each row of threads does one group.
  let largest = lanesMax(abs(queryDim), local);
  let rounded = round(queryDim * select(0.0, 127.0 / largest, largest > 1e-30));
  let exact = lanesSum(queryDim, local);
  let coded = lanesSum(rounded, local);
  if (local < HEAD_DIM) {
    queryBytes[local] = u32(i32(rounded)) & 255u;
    if (local % 32u == 0u) {
      let unit = largest / 127.0;
      queryScales[local / 32u] = vec3<f32>(unit, 7.5 * (exact - unit * coded), exact);
    }
  }
  workgroupBarrier();
  if (local < 2u * GROUPS) {
    let at = local * 16u;
    queryCodes[local] = vec4<u32>(wordOf(at), wordOf(at + 4u), wordOf(at + 8u), wordOf(at + 12u));
  }
  workgroupBarrier();

  var most = MASKED;
  var total = 0.0;
  // The sum of values' zeros.
  var middle = 0.0;
  var sum = 0.0;
  for (var first = spans.first; first < spans.end; first += WORKGROUP) {
    let position = first + local;
    let visible = position >= spans.oldest && position <= last;
    let nextToken = min(position + WORKGROUP, last);
    let nextBlock = blockOf(table, nextToken / 32u, params.kvHeads, kvHead);
    var score = 0.0;
    // each G 0..3 if GROUPS > G
    score += scoreOf(key{G}, range{G}, {G}u);
    key{G} = keys[nextBlock * KEY_WORDS + {32 * G}u + nextToken % 32u];
    range{G} = keys[nextBlock * KEY_WORDS + KEY_SCALES_AT + {8 * G}u + nextToken % 32u / 4u][nextToken % 4u];
    // end
    if (HAS_SOFTCAP) {
      score = params.cap * boundedTanh(score);
    }
    // Online softmax.
    let rowsMost = lanesMax(select(MASKED, score, visible), local);
    if (local % LANES == 0u) {
      rowMost[local / LANES] = rowsMost;
    }
    // After this barrier, no thread reads the last tokens' weights.
    workgroupBarrier();
    var next = most;
    for (var i = 0u; i < ROWS; i++) {
      next = max(next, rowMost[i]);
    }
    let rescale = exp2(most - next);
    most = next;
    let weight = exp2(score - next);
    let scaleZero = unpack2x16float(valueRange);
    valueRange = values[rangeAt(nextBlock, dimGroup, nextToken)];
    // Slots that the query does not see may hold anything, NaN too.
    total = total * rescale + select(0.0, weight, visible);
    middle = middle * rescale + select(0.0, weight * scaleZero.y, visible);
    weights[local] = select(0.0, weight * scaleZero.x, visible);
    workgroupBarrier();
    sum *= rescale;
    // each B 0..3
    sum += weighed(value{B}, (part + {2 * B}u) * 32u + word * 4u);
    let block{B} = blockOf(table, min((first + WORKGROUP) / 32u + part + {2 * B}u, lastBlock), params.kvHeads, kvHead);
    value{B} = values[(block{B} * VALUE_WORDS + dim) * 4u + word];
    // end
  }

  let rowsTotal = vec2<f32>(lanesSum(total, local), lanesSum(middle, local));
  if (local % LANES == 0u) {
    rowTotals[local / LANES] = rowsTotal;
  }
  workgroupBarrier();
  weights[local] = sum;
  workgroupBarrier();
  if (local < 32u) {
    var all = vec2<f32>();
    for (var i = 0u; i < ROWS; i++) {
      all += rowTotals[i];
    }
    if (HAS_SINKS) {
      all.x += sinkWeight(sinks[head], most);
    }
    var own = all.y;
    for (var i = 0u; i < 4u; i++) {
      own += weights[local * 4u + i] + weights[128u + local * 4u + i];
    }
    sums[local] = own / all.x;
  }
  workgroupBarrier();
  let four = vec4<f32>(sums[local % 8u * 4u], sums[local % 8u * 4u + 1u], sums[local % 8u * 4u + 2u], sums[local % 8u * 4u + 3u]);
  if (!AS_Q8) {
    if (local < 8u) {
      out[((single.row * params.heads + head) * GROUPS + dimGroup) * 8u + local] = bitcast<vec4<u32>>(four);
    }
    return;
  }
  // q8 as in lib/q8.wgsl.
  var largestBits = vec4<u32>(0u);
  for (var i = 0u; i < 8u; i++) {
    largestBits = max(largestBits, q8Magnitudes(vec4<f32>(sums[i * 4u], sums[i * 4u + 1u], sums[i * 4u + 2u], sums[i * 4u + 3u])));
  }
  let mostSum = q8Most(largestBits);
  if (local < 8u) {
    outCodes[local] = pack4xI8(vec4<i32>(round(four * q8Inverse(mostSum))));
  }
  workgroupBarrier();
  if (local == 0u) {
    let low = vec4<u32>(outCodes[0], outCodes[1], outCodes[2], outCodes[3]);
    let high = vec4<u32>(outCodes[4], outCodes[5], outCodes[6], outCodes[7]);
    let at = single.row * 3u * params.outGroups + workgroup.x;
    out[at] = low;
    out[params.outGroups + at] = high;
    out[params.outGroups * 2u + at] = q8Scales(mostSum / 127.0, low, high);
  }
}

// The word of 4 bytes that holds the scale and zero of a token's values.
fn rangeAt(block: u32, group: u32, token: u32) -> u32 {
  return (block * VALUE_WORDS + VALUE_SCALES_AT) * 4u + group * 32u + token % 32u;
}

fn wordOf(dim: u32) -> u32 {
  return queryBytes[dim] | (queryBytes[dim + 1u] << 8u) | (queryBytes[dim + 2u] << 16u) | (queryBytes[dim + 3u] << 24u);
}

// The product of a token's key with the query, for one group of dims.
fn scoreOf(codes: vec4<u32>, range: u32, group: u32) -> f32 {
  let scales = queryScales[group];
  let scaleZero = unpack2x16float(range);
  let dots = dotSigned(queryCodes[2u * group], codes & vec4<u32>(0x0f0f0f0fu))
    + dotSigned(queryCodes[2u * group + 1u], (codes >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu));
  return scaleZero.x * (scales.x * f32(dots) + scales.y) + scaleZero.y * scales.z;
}

// Eight codes of a dim times their tokens' weights: four tokens from `at` on, and the four that are 16 further.
fn weighed(codes: u32, at: u32) -> f32 {
  let low = vec4<f32>(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]);
  let high = vec4<f32>(weights[at + 16u], weights[at + 17u], weights[at + 18u], weights[at + 19u]);
  return dot(low, vec4<f32>(unpack4xU8(codes & 0x0f0f0f0fu))) + dot(high, vec4<f32>(unpack4xU8((codes >> 4u) & 0x0f0f0f0fu)));
}
