// attendDecode with f16 subgroup matrices: one token's queries over a 4-bit cache. A workgroup is one subgroup; it does a block
// of 32 tokens at a time for 8 query heads of one KV head, the heads being the columns of its matrices: S' = K Q', online
// softmax with a lane for each token, O' += V' W. Codes become f16 in workgroup memory, which is small, so that many
// workgroups hide each other's waits: 32 dims at a time, 3 KiB, since a core has 48 KiB for all of them.
// As in attendPromptMatrix, O stays in matrix registers and is scaled down only when a maximum has grown 2^8 times; weights
// carry the values' scales of rq4, so it is the products of both that f16 must hold.
// What a lane holds has names, written out wherever it is used: indexed in loops that a compiler does not unroll, it would
// live in local memory. What lies past the head's dims is never touched and costs nothing. Offsets of matrices in workgroup
// memory are constants: Dawn puts every other load into an `if`.
// Keys by channel (CHANNEL) are expanded with the scales and zeros of their dims, which all lanes read alike.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, spans, softcap, nibbles, planes, channelFours, unpack, queries, sums, narrow
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
const COLUMNS: u32 = 8u;
const SETS: u32 = (GROUP + COLUMNS - 1u) / COLUMNS;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
// Rows of workgroup memory in words of 16 bytes, odd against bank conflicts: keys [token][dim], values [dim][token], scores
// [token][head], sums [head][32 dims].
const STRIDE: u32 = 5u;
const SCORE_STRIDE: u32 = 3u;
const SUM_STRIDE: u32 = 9u;
// Of partials: a head's sums, then maximum and total.
const FOURS: u32 = HEAD_DIM / 4u;
const SPAN_STRIDE: u32 = FOURS + 1u;
const HIDDEN_SCORE: f32 = -1e30;
// Of rotated codes.
const MOST_CODE: f16 = f16((1u << VALUE_BITS) - 1u);
const HEADROOM: f32 = 8.0;
// Keys have a scale for each token.
const TOKEN_SCALES: bool = RQ4 && !CHANNEL;
// Of queries and weights that meet high codes.
const KEY_HIGH: f32 = select(1.0, 0.125, TOKEN_SCALES);
const VALUE_HIGH: f32 = select(1.0, 0.125, RQ4);

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

