// attendDecode by f16 subgroup matrices: one token's queries over a 4-bit cache. A workgroup is one subgroup; it takes a block of
// 32 tokens at a time for 8 query heads of one KV head, the columns of its matrices: S' = K Q', online softmax with a lane for
// each token, O' += V' W. Codes become f16 in 3 KiB of workgroup memory, 32 dims at a time, so that many workgroups hide each
// other's waits. O stays in matrix registers and is scaled down only when a maximum has grown 2^8 times, as in
// attendPromptMatrix; weights carry the values' scales of rq4, so it is the products of both that f16 must hold.
// What a lane holds has a name for each group G of 32 dims or piece of 16: indexed in loops that a compiler does not unroll, it
// would live in local memory. Offsets of matrices are constants: Dawn puts every other load into an `if`.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, spans, decodeWork, decodeScales, decodeScores, softcap, nibbles, planes, channelFours, unpack, queries, sums, narrow
// <values>
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 64u;
const INT4: bool = true;
const RQ4: bool = false;
const CHANNEL: bool = false;
const KEY_BITS: u32 = 4u;
const VALUE_BITS: u32 = 4u;
const KEY_WORDS: u32 = 80u;
const KEY_SCALES_AT: u32 = 64u;
const VALUE_WORDS: u32 = 80u;
const VALUE_SCALES_AT: u32 = 64u;
const MOST_SPANS: u32 = 128u;
// Of lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
const HAS_SOFTCAP: bool = false;
// </values>

const SUBGROUP: u32 = 32u;
// Query heads of a workgroup.
const COLUMNS: u32 = 8u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
// Rows of `stage` in words of 16 bytes, odd against bank conflicts: keys [token][dim], values [dim][token]; scores [token][head];
// sums [head][32 dims].
const STRIDE: u32 = 5u;
const SCORE_STRIDE: u32 = 3u;
const SUM_STRIDE: u32 = 9u;

struct Params {
  kvHeads: u32,
  // Where the pool's tables begin in `batch`.
  table: u32,
  // 0: all positions.
  window: u32,
  // With log2(e), since powers are of 2; with a soft cap instead scale / cap, and cap * log2(e).
  scale: f32,
  cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [tokens][heads][HEAD_DIM]
@group(0) @binding(2) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
// [spanned][heads][spans] of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 8, 16>;
alias Result = subgroup_matrix_result<f32, 8, 16>;

// 32 dims of queries at first; then keys, scores and values in turn; in the end sums.
var<workgroup> stage: array<vec4<u32>, 32u * STRIDE>;
var<workgroup> weights: array<vec4<u32>, 32>;
// int4: for each four words of codes scales and zeros of values in the order of unpacking.
var<workgroup> ranges: array<vec4<u32>, select(1u, 8u, INT4)>;
// Of each four dims of keys.
var<workgroup> channels: array<vec4<u32>, select(1u, GROUPS * 8u, CHANNEL)>;
// That products of a head's query, as f16, are to be multiplied by.
var<workgroup> headFactors: array<f32, COLUMNS>;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let work = workOf(workgroup, params.kvHeads, params.table, params.window, COLUMNS, 32u);
  if (work.isNone) {
    return;
  }
  // Blocks are looked up a block ahead of their loads; past the span's last one it is that one again, which is near by then.
  let lastBlock = (work.end - 1u) / 32u;
  let block = blockOf(work.table, work.start / 32u, params.kvHeads, work.kvHead);
  var nextBlock = blockOf(work.table, min(work.start / 32u + 1u, lastBlock), params.kvHeads, work.kvHead);

  // Loads, all on their way before the first are used: queries, whose place is known before that of codes; then what a lane has of
  // its next block: words of codes of its token in each group, of its dim of each group; scales.
  let firstQuery = (work.row * params.kvHeads + work.kvHead) * GROUP;
  var keyBlock = block * KEY_WORDS;
  var valueBlock = block * VALUE_WORDS;
  // each G 0..3
  let query{G} = queriesAt(firstQuery, work.firstHead, {G}u, lane);
  var key{G}: vec4<u32>;
  var keyRange{G}: u32;
  var value{G}: vec4<u32>;
  // end
  // each G 0..3 if GROUPS > G
  key{G} = keyCodes(keyBlock, {G}u, lane);
  value{G} = valueCodes(valueBlock, lane + {32 * G}u);
  // end
  var valueScale: u32;
  var lowRanges: vec4<u32>;
  var highRanges: vec4<u32>;
  var channelWord: vec4<u32>;
  if (CHANNEL) {
    channelWord = channelsAt(keyBlock, lane);
    storeChannels(channelWord, lane);
  } else {
    keyRange0 = keyRangeAt(keyBlock, 0u, lane);
  }
  if (INT4) {
    // each G 1..3 if GROUPS > G
    keyRange{G} = keyRangeAt(keyBlock, {G}u, lane);
    // end
    lowRanges = valueRangesAt(valueBlock, lane);
    highRanges = valueRangesAt(valueBlock + 4u, lane);
  } else {
    valueScale = valueScaleAt(valueBlock, lane);
  }

  // Queries to matrices, each head divided by a factor that it shares among four lanes.
  let factor = headFactor(query0, query1, query2, query3);
  let isScaled = subgroupAny(factor != 1.0);
  let inverse = inverseFactor(factor);
  headFactors[lane / 4u] = factor;
  // each P 0..7
  var q{P}: Right;
  var sum{P}: Result;
  // end
  // each G 0..3 if GROUPS > G
  workgroupBarrier();
  stage[lane / 4u * STRIDE + lane % 4u] = halvesOf(query{G}[0] * inverse, query{G}[1] * inverse);
  workgroupBarrier();
  q{2 * G} = subgroupMatrixLoad<Right, col_major>(&stage, 0u, STRIDE);
  q{2 * G + 1} = subgroupMatrixLoad<Right, col_major>(&stage, 2u, STRIDE);
  // end
  // Maxima are the same in every lane, sums a lane's own.
  var maxScore = MASKED;
  var sumExp = EightHeads();
  // Weights lie in the order in which codes of values unpack.
  let place = lane % 16u / 4u * 8u + lane / 16u * 4u + swapMiddle(lane % 4u);

