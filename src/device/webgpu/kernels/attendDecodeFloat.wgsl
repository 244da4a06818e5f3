// attendDecode over a 4-bit cache in float arithmetic, for GPUs that emulate integer dot products (Apple's); attendMerge joins the
// spans. Workgroups are those of attendDecode.wgsl: one span of positions for HEADS query heads of one KV head. For each tile of 64
// positions: scores (one thread per token, whose codes become floats once for all heads); softmax weights (one thread per eight tokens
// of a head, multiplied by the tokens' value scales); sums of values (one or two dims per thread, likewise). Only the cache is
// rounded. A token's score = scale * (codes . query) + zero * (sum of the query).
// lib: step, batch, spans, lanes, softcap, planes, channels, floatCodes, floatQueries, floatWeights, floatTurned
// lib: turnedCodes
// <values>
// Query heads of a KV head, and how many of them one workgroup has: 8 at most.
const GROUP: u32 = 2u;
const HEADS: u32 = 2u;
const HEAD_DIM: u32 = 64u;
// 0: keys and values are separate. Otherwise one vector is both: the cache holds TURNED rotated dims as keys, HEAD_DIM dims as values.
const TURNED: u32 = 0u;
// include: cacheValues
const TILE: u32 = 64u;
// A multiple of 64. A thread has one dim, and another that is WORKGROUP further.
const WORKGROUP: u32 = 64u;
const MOST_SPANS: u32 = 128u;
// Used by lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
const SUBGROUP: u32 = 32u;
const HAS_SOFTCAP: bool = false;
// </values>

const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const DIMS: u32 = GROUPS * 32u;
// Dims that the cache holds of a key.
const KEY_DIM: u32 = select(HEAD_DIM, TURNED, TURNED > 0u);
const KEY_GROUPS: u32 = (KEY_DIM + 31u) / 32u;
// Weights per token and head: one for each scale of values, which int4 has for each group.
const WEIGHT_GROUPS: u32 = select(GROUPS, 1u, RQ4);
const SETS: u32 = (GROUP + HEADS - 1u) / HEADS;
const FOURS: u32 = (HEADS + 3u) / 4u;
// The last index of `shrinks`.
const LAST: u32 = FOURS * 4u - 1u;
const BLOCKS: u32 = TILE / 32u;
const PAGES: u32 = select(1u, BLOCKS, CHANNEL);
// Queries [page][group][head]. Those for values that are also keys begin at VALUES_ASKED, [group][head].
const VALUES_ASKED: u32 = PAGES * KEY_GROUPS * HEADS;
const ASKED: u32 = VALUES_ASKED + select(0u, GROUPS * HEADS, TURNED > 0u);
// Threads per head when scores become weights: each has tokens 4 w to 4 w + 3 of a block, w = lane % 4, and the four that are 16
// further.
const LANES: u32 = 8u;
const HIDDEN_SCORE: f32 = -1e30;
const VALUE_MIDDLE: f32 = f32((1u << VALUE_BITS) - 1u) / 2.0;

// include: decodeBindings
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