// 32 dims of queries at first; then of keys, scores, 32 dims of values by turns; in the end sums.
var<workgroup> stage: array<vec4<u32>, 32u * STRIDE>;
var<workgroup> weights: array<vec4<u32>, 32>;
// int4: for each four words of codes scales and zeros of values in the order of unpacking.
var<workgroup> ranges: array<vec4<u32>, select(1u, 8u, INT4)>;
// Of each four dims of keys.
var<workgroup> channels: array<vec4<u32>, select(1u, GROUPS * 8u, CHANNEL)>;
var<workgroup> grown: u32;
// That products of a head's query, as f16, are to be multiplied by.
var<workgroup> headFactors: array<f32, COLUMNS>;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let single = spannedOf(workgroup.z);
  let row = single.row;
  let last = single.lastPosition;
  let table = params.table + single.table;
  let places = placesOf(MOST_SPANS);
  let spans = spansOf(last, last, single.packed, PART, params.window, 32u, places);
  if (workgroup.x >= spans.count) {
    // Another row of the step has more.
    return;
  }
  let kvHead = workgroup.y / SETS;
  let firstHead = workgroup.y % SETS * COLUMNS;
  let start = spans.first + workgroup.x * spans.tokens;
  let end = min(start + spans.tokens, spans.end);
  // Blocks are looked up a block ahead of their loads; past the span's last one it is that one again, which is near by then.
  let lastBlock = (end - 1u) / 32u;
  let block = blockOf(table, start / 32u, params.kvHeads, kvHead);
  var nextBlock = blockOf(table, min(start / 32u + 1u, lastBlock), params.kvHeads, kvHead);
  // Queries know their place before codes do: 32 dims at a time, all on their way before the first are used.
  let firstQuery = (row * params.kvHeads + kvHead) * GROUP;
  let query0 = queriesAt(firstQuery, firstHead, 0u, lane);
  let query1 = queriesAt(firstQuery, firstHead, 1u, lane);
  let query2 = queriesAt(firstQuery, firstHead, 2u, lane);
  let query3 = queriesAt(firstQuery, firstHead, 3u, lane);
  // What a lane has loaded of its next block: words of codes of its token in each group, of its dim of each group; scales.
  var keyBlock = block * KEY_WORDS;
  var valueBlock = block * VALUE_WORDS;
  var key0: vec4<u32>;
  var key1: vec4<u32>;
  var key2: vec4<u32>;
  var key3: vec4<u32>;
  var keyRange0: u32;
  var keyRange1: u32;
  var keyRange2: u32;
  var keyRange3: u32;
  var value0: vec4<u32>;
  var value1: vec4<u32>;
  var value2: vec4<u32>;
  var value3: vec4<u32>;
  key0 = keyCodes(keyBlock, 0u, lane);
  if (GROUPS > 1u) { key1 = keyCodes(keyBlock, 1u, lane); }
  if (GROUPS > 2u) { key2 = keyCodes(keyBlock, 2u, lane); }
  if (GROUPS > 3u) { key3 = keyCodes(keyBlock, 3u, lane); }
  value0 = valueCodes(valueBlock, lane);
  if (GROUPS > 1u) { value1 = valueCodes(valueBlock, lane + 32u); }
  if (GROUPS > 2u) { value2 = valueCodes(valueBlock, lane + 64u); }
  if (GROUPS > 3u) { value3 = valueCodes(valueBlock, lane + 96u); }
  var valueScale: u32;
  var lowRanges: vec4<u32>;
  var highRanges: vec4<u32>;
  // Scales and zeros of eight dims.
  var channelWord: vec4<u32>;
  if (CHANNEL) {
    channelWord = channelsAt(keyBlock, lane);
    storeChannels(channelWord, lane);
  } else {
    keyRange0 = keyRangeAt(keyBlock, 0u, lane);
  }
  if (INT4) {
    if (GROUPS > 1u) { keyRange1 = keyRangeAt(keyBlock, 1u, lane); }
    if (GROUPS > 2u) { keyRange2 = keyRangeAt(keyBlock, 2u, lane); }
    if (GROUPS > 3u) { keyRange3 = keyRangeAt(keyBlock, 3u, lane); }
    lowRanges = valueRangesAt(valueBlock, lane);
    highRanges = valueRangesAt(valueBlock + 4u, lane);
  } else {
    valueScale = values[valueBlock + VALUE_SCALES_AT + lane / 8u][lane % 8u / 2u];
  }

  // Of the head that this lane shares with three more.
  let most = max(max(largestOf(query0), largestOf(query1)), max(largestOf(query2), largestOf(query3)));
  let pairMost = max(most, subgroupShuffleXor(most, 1u));
  let factor = factorOf(bitcast<u32>(max(pairMost, subgroupShuffleXor(pairMost, 2u))));
  let isScaled = subgroupAny(factor != 1.0);
  let back = inverseFactor(factor);
  headFactors[lane / 4u] = factor;
  var q0: Right;
  var q1: Right;
  var q2: Right;
  var q3: Right;
  var q4: Right;
  var q5: Right;
  var q6: Right;
  var q7: Right;
  stage[lane / 4u * STRIDE + lane % 4u] = halvesOf(query0[0] * back, query0[1] * back);
  workgroupBarrier();
  q0 = subgroupMatrixLoad<Right, col_major>(&stage, 0u, STRIDE);
  q1 = subgroupMatrixLoad<Right, col_major>(&stage, 2u, STRIDE);
  if (GROUPS > 1u) {
    workgroupBarrier();
    stage[lane / 4u * STRIDE + lane % 4u] = halvesOf(query1[0] * back, query1[1] * back);
    workgroupBarrier();
    q2 = subgroupMatrixLoad<Right, col_major>(&stage, 0u, STRIDE);
    q3 = subgroupMatrixLoad<Right, col_major>(&stage, 2u, STRIDE);
  }
  if (GROUPS > 2u) {
    workgroupBarrier();
    stage[lane / 4u * STRIDE + lane % 4u] = halvesOf(query2[0] * back, query2[1] * back);
    workgroupBarrier();
    q4 = subgroupMatrixLoad<Right, col_major>(&stage, 0u, STRIDE);
    q5 = subgroupMatrixLoad<Right, col_major>(&stage, 2u, STRIDE);
  }
  if (GROUPS > 3u) {
    workgroupBarrier();
    stage[lane / 4u * STRIDE + lane % 4u] = halvesOf(query3[0] * back, query3[1] * back);
    workgroupBarrier();
    q6 = subgroupMatrixLoad<Right, col_major>(&stage, 0u, STRIDE);
    q7 = subgroupMatrixLoad<Right, col_major>(&stage, 2u, STRIDE);
  }
  var sum0: Result;
  var sum1: Result;
  var sum2: Result;
  var sum3: Result;
  var sum4: Result;
  var sum5: Result;
  var sum6: Result;
  var sum7: Result;
  // Of heads 0..3 and 4..7, the same in every lane; totals are a lane's own.
  var lowMost = vec4<f32>(HIDDEN_SCORE);
  var highMost = vec4<f32>(HIDDEN_SCORE);
  var lowTotals = vec4<f32>(0.0);
  var highTotals = vec4<f32>(0.0);
  // Weights lie in the order in which codes of values unpack.
  let place = lane % 16u / 4u * 8u + lane / 16u * 4u + swapMiddle(lane % 4u);

  for (var first = start; first < end; first += 32u) {
    // Codes of rq4 are expanded to twice what they are, centred.
    let keyScale = 0.5 * unpack2x16float(keyRange0 >> (lane % 2u * 16u)).x;
    let scale = 0.5 * unpack2x16float(valueScale >> (lane % 2u * 16u)).x;
    // Loads of the next block are written as soon as this one's are used.
    keyBlock = nextBlock * KEY_WORDS;
    valueBlock = nextBlock * VALUE_WORDS;
    nextBlock = blockOf(table, min(first / 32u + 2u, lastBlock), params.kvHeads, kvHead);
    var low = Result();
    var high = Result();
    workgroupBarrier();
    let keyWord = nibbleWords(key0, KEY_BITS);
    stage[lane * STRIDE] = key(keyWord.x, keyRange0, 0u);
    stage[lane * STRIDE + 1u] = key(keyWord.y, keyRange0, 1u);
    stage[lane * STRIDE + 2u] = key(keyWord.z, keyRange0, 2u);
    stage[lane * STRIDE + 3u] = key(keyWord.w, keyRange0, 3u);
    key0 = keyCodes(keyBlock, 0u, lane);
    if (CHANNEL) {
      channelWord = channelsAt(keyBlock, lane);
    } else {
      keyRange0 = keyRangeAt(keyBlock, 0u, lane);
    }
    workgroupBarrier();
    low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, STRIDE), q0, low);
    high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE, STRIDE), q0, high);
    low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, STRIDE), q1, low);
    high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE + 2u, STRIDE), q1, high);
    if (GROUPS > 1u) {
      workgroupBarrier();
      let keyWord = nibbleWords(key1, KEY_BITS);
      stage[lane * STRIDE] = key(keyWord.x, keyRange1, 8u);
      stage[lane * STRIDE + 1u] = key(keyWord.y, keyRange1, 9u);
      stage[lane * STRIDE + 2u] = key(keyWord.z, keyRange1, 10u);
      stage[lane * STRIDE + 3u] = key(keyWord.w, keyRange1, 11u);
      key1 = keyCodes(keyBlock, 1u, lane);
      if (INT4) {
        keyRange1 = keyRangeAt(keyBlock, 1u, lane);
      }
      workgroupBarrier();
      low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, STRIDE), q2, low);
      high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE, STRIDE), q2, high);
      low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, STRIDE), q3, low);
      high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE + 2u, STRIDE), q3, high);
    }
    if (GROUPS > 2u) {
      workgroupBarrier();
      let keyWord = nibbleWords(key2, KEY_BITS);
      stage[lane * STRIDE] = key(keyWord.x, keyRange2, 16u);
      stage[lane * STRIDE + 1u] = key(keyWord.y, keyRange2, 17u);
      stage[lane * STRIDE + 2u] = key(keyWord.z, keyRange2, 18u);
      stage[lane * STRIDE + 3u] = key(keyWord.w, keyRange2, 19u);
      key2 = keyCodes(keyBlock, 2u, lane);
      if (INT4) {
        keyRange2 = keyRangeAt(keyBlock, 2u, lane);
      }
      workgroupBarrier();
      low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, STRIDE), q4, low);
      high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE, STRIDE), q4, high);
      low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, STRIDE), q5, low);
      high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE + 2u, STRIDE), q5, high);
    }
    if (GROUPS > 3u) {
      workgroupBarrier();
      let keyWord = nibbleWords(key3, KEY_BITS);
      stage[lane * STRIDE] = key(keyWord.x, keyRange3, 24u);
      stage[lane * STRIDE + 1u] = key(keyWord.y, keyRange3, 25u);
      stage[lane * STRIDE + 2u] = key(keyWord.z, keyRange3, 26u);
      stage[lane * STRIDE + 3u] = key(keyWord.w, keyRange3, 27u);
      key3 = keyCodes(keyBlock, 3u, lane);
      if (INT4) {
        keyRange3 = keyRangeAt(keyBlock, 3u, lane);
      }
      workgroupBarrier();
      low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, STRIDE), q6, low);
      high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE, STRIDE), q6, high);
      low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, STRIDE), q7, low);
      high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE + 2u, STRIDE), q7, high);
    }
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&stage, 0u, low, SCORE_STRIDE);
    subgroupMatrixStore<row_major>(&stage, 16u * SCORE_STRIDE, high, SCORE_STRIDE);
    workgroupBarrier();

    // A value's scale takes part in the maximum: 2^exponent is what f16 has to hold.
    let factor = max(scale, 2.98e-8);
    let lift = select(0.0, log2(factor), RQ4);
    let position = first + lane;
    let visible = position >= spans.oldest && position <= last;
    var lowProducts = bitcast<vec4<f32>>(stage[lane * SCORE_STRIDE]);
    var highProducts = bitcast<vec4<f32>>(stage[lane * SCORE_STRIDE + 1u]);
    if (isScaled) {
      lowProducts *= vec4<f32>(headFactors[0], headFactors[1], headFactors[2], headFactors[3]);
      highProducts *= vec4<f32>(headFactors[4], headFactors[5], headFactors[6], headFactors[7]);
    }
    let lowExponents = select(vec4<f32>(HIDDEN_SCORE), exponents(lowProducts, keyScale, lift), visible);
    let highExponents = select(vec4<f32>(HIDDEN_SCORE), exponents(highProducts, keyScale, lift), visible);
    let grows = subgroupAny(any(lowExponents > lowMost + HEADROOM) || any(highExponents > highMost + HEADROOM));
    if (lane == 0u) {
      grown = u32(grows);
    }
    if (workgroupUniformLoad(&grown) != 0u) {
      let lowTop = max(lowMost, subgroupMax(lowExponents));
      let highTop = max(highMost, subgroupMax(highExponents));
      let lowShrink = exp2(lowMost - lowTop);
      let highShrink = exp2(highMost - highTop);
      lowMost = lowTop;
      highMost = highTop;
      lowTotals *= lowShrink;
      highTotals *= highShrink;
      if (first != start) {
        shrinkPiece(&sum0, lowShrink, highShrink, lane);
        shrinkPiece(&sum1, lowShrink, highShrink, lane);
        if (GROUPS > 1u) {
          shrinkPiece(&sum2, lowShrink, highShrink, lane);
          shrinkPiece(&sum3, lowShrink, highShrink, lane);
        }
        if (GROUPS > 2u) {
          shrinkPiece(&sum4, lowShrink, highShrink, lane);
          shrinkPiece(&sum5, lowShrink, highShrink, lane);
        }
        if (GROUPS > 3u) {
          shrinkPiece(&sum6, lowShrink, highShrink, lane);
          shrinkPiece(&sum7, lowShrink, highShrink, lane);
        }
      }
    }
    // At most 2^HEADROOM.
    let a = exp2(lowExponents - lowMost);
    let b = exp2(highExponents - highMost);
    if (RQ4) {
      let back = 1.0 / factor;
      lowTotals += a * back;
      highTotals += b * back;
      let live = select(select(1.0, VALUE_HIGH, lane >= 16u), 0.0, scale == 0.0);
      weights[place] = smallHalvesOf(a * live, b * live);
      valueScale = values[valueBlock + VALUE_SCALES_AT + lane / 8u][lane % 8u / 2u];
    } else {
      lowTotals += a;
      highTotals += b;
      weights[place] = smallHalvesOf(a, b);
    }
    if (INT4) {
      storeRanges(0u, lowRanges, highRanges, lane);
      workgroupBarrier();
    }
    let valueWord = nibbleWords(value0, VALUE_BITS);
    stage[lane * STRIDE] = value(valueWord.x, 0u);
    stage[lane * STRIDE + 1u] = value(valueWord.y, 2u);
    stage[lane * STRIDE + 2u] = value(valueWord.z, 4u);
    stage[lane * STRIDE + 3u] = value(valueWord.w, 6u);
    value0 = valueCodes(valueBlock, lane);
    workgroupBarrier();
    let lowWeights = subgroupMatrixLoad<Right, row_major>(&weights, 0u, 1u);
    let highWeights = subgroupMatrixLoad<Right, row_major>(&weights, 16u, 1u);
    sum0 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, STRIDE), lowWeights, sum0);
    sum0 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, STRIDE), highWeights, sum0);
    sum1 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE, STRIDE), lowWeights, sum1);
    sum1 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE + 2u, STRIDE), highWeights, sum1);
    if (GROUPS > 1u) {
      workgroupBarrier();
      if (INT4) {
        storeRanges(1u, lowRanges, highRanges, lane);
        workgroupBarrier();
      }
      let valueWord = nibbleWords(value1, VALUE_BITS);
      stage[lane * STRIDE] = value(valueWord.x, 0u);
      stage[lane * STRIDE + 1u] = value(valueWord.y, 2u);
      stage[lane * STRIDE + 2u] = value(valueWord.z, 4u);
      stage[lane * STRIDE + 3u] = value(valueWord.w, 6u);
      value1 = valueCodes(valueBlock, lane + 32u);
      workgroupBarrier();
      sum2 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, STRIDE), lowWeights, sum2);
      sum2 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, STRIDE), highWeights, sum2);
      sum3 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE, STRIDE), lowWeights, sum3);
      sum3 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE + 2u, STRIDE), highWeights, sum3);
    }
    if (GROUPS > 2u) {
      workgroupBarrier();
      if (INT4) {
        storeRanges(2u, lowRanges, highRanges, lane);
        workgroupBarrier();
      }
      let valueWord = nibbleWords(value2, VALUE_BITS);
      stage[lane * STRIDE] = value(valueWord.x, 0u);
      stage[lane * STRIDE + 1u] = value(valueWord.y, 2u);
      stage[lane * STRIDE + 2u] = value(valueWord.z, 4u);
      stage[lane * STRIDE + 3u] = value(valueWord.w, 6u);
      value2 = valueCodes(valueBlock, lane + 64u);
      workgroupBarrier();
      sum4 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, STRIDE), lowWeights, sum4);
      sum4 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, STRIDE), highWeights, sum4);
      sum5 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE, STRIDE), lowWeights, sum5);
      sum5 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE + 2u, STRIDE), highWeights, sum5);
    }
    if (GROUPS > 3u) {
      workgroupBarrier();
      if (INT4) {
        storeRanges(3u, lowRanges, highRanges, lane);
        workgroupBarrier();
      }
      let valueWord = nibbleWords(value3, VALUE_BITS);
      stage[lane * STRIDE] = value(valueWord.x, 0u);
      stage[lane * STRIDE + 1u] = value(valueWord.y, 2u);
      stage[lane * STRIDE + 2u] = value(valueWord.z, 4u);
      stage[lane * STRIDE + 3u] = value(valueWord.w, 6u);
      value3 = valueCodes(valueBlock, lane + 96u);
      workgroupBarrier();
      sum6 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, STRIDE), lowWeights, sum6);
      sum6 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, STRIDE), highWeights, sum6);
      sum7 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE, STRIDE), lowWeights, sum7);
      sum7 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * STRIDE + 2u, STRIDE), highWeights, sum7);
    }
    if (INT4) {
      lowRanges = valueRangesAt(valueBlock, lane);
      highRanges = valueRangesAt(valueBlock + 4u, lane);
    }
    if (CHANNEL) {
      storeChannels(channelWord, lane);
    }
  }

  let lowAll = subgroupAdd(lowTotals);
  let highAll = subgroupAdd(highTotals);
  let firstSpan = ((workgroup.z * params.kvHeads + kvHead) * GROUP + firstHead) * places + workgroup.x;
  let span = firstSpan * SPAN_STRIDE;
  let heads = min(COLUMNS, GROUP - firstHead);
  if (lane < heads) {
    let most = select(highMost[lane % 4u], lowMost[lane % 4u], lane < 4u);
    let all = select(highAll[lane % 4u], lowAll[lane % 4u], lane < 4u);
    partials[span + lane * places * SPAN_STRIDE + FOURS] = vec4<f32>(most, all, 0.0, 0.0);
  }
  workgroupBarrier();
  subgroupMatrixStore<col_major>(&stage, 0u, sum0, SUM_STRIDE);
  subgroupMatrixStore<col_major>(&stage, 4u, sum1, SUM_STRIDE);
  workgroupBarrier();
  storeSums(span, places, 0u, heads, lane);
  if (GROUPS > 1u) {
    workgroupBarrier();
    subgroupMatrixStore<col_major>(&stage, 0u, sum2, SUM_STRIDE);
    subgroupMatrixStore<col_major>(&stage, 4u, sum3, SUM_STRIDE);
    workgroupBarrier();
    storeSums(span, places, 1u, heads, lane);
  }
  if (GROUPS > 2u) {
    workgroupBarrier();
    subgroupMatrixStore<col_major>(&stage, 0u, sum4, SUM_STRIDE);
    subgroupMatrixStore<col_major>(&stage, 4u, sum5, SUM_STRIDE);
    workgroupBarrier();
    storeSums(span, places, 2u, heads, lane);
  }
  if (GROUPS > 3u) {
    workgroupBarrier();
    subgroupMatrixStore<col_major>(&stage, 0u, sum6, SUM_STRIDE);
    subgroupMatrixStore<col_major>(&stage, 4u, sum7, SUM_STRIDE);
    workgroupBarrier();
    storeSums(span, places, 3u, heads, lane);
  }
}