  for (var first = work.start; first < work.end; first += 32u) {
    let keyScale = halfScale(keyRange0, lane);
    let scale = halfScale(valueScale, lane);
    // The next block is loaded as soon as this one's words are used.
    keyBlock = nextBlock * KEY_WORDS;
    valueBlock = nextBlock * VALUE_WORDS;
    nextBlock = blockOf(work.table, min(first / 32u + 2u, lastBlock), params.kvHeads, work.kvHead);

    // S' = K Q', of tokens 0..15 and 16..31.
    var low = Result();
    var high = Result();
    // each G 0..3 if GROUPS > G
    workgroupBarrier();
    storeKeys(nibbleWords(key{G}, KEY_BITS), keyRange{G}, {8 * G}u, lane);
    key{G} = keyCodes(keyBlock, {G}u, lane);
    if (CHANNEL && {G}u == 0u) {
      channelWord = channelsAt(keyBlock, lane);
    } else if (INT4 || {G}u == 0u) {
      keyRange{G} = keyRangeAt(keyBlock, {G}u, lane);
    }
    workgroupBarrier();
    // each P 0..1
    low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, {2 * P}u, STRIDE), q{2 * G + P}, low);
    high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE + {2 * P}u, STRIDE), q{2 * G + P}, high);
    // end
    // end
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&stage, 0u, low, SCORE_STRIDE);
    subgroupMatrixStore<row_major>(&stage, 16u * SCORE_STRIDE, high, SCORE_STRIDE);
    workgroupBarrier();

    // Online softmax. A value's scale takes part in the maximum: 2^exponent is what f16 has to hold.
    let factor = max(scale, 2.98e-8);
    let lift = select(0.0, log2(factor), RQ4);
    let visible = first + lane >= work.oldest && first + lane <= work.position;
    let scores = scoresAt(lane, isScaled, keyScale, params.cap, lift, visible);
    if (outgrows(scores, maxScore, lane)) {
      let next = EightHeads(max(maxScore.low, subgroupMax(scores.low)), max(maxScore.high, subgroupMax(scores.high)));
      let rescale = weightsOf(maxScore, next);
      maxScore = next;
      sumExp = timesEach(sumExp, rescale);
      if (first != work.start) {
        // each G 0..3 if GROUPS > G
        rescalePiece(&sum{2 * G}, rescale, lane);
        rescalePiece(&sum{2 * G + 1}, rescale, lane);
        // end
      }
    }
    // At most 2^HEADROOM.
    let weight = weightsOf(scores, maxScore);
    var share = 1.0;
    var live = 1.0;
    if (RQ4) {
      share = 1.0 / factor;
      live = select(select(1.0, VALUE_HIGH, lane >= 16u), 0.0, scale == 0.0);
      valueScale = valueScaleAt(valueBlock, lane);
    }
    sumExp = EightHeads(sumExp.low + weight.low * share, sumExp.high + weight.high * share);
    weights[place] = smallHalvesOf(weight.low * live, weight.high * live);

    // O' += V' W, of tokens 0..15 and 16..31.
    var lowWeights: Right;
    var highWeights: Right;
    // each G 0..3 if GROUPS > G
    if (INT4) {
      storeRanges({G}u, lowRanges, highRanges, lane);
      workgroupBarrier();
    }
    storeValues(nibbleWords(value{G}, VALUE_BITS), lane);
    value{G} = valueCodes(valueBlock, lane + {32 * G}u);
    workgroupBarrier();
    if ({G}u == 0u) {
      lowWeights = subgroupMatrixLoad<Right, row_major>(&weights, 0u, 1u);
      highWeights = subgroupMatrixLoad<Right, row_major>(&weights, 16u, 1u);
    }
    // each P 0..1
    sum{2 * G + P} = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, {16 * P}u * STRIDE, STRIDE), lowWeights, sum{2 * G + P});
    sum{2 * G + P} = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, {16 * P}u * STRIDE + 2u, STRIDE), highWeights, sum{2 * G + P});
    // end
    if (GROUPS > {G + 1}u) {
      workgroupBarrier();
    }
    // end
    if (INT4) {
      lowRanges = valueRangesAt(valueBlock, lane);
      highRanges = valueRangesAt(valueBlock + 4u, lane);
    }
    if (CHANNEL) {
      storeChannels(channelWord, lane);
    }
  }

  // The span's maxima, sums and O to its partials.
  let allSums = EightHeads(subgroupAdd(sumExp.low), subgroupAdd(sumExp.high));
  let span = work.partial * SPAN_STRIDE;
  let heads = min(COLUMNS, GROUP - work.firstHead);
  if (lane < heads) {
    partials[span + lane * work.places * SPAN_STRIDE + FOURS] = vec4<f32>(headOf(maxScore, lane), headOf(allSums, lane), 0.0, 0.0);
  }
  // each G 0..3 if GROUPS > G
  workgroupBarrier();
  subgroupMatrixStore<col_major>(&stage, 0u, sum{2 * G}, SUM_STRIDE);
  subgroupMatrixStore<col_major>(&stage, 4u, sum{2 * G + 1}, SUM_STRIDE);
  workgroupBarrier();
  storeSums(span, work.places, {G}u, heads, lane);
  // end
}