// [page][group][head][w]: queries as floatCodes.wgsl arranges them, two words for each word of codes.
var<workgroup> asked: array<vec4<f32>, ASKED * 8u>;
// [page][group][head][w]: terms without codes: sums of queries, or of queries times zeros.
var<workgroup> rests: array<vec4<f32>, ASKED>;
// [head][token]
var<workgroup> scores: array<vec4<f32>, HEADS * TILE / 4u>;
// [block][group][head][w]: weights times scales, arranged in the same way, as bits; before that, transposed values.
var<workgroup> weighed: array<vec4<u32>, max(BLOCKS * WEIGHT_GROUPS * HEADS * 8u, STAGED * BLOCKS * 32u)>;
// [head][group][lane]: sums over the span of weights times the values' zeros.
var<workgroup> middles: array<f32, HEADS * WEIGHT_GROUPS * LANES>;
// For each head: 2^(old maximum - new maximum).
var<workgroup> shrinks: array<f32, FOURS * 4u>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let single = spannedOf(workgroup.z);
  let last = single.lastPosition;
  let table = params.table + single.table;
  let places = placesOf(MOST_SPANS);
  let spans = spansOf(last, last, single.packed, PART, params.window, TILE, places);
  if (workgroup.x >= spans.count) {
    // This row has no such span; another row of the step has.
    return;
  }
  let kvHead = workgroup.y / SETS;
  // Heads past the last one of the KV head repeat it and are never written.
  let firstHead = workgroup.y % SETS * HEADS;
  let start = spanStart(spans, workgroup.x);
  let end = min(spanStart(spans, workgroup.x + 1u), spans.end);
  let groupHead = (single.row * params.kvHeads + kvHead) * GROUP;
  if (!CHANNEL) {
    arrangeQueries(0u, 0u, KEY_DIM, groupHead, firstHead, local);
  }
  if (TURNED > 0u) {
    arrangeQueries(TURNED, VALUES_ASKED, HEAD_DIM, groupHead, firstHead, local);
  }
  for (var i = local; i < HEADS * WEIGHT_GROUPS * LANES; i += WORKGROUP) {
    middles[i] = 0.0;
  }
  let head = local / LANES;
  let lane = local % LANES;
  let weighs = head < HEADS;
  let otherDim = local + WORKGROUP;

  var most = HIDDEN_SCORE;
  var total = 0.0;
  // Sums of both dims, four heads in each vector.
  var sums0 = vec4<f32>();
  var sums1 = vec4<f32>();
  var others0 = vec4<f32>();
  var others1 = vec4<f32>();

  for (var first = start; first < end; first += TILE) {
    if (CHANNEL) {
      // After this barrier, no thread reads those of the last tile.
      workgroupBarrier();
      for (var page = 0u; page < PAGES; page++) {
        let block = blockOf(table, first / 32u + page, params.kvHeads, kvHead) * KEY_WORDS + KEY_SCALES_AT;
        foldQueries(page, block, groupHead, firstHead, local);
      }
    }
    workgroupBarrier();
    var ends = array<vec4<f32>, 2>();
    if (TURNED > 0u) {
      ends = valueScores(table, kvHead, first, local);
    }
    if (local < TILE) {
      score(table, kvHead, first, spans.oldest, spans.end, local, ends);
    }
    workgroupBarrier();
    let block = blockOf(table, first / 32u + lane / 4u, params.kvHeads, kvHead) * VALUE_WORDS + VALUE_SCALES_AT;
    let quarter = lane % 4u;
    var low = vec4<f32>(HIDDEN_SCORE);
    var high = low;
    if (weighs) {
      let at = head * (TILE / 4u) + lane / 4u * 8u + quarter;
      low = scores[at];
      high = scores[at + 4u];
    }
    let two = max(max(low.xy, low.zw), max(high.xy, high.zw));
    let top = max(most, lanesMax(max(two.x, two.y), local));
    let shrink = exp2(most - top);
    most = top;
    low = exp2(low - top);
    high = exp2(high - top);
    total = total * shrink + dot(low, vec4<f32>(1.0)) + dot(high, vec4<f32>(1.0));
    if (weighs) {
      if (lane == 0u) {
        shrinks[head] = shrink;
      }
      for (var group = 0u; group < WEIGHT_GROUPS; group++) {
        weigh(block, group, head, lane, low, high, shrink);
      }
    }
    workgroupBarrier();
    let shrink0 = vec4<f32>(shrinks[0], shrinks[1], shrinks[2], shrinks[3]);
    sums0 *= shrink0;
    others0 *= shrink0;
    if (FOURS > 1u) {
      let shrink1 = vec4<f32>(shrinks[LAST - 3u], shrinks[LAST - 2u], shrinks[LAST - 1u], shrinks[LAST]);
      sums1 *= shrink1;
      others1 *= shrink1;
    }
    for (var b = 0u; b < TILE / 32u; b++) {
      let at = blockOf(table, first / 32u + b, params.kvHeads, kvHead) * VALUE_WORDS;
      if (local < DIMS) {
        let words = nibbleWords(valueCodes(at, local), VALUE_BITS);
        sums0 += weightedCodes(words, b, local, 0u);
        if (FOURS > 1u) {
          sums1 += weightedCodes(words, b, local, 4u);
        }
      }
      if (DIMS > WORKGROUP && otherDim < DIMS) {
        let words = nibbleWords(valueCodes(at, otherDim), VALUE_BITS);
        others0 += weightedCodes(words, b, otherDim, 0u);
        if (FOURS > 1u) {
          others1 += weightedCodes(words, b, otherDim, 4u);
        }
      }
    }
  }

  let stride = HEAD_DIM + 4u;
  let firstSpan = ((workgroup.z * params.kvHeads + kvHead) * GROUP + firstHead) * places + workgroup.x;
  let span = firstSpan * stride;
  let all = lanesSum(total, local);
  if (weighs && lane == 0u && firstHead + head < GROUP) {
    partials[span + head * places * stride + HEAD_DIM] = most;
    partials[span + head * places * stride + HEAD_DIM + 1u] = all;
  }
  workgroupBarrier();
  store(span, places, 0u, firstHead, local, sums0);
  store(span, places, 0u, firstHead, otherDim, others0);
  if (FOURS > 1u) {
    store(span, places, 4u, firstHead, local, sums1);
    store(span, places, 4u, firstHead, otherDim, others1);
  }
}

