// attendDecode by f16 subgroup matrices over packed pages: keys by channel and rotated values, in 4 or 3 bits. Works like
// attendDecodeMatrix: a workgroup is one subgroup and takes the queries of one token, blocks of 32 cached tokens one after the other,
// and 8 query heads of one KV head, which are the columns of its matrices. Codes are not expanded: a code in the low bits of a float16
// is the subnormal number code * 2^-24, which matrices multiply exactly, so a mask makes two halves of a word. The rest of the format is
// applied elsewhere: a channel's scale to the queries, once a page; its zero to a sum for each head; a value's scale to its weight;
// the middle of the values' codes to the sums, at the end. So workgroup memory holds no scales as f16. After 131,072 tokens kv4 takes
// 138 us with 4.1 KiB of workgroup memory and 86 with 3.1, with which a core holds twelve workgroups, as many as their registers allow
// (H200). With zeros by a product of matrices it takes 12 us more. rq4 has no channels and is faster with attendDecodeMatrix: 74 us, here 80.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, spans, decodeScores, softcap, nibbles, planes, packedCodes, queries, sums, narrow
// <values>
// Query heads that share a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 64u;
// include: cacheValues
const MOST_SPANS: u32 = 128u;
// For lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
const HAS_SOFTCAP: bool = false;
// </values>

const SUBGROUP: u32 = 32u;
// Query heads of a workgroup.
const COLUMNS: u32 = 8u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const KEY_GROUPS: u32 = GROUPS;
const SETS: u32 = (GROUP + COLUMNS - 1u) / COLUMNS;

// include: decodeBindings
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 8, 16>;
alias Result = subgroup_matrix_result<f32, 8, 16>;