fn exponents(products: vec4<f32>, keyScale: f32, lift: f32) -> vec4<f32> {
  var four = products;
  if (TOKEN_SCALES) {
    four *= keyScale;
  }
  if (HAS_SOFTCAP) {
    four = params.cap * vec4<f32>(boundedTanh(four.x), boundedTanh(four.y), boundedTanh(four.z), boundedTanh(four.w));
  }
  return four + lift;
}

// Scales and zeros of eight dims.
fn channelsAt(block: u32, lane: u32) -> vec4<u32> {
  return keys[block + KEY_SCALES_AT + min(lane, GROUPS * 4u - 1u)];
}

fn storeChannels(word: vec4<u32>, lane: u32) {
  if (lane < GROUPS * 4u) {
    channels[lane * 2u] = channelFour(word.x, word.y);
    channels[lane * 2u + 1u] = channelFour(word.z, word.w);
  }
}

// Scale and zero of a lane's token, or the scales of two tokens.
fn keyRangeAt(block: u32, group: u32, lane: u32) -> u32 {
  if (INT4) {
    return keys[block + KEY_SCALES_AT + group * 8u + lane / 4u][lane % 4u];
  }
  return keys[block + KEY_SCALES_AT + lane / 8u][lane % 8u / 2u];
}

// Scales and zeros of four tokens: a lane has a group and those that meet one word of codes.
fn valueRangesAt(block: u32, lane: u32) -> vec4<u32> {
  return values[block + VALUE_SCALES_AT + min(lane / 4u, GROUPS - 1u) * 8u + lane % 4u];
}