// A token's scores for all heads. ends: the part of the scores that comes from values that are also keys.
fn score(table: u32, kvHead: u32, first: u32, oldest: u32, end: u32, token: u32, ends: array<vec4<f32>, 2>) {
  let position = first + token;
  let slot = position % 32u;
  let block = blockOf(table, position / 32u, params.kvHeads, kvHead) * KEY_WORDS;
  let page = select(0u, token / 32u, CHANNEL);
  var s0 = ends[0];
  var s1 = ends[1];
  for (var group = 0u; group < KEY_GROUPS; group++) {
    let words = nibbleWords(keyCodes(block, group, slot), KEY_BITS);
    var range = vec2<f32>(1.0);
    if (INT4) {
      range = unpack2x16float(keys[block + KEY_SCALES_AT + group * 8u + slot / 4u][slot % 4u]);
    } else if (!CHANNEL) {
      let scale = unpack2x16float(keys[block + KEY_SCALES_AT + slot / 8u][slot % 8u / 2u])[slot % 2u];
      range = scale * vec2<f32>(1.0, -7.5);
    }
    let at = (page * KEY_GROUPS + group) * HEADS;
    s0 += range.x * queryDots(words, at, 0u) + range.y * restsOf(at, 0u);
    if (FOURS > 1u) {
      s1 += range.x * queryDots(words, at, 4u) + range.y * restsOf(at, 4u);
    }
  }
  let visible = position >= oldest && position < end;
  keep(token, 0u, s0, visible);
  if (FOURS > 1u) {
    keep(token, 4u, s1, visible);
  }
}

fn keep(token: u32, first: u32, s: vec4<f32>, visible: bool) {
  for (var c = 0u; c < 4u; c++) {
    if (first + c < HEADS) {
      var one = s[c];
      if (HAS_SOFTCAP) {
        one = params.cap * boundedTanh(one);
      }
      scores[(first + c) * (TILE / 4u) + token / 4u][token % 4u] = select(HIDDEN_SCORE, one, visible);
    }
  }
}

// Stores one dim of four heads.
fn store(span: u32, places: u32, first: u32, firstHead: u32, d: u32, sums: vec4<f32>) {
  if (d >= HEAD_DIM) {
    return;
  }
  for (var c = 0u; c < 4u; c++) {
    let h = first + c;
    if (h < HEADS && firstHead + h < GROUP) {
      var middle = 0.0;
      for (var i = 0u; i < LANES; i++) {
        middle += middles[(h * WEIGHT_GROUPS + select(d / 32u, 0u, RQ4)) * LANES + i];
      }
      partials[span + h * places * (HEAD_DIM + 4u) + d] = sums[c] + middle;
    }
  }
}