// What `stage` holds. At the beginning: zeros and scales of channels, later the weights [token][head]. From CODES_AT on: the queries
// [head][dim], then in turn keys [token][dim], scores [token][head] and values [dim][token]. At the end: sums [head][32 dims]. Rows have
// an odd number of 16-byte words, which avoids bank conflicts.
const CODES_AT: u32 = 32u;
const STRIDE: u32 = 5u;
const SCORE_STRIDE: u32 = 3u;
const SUM_STRIDE: u32 = 9u;
const QUERY_STRIDE: u32 = 17u;
var<workgroup> stage: array<vec4<u32>, CODES_AT + 32u * STRIDE>;
// By head: the factor of products with its query, which is stored as f16, and what the zeros of channels add to them.
var<workgroup> headFactors: array<vec4<f32>, 2>;
var<workgroup> headZeros: array<vec4<f32>, 2>;
// By head: the maximum of its scores. In registers, of which each lane would need eight, k3c-v3r takes 145 us, because a core then holds
// only eight workgroups; like this it takes 107.
var<workgroup> maxima: array<vec4<f32>, 2>;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  // The workgroup computes one span of positions of one row, for some of the query heads of one KV head.
  let single = spannedOf(workgroup.z);
  let last = single.lastPosition;
  let table = params.table + single.table;
  let places = placesOf(MOST_SPANS);
  let spans = spansOf(last, last, single.packed, PART, params.window, 32u, places);
  if (workgroup.x >= spans.count) {
    // Another row of the step has more spans.
    return;
  }
  let kvHead = workgroup.y / SETS;
  let firstHead = workgroup.y % SETS * COLUMNS;
  let start = spanStart(spans, workgroup.x);
  let end = min(spanStart(spans, workgroup.x + 1u), spans.end);
  // A block is looked up one block before it is loaded. After the span's last block, the last block is loaded again: it is cached by then.
  let lastBlock = (end - 1u) / 32u;
  var block = blockOf(table, start / 32u, params.kvHeads, kvHead);
  var nextBlock = blockOf(table, min(start / 32u + 1u, lastBlock), params.kvHeads, kvHead);
  // A lane has every fourth word of the queries of head lane % 8. So eight neighbours store eight rows without a bank conflict (2 us).
  let queryHead = lane % 8u;
  let queryWord = lane / 8u;
  // Queries are loaded first, because their addresses are known before those of the codes.
  let firstQuery = (single.row * params.kvHeads + kvHead) * GROUP;
  // each G 0..3
  let query{G} = queriesAt(firstQuery, firstHead, {G}u, queryHead * 4u + queryWord);
  // end
  // What a lane has loaded of the next block: for each group the codes of its token's key and of its dim's values, and scales.
  var keyBlock = block * KEY_WORDS;
  var valueBlock = block * VALUE_WORDS;
  // each G 0..3
  var key{G}: vec4<u32>;
  var value{G}: vec4<u32>;
  // end
  // each G 0..3 if GROUPS > G
  if (KEY_BITS == 3u) { key{G} = keyCodes(keyBlock, {G}u, lane); } else { key{G} = keys[keyBlock + lane + {32 * G}u]; }
  if (VALUE_BITS == 3u) { value{G} = valueCodes(valueBlock, lane + {32 * G}u); } else { value{G} = values[valueBlock + lane + {32 * G}u]; }
  // end
  var channelWords = channelWordsAt(keyBlock, lane);
  var valueScales = valueScaleAt(valueBlock, lane);

  // Queries as halves, those of each head divided by a factor, which its four lanes have in common.
  let factor = queryFactor(query0, query1, query2, query3);
  let inverse = inverseFactor(factor);
  let shares = keyShares(queryWord);
  // each G 0..3
  let half{G} = halvesOf(query{G}[0] * inverse * shares.xxyy, query{G}[1] * inverse * shares.zzww);
  // end
  if (queryWord == 0u) {
    headFactors[queryHead / 4u][queryHead % 4u] = factor;
  }
  // each P 0..7
  var q{P}: Right;
  var sum{P}: Result;
  // end
  let channelShares = keyShares(lane % 4u);
  storeChannels(channelWords, channelShares, lane);
  if (lane < 2u) {
    maxima[lane] = vec4<f32>(MASKED);
  }
  // Each lane sums the weights, and the weights times scales, of its own tokens.
  var lowSumExp = vec4<f32>(0.0);
  var highSumExp = vec4<f32>(0.0);
  var lowScaled = vec4<f32>(0.0);
  var highScaled = vec4<f32>(0.0);
  // Weights are stored in the order in which the codes of values unpack. Codes at a lower place in a word are smaller numbers, so their
  // weights are larger by the same factor.
  let codeScale = RAISED * valueShares(lane % 16u / 4u)[lane % 2u + lane / 16u * 2u];
  let place = lane % 16u / 4u * 8u + lane / 16u * 4u + swapMiddle(lane % 4u);

  for (var first = start; first < end; first += 32u) {
    // A slot that the query does not see may hold anything, also NaN.
    let visible = first + lane >= spans.oldest && first + lane <= last;
    let scale = select(0.0, scaleOf(valueScales, lane), visible);
    // Keys and values of the next block are loaded as soon as those of this block are used.
    block = nextBlock;
    keyBlock = nextBlock * KEY_WORDS;
    valueBlock = nextBlock * VALUE_WORDS;
    nextBlock = blockOf(table, min(first / 32u + 2u, lastBlock), params.kvHeads, kvHead);

    // The queries, scaled by this page's channels.
    workgroupBarrier();
    var zero = 0.0;
    // each G 0..3 if GROUPS > G
    let scaled{G} = scaledHalves(half{G}, stage[SCALES_AT + queryWord + {4 * G}u]);
    stage[CODES_AT + queryHead * QUERY_STRIDE + queryWord + {4 * G}u] = scaled{G};
    zero += dotHalves(scaled{G}, stage[queryWord + {4 * G}u]);
    // end
    zero += subgroupShuffleXor(zero, 8u);
    zero += subgroupShuffleXor(zero, 16u);
    if (queryWord == 0u) {
      headZeros[queryHead / 4u][queryHead % 4u] = zero;
    }
    channelWords = channelWordsAt(keyBlock, lane);
    workgroupBarrier();
    // each G 0..3 if GROUPS > G
    q{2 * G} = subgroupMatrixLoad<Right, col_major>(&stage, CODES_AT + {4 * G}u, QUERY_STRIDE);
    q{2 * G + 1} = subgroupMatrixLoad<Right, col_major>(&stage, CODES_AT + {4 * G + 2}u, QUERY_STRIDE);
    // end
    // S' = K Q', for tokens 0..15 and 16..31.
    var low = Result();
    var high = Result();
    // each G 0..3 if GROUPS > G
    workgroupBarrier();
    if (KEY_BITS == 3u) {
      let halves = threeBitHalves(key{G});
      // each W 0..3
      stage[CODES_AT + lane * STRIDE + {W}u] = halves[{W}u];
      // end
    } else {
      // each W 0..3
      stage[CODES_AT + lane * STRIDE + {W}u] = codeHalves(key{G}[{W}u]);
      // end
    }
    if (KEY_BITS == 3u) { key{G} = keyCodes(keyBlock, {G}u, lane); } else { key{G} = keys[keyBlock + lane + {32 * G}u]; }
    workgroupBarrier();
    // each P 0..1
    low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, CODES_AT + {2 * P}u, STRIDE), q{2 * G + P}, low);
    high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, CODES_AT + 16u * STRIDE + {2 * P}u, STRIDE), q{2 * G + P}, high);
    // end
    // end
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&stage, CODES_AT, low, SCORE_STRIDE);
    subgroupMatrixStore<row_major>(&stage, CODES_AT + 16u * SCORE_STRIDE, high, SCORE_STRIDE);
    workgroupBarrier();

    // Online softmax, in powers of 2. The maximum includes the value's scale, because f16 has to hold the product of both.
    let factor = max(scale, 2.98e-8);
    let lift = log2(factor);
    let lowProducts = (bitcast<vec4<f32>>(stage[CODES_AT + lane * SCORE_STRIDE]) * UNIT + headZeros[0]) * headFactors[0];
    let highProducts = (bitcast<vec4<f32>>(stage[CODES_AT + lane * SCORE_STRIDE + 1u]) * UNIT + headZeros[1]) * headFactors[1];
    let lowScores = select(vec4<f32>(MASKED), scoresOf(lowProducts, 1.0, lift), visible);
    let highScores = select(vec4<f32>(MASKED), scoresOf(highProducts, 1.0, lift), visible);
    var lowMax = maxima[0];
    var highMax = maxima[1];
    let grows = subgroupAny(any(lowScores > lowMax + HEADROOM) || any(highScores > highMax + HEADROOM));
    if (lane == 0u) { outgrown = u32(grows); }
    // Weights are at most 2^HEADROOM. A vector of zeros has no scale. Weights are stored as if no maximum had grown, as is nearly always
    // so after the first block; otherwise they are stored once more.
    let live = select(1.0, 0.0, scale == 0.0);
    let share = 1.0 / factor;
    var a = exp2(lowScores - lowMax);
    var b = exp2(highScores - highMax);
    stage[place] = smallHalvesOf(a * (live * codeScale), b * (live * codeScale));
    valueScales = valueScaleAt(valueBlock, lane);
    // The same for all lanes; this load tells the compiler so.
    if (workgroupUniformLoad(&outgrown) != 0u) {
      let lowNext = max(lowMax, subgroupMax(lowScores));
      let highNext = max(highMax, subgroupMax(highScores));
      let lowRescale = exp2(lowMax - lowNext);
      let highRescale = exp2(highMax - highNext);
      lowMax = lowNext;
      highMax = highNext;
      if (lane == 0u) {
        maxima[0] = lowNext;
        maxima[1] = highNext;
      }
      lowSumExp *= lowRescale;
      highSumExp *= highRescale;
      lowScaled *= lowRescale;
      highScaled *= highRescale;
      a = exp2(lowScores - lowMax);
      b = exp2(highScores - highMax);
      if (first != start) {
        // each G 0..3 if GROUPS > G
        rescalePiece(&sum{2 * G}, lowRescale, highRescale, lane);
        rescalePiece(&sum{2 * G + 1}, lowRescale, highRescale, lane);
        // end
      }
      stage[place] = smallHalvesOf(a * (live * codeScale), b * (live * codeScale));
    }
    lowSumExp += a * share;
    highSumExp += b * share;
    lowScaled += a * live;
    highScaled += b * live;

    // O' += V' W, for tokens 0..15 and 16..31.
    // each G 0..3 if GROUPS > G
    // only G 1..3
    workgroupBarrier();
    // end
    if (VALUE_BITS == 3u) {
      let halves = threeBitHalves(value{G});
      // each W 0..3
      stage[CODES_AT + lane * STRIDE + {W}u] = halves[{W}u];
      // end
    } else {
      // each W 0..3
      stage[CODES_AT + lane * STRIDE + {W}u] = codeHalves(value{G}[{W}u]);
      // end
    }
    if (VALUE_BITS == 3u) { value{G} = valueCodes(valueBlock, lane + {32 * G}u); } else { value{G} = values[valueBlock + lane + {32 * G}u]; }
    workgroupBarrier();
    // only G 0..0
    let lowWeights = subgroupMatrixLoad<Right, row_major>(&stage, 0u, 1u);
    let highWeights = subgroupMatrixLoad<Right, row_major>(&stage, 16u, 1u);
    // end
    // each P 0..1
    sum{2 * G + P} = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, CODES_AT + {16 * P}u * STRIDE, STRIDE), lowWeights, sum{2 * G + P});
    // end
    // each P 0..1
    sum{2 * G + P} = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, CODES_AT + {16 * P}u * STRIDE + 2u, STRIDE), highWeights, sum{2 * G + P});
    // end
    // end
    if (GROUPS == 1u) {
      workgroupBarrier();
    }
    storeChannels(channelWords, channelShares, lane);
  }

  // Write the span's maxima, sums and O to its partials.
  let lowAll = subgroupAdd(lowSumExp);
  let highAll = subgroupAdd(highSumExp);
  let lowMiddles = subgroupAdd(lowScaled) * VALUE_MIDDLE;
  let highMiddles = subgroupAdd(highScaled) * VALUE_MIDDLE;
  let span = (((workgroup.z * params.kvHeads + kvHead) * GROUP + firstHead) * places + workgroup.x) * SPAN_STRIDE;
  let heads = min(COLUMNS, GROUP - firstHead);
  if (lane < heads) {
    let most = maxima[lane / 4u][lane % 4u];
    let all = select(highAll[lane % 4u], lowAll[lane % 4u], lane < 4u);
    partials[span + lane * places * SPAN_STRIDE + FOURS] = vec4<f32>(most, all, 0.0, 0.0);
  }
  // each G 0..3 if GROUPS > G
  workgroupBarrier();
  subgroupMatrixStore<col_major>(&stage, 0u, sum{2 * G}, SUM_STRIDE);
  subgroupMatrixStore<col_major>(&stage, 4u, sum{2 * G + 1}, SUM_STRIDE);
  workgroupBarrier();
  storeCentred(span, places, {G}u, heads, lowMiddles[lane / 8u], highMiddles[lane / 8u], lane);
  // end
}
