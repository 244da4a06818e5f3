// attendDecode by f16 subgroup matrices, for heads that are too large for one subgroup's registers, and for one vector as key and
// value. It works like attendDecodeMatrix (a block of 32 tokens at a time for 8 query heads of one KV head, the columns of its
// matrices), but SPLIT subgroups share the dims. Each multiplies its own dims of queries and keys; the products are added in workgroup
// memory; all subgroups compute the same weights; and each sums its own dims of values. A value that is also a key is expanded once:
// matrices read the same [dim][token] rows by columns for scores and by rows for sums.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, spans, decodeScales, decodeScores, softcap, nibbles, unpack, channelFours, wideLoads, narrow
// <values>
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 256u;
// 0: keys and values are separate. Otherwise one vector is both: the cache holds TURNED rotated dims as keys, HEAD_DIM dims as values.
const TURNED: u32 = 0u;
// include: cacheValues
// Subgroups, each with at most 128 dims of values, and of keys.
const SPLIT: u32 = 2u;
const MOST_SPANS: u32 = 128u;
// Used by lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
const HAS_SOFTCAP: bool = false;
// </values>
const SUBGROUP: u32 = 32u;
const WORKGROUP: u32 = SPLIT * SUBGROUP;
// Query heads per workgroup.
const COLUMNS: u32 = 8u;
const SETS: u32 = (GROUP + COLUMNS - 1u) / COLUMNS;
const KEY_DIM: u32 = select(HEAD_DIM, TURNED, TURNED > 0u);
// Groups of 32 dims per subgroup.
const GROUPS: u32 = HEAD_DIM / 32u / SPLIT;
const KEY_GROUPS: u32 = KEY_DIM / 32u / SPLIT;

// include: decodeBindings
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;
// include: wideMemory

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  // The workgroup's span of positions of one row, for some of the query heads of one KV head.
  let single = spannedOf(workgroup.z);
  let last = single.lastPosition;
  let table = params.table + single.table;
  let places = placesOf(MOST_SPANS);
  let spans = spansOf(last, last, single.packed, PART, params.window, 32u, places);
  if (workgroup.x >= spans.count) {
    return; // Only another row of the step has this span.
  }
  let subgroup = local / SUBGROUP;
  let lane = local % SUBGROUP;
  let own = subgroup * STAGE_WORDS;
  let ownWeights = subgroup * 32u;
  let ownRanges = subgroup * 8u;
  let kvHead = workgroup.y / SETS;
  let firstHead = workgroup.y % SETS * COLUMNS;
  let start = spanStart(spans, workgroup.x);
  let end = min(spanStart(spans, workgroup.x + 1u), spans.end);
  // A block is looked up one block before it is loaded. After the span's last block, that block is loaded again; it is in the cache by
  // then.
  let lastBlock = (end - 1u) / 32u;
  let block = blockOf(table, start / 32u, params.kvHeads, kvHead);
  var nextBlock = blockOf(table, min(start / 32u + 1u, lastBlock), params.kvHeads, kvHead);
  // What a lane has loaded of its next block: for each group, the words of codes of its token and of its dim; scales.
  let ownKeys = subgroup * KEY_GROUPS;
  let ownValues = subgroup * GROUPS;
  var keyBlock = block * KEY_WORDS;
  var valueBlock = block * VALUE_WORDS;
  // each G 0..3
  var key{G}: vec4<u32>;
  var keyRange{G}: u32;
  var value{G}: vec4<u32>;
  // end
  // each G 0..3 if KEY_GROUPS > G
  key{G} = keys[keyBlock + (ownKeys + {G}u) * 32u + lane];
  keyRange{G} = wideKeyRange(keyBlock, ownKeys, {G}u, lane);
  // end
  // each G 0..3 if GROUPS > G
  value{G} = values[valueBlock + (ownValues + {G}u) * 32u + lane];
  // end
  var channelWords = channelWordsAt(keyBlock, ownKeys, lane);
  var lowRanges = wideValueRanges(valueBlock, ownValues, lane);
  var highRanges = wideValueRanges(valueBlock + 4u, ownValues, lane);
  var valueScale = valueScaleAt(valueBlock, lane);

  // Queries become matrices, each head divided by a factor. Four lanes have a head, each eight dims of a group; each subgroup has its
  // own groups.
  let query = ((single.row * params.kvHeads + kvHead) * GROUP + min(firstHead + lane / 4u, GROUP - 1u)) * (TURNED + HEAD_DIM);
  var largest = 0.0;
  // each G 0..3
  let keyQuery{G} = keyQueryAt(query, ownKeys, {G}u, lane);
  largest = max(largest, largestOf(keyQuery{G}));
  // end
  if (TURNED > 0u) {
    // each G 0..3 if GROUPS > G
    largest = max(largest, largestOf(valueQueryAt(query, ownValues + {G}u, lane)));
    // end
  }
  largest = max(largest, subgroupShuffleXor(largest, 1u));
  largest = max(largest, subgroupShuffleXor(largest, 2u));
  headFactors[subgroup * COLUMNS + lane / 4u] = largest;
  workgroupBarrier();
  // each S 1..3 if SPLIT > S
  largest = max(largest, headFactors[({S}u + subgroup) % SPLIT * COLUMNS + lane / 4u]);
  // end
  let factor = factorOf(bitcast<u32>(largest));
  let isScaled = subgroupAny(factor != 1.0);
  let inverse = inverseFactor(factor);
  // each P 0..7
  var q{P}: Right;
  var v{P}: Right;
  var sum{P}: Result;
  // end
  // each G 0..3 if KEY_GROUPS > G
  stageQuery(own, keyQuery{G}, inverse, lane);
  q{2 * G} = subgroupMatrixLoad<Right, col_major>(&stage, own, STRIDE);
  q{2 * G + 1} = subgroupMatrixLoad<Right, col_major>(&stage, own + 2u, STRIDE);
  // end
  if (TURNED > 0u) {
    // each G 0..3 if GROUPS > G
    stageQuery(own, valueQueryAt(query, ownValues + {G}u, lane), inverse, lane);
    v{2 * G} = subgroupMatrixLoad<Right, col_major>(&stage, own, STRIDE);
    v{2 * G + 1} = subgroupMatrixLoad<Right, col_major>(&stage, own + 2u, STRIDE);
    // end
  }
  if (local % 4u == 0u && subgroup == 0u) {
    headFactors[lane / 4u] = factor;
  }
  // Maxima of heads 0..3 and 4..7, which are uniform, and each lane's own sums.
  var lowMax = vec4<f32>(MASKED);
  var highMax = vec4<f32>(MASKED);
  var lowSumExp = vec4<f32>(0.0);
  var highSumExp = vec4<f32>(0.0);
  // Weights, and scores from values, are stored in the order in which codes of values unpack.
  let place = lane % 16u / 4u * 8u + lane / 16u * 4u + swapMiddle(lane % 4u);
  let high = select(1.0, VALUE_HIGH, lane >= 16u);

  for (var first = start; first < end; first += 32u) {
    // Slots that the query does not see may hold anything, NaN too.
    let visible = first + lane >= spans.oldest && first + lane <= last;
    let keyScale = select(1.0, halfScale(keyRange0, lane), TOKEN_SCALES);
    let scale = select(1.0, select(0.0, halfScale(valueScale, lane), visible), RQ4);
    // The next block is loaded as soon as this one's words are used.
    keyBlock = nextBlock * KEY_WORDS;
    valueBlock = nextBlock * VALUE_WORDS;
    nextBlock = blockOf(table, min(first / 32u + 2u, lastBlock), params.kvHeads, kvHead);
    if (INT4 && first + 31u > last) {
      lowRanges = seenRanges(lowRanges, first + lane % 4u * 4u, last);
      highRanges = seenRanges(highRanges, first + lane % 4u * 4u + 16u, last);
    }

    // S' = K Q', for tokens 0..15 and 16..31.
    storeChannels(channelWords, ownKeys, lane);
    channelWords = channelWordsAt(keyBlock, ownKeys, lane);
    var lowKeys = Result();
    var highKeys = Result();
    // each G 0..3 if KEY_GROUPS > G
    workgroupBarrier();
    stageKeys(own + lane * STRIDE, key{G}, keyRange{G}, (ownKeys + {G}u) * 8u);
    key{G} = keys[keyBlock + (ownKeys + {G}u) * 32u + lane];
    keyRange{G} = wideKeyRange(keyBlock, ownKeys, {G}u, lane);
    workgroupBarrier();
    // each P 0..1
    lowKeys = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, own + {2 * P}u, STRIDE), q{2 * G + P}, lowKeys);
    highKeys = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, own + 16u * STRIDE + {2 * P}u, STRIDE), q{2 * G + P}, highKeys);
    // end
    // end
    var lowValues = Result();
    var highValues = Result();
    if (TURNED > 0u) {
      // each G 0..3 if GROUPS > G
      workgroupBarrier();
      if (INT4) {
        wideStoreRanges(ownRanges, {G}u, lowRanges, highRanges, lane);
        workgroupBarrier();
      }
      stageValues(own + lane * STRIDE, value{G}, ownRanges);
      workgroupBarrier();
      // each P 0..1
      lowValues = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, col_major>(&stage, own + {16 * P}u * STRIDE, STRIDE), v{2 * G + P}, lowValues);
      highValues = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, col_major>(&stage, own + {16 * P}u * STRIDE + 2u, STRIDE), v{2 * G + P}, highValues);
      // end
      // end
    }
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&stage, own, lowKeys, SCORE_STRIDE);
    subgroupMatrixStore<row_major>(&stage, own + 16u * SCORE_STRIDE, highKeys, SCORE_STRIDE);
    if (TURNED > 0u) {
      subgroupMatrixStore<row_major>(&stage, own + VALUE_SCORES_AT, lowValues, SCORE_STRIDE);
      subgroupMatrixStore<row_major>(&stage, own + VALUE_SCORES_AT + 16u * SCORE_STRIDE, highValues, SCORE_STRIDE);
    }
    workgroupBarrier();

    // Online softmax, in powers of 2. The maximum includes the value's scale, since f16 must represent the product.
    let factor = max(scale, 2.98e-8);
    let lift = select(0.0, log2(factor), RQ4);
    var lowProducts = vec4<f32>(0.0);
    var highProducts = vec4<f32>(0.0);
    // each S 0..3 if SPLIT > S
    lowProducts += bitcast<vec4<f32>>(stage[{S}u * STAGE_WORDS + lane * SCORE_STRIDE]);
    highProducts += bitcast<vec4<f32>>(stage[{S}u * STAGE_WORDS + lane * SCORE_STRIDE + 1u]);
    // end
    lowProducts *= keyScale;
    highProducts *= keyScale;
    if (TURNED > 0u) {
      var lowMore = vec4<f32>(0.0);
      var highMore = vec4<f32>(0.0);
      // each S 0..3 if SPLIT > S
      lowMore += bitcast<vec4<f32>>(stage[{S}u * STAGE_WORDS + VALUE_SCORES_AT + place * SCORE_STRIDE]);
      highMore += bitcast<vec4<f32>>(stage[{S}u * STAGE_WORDS + VALUE_SCORES_AT + place * SCORE_STRIDE + 1u]);
      // end
      lowProducts += lowMore * (scale * high);
      highProducts += highMore * (scale * high);
    }
    if (isScaled) {
      lowProducts *= vec4<f32>(headFactors[0], headFactors[1], headFactors[2], headFactors[3]);
      highProducts *= vec4<f32>(headFactors[4], headFactors[5], headFactors[6], headFactors[7]);
    }
    let lowScores = select(vec4<f32>(MASKED), scoresOf(lowProducts, 1.0, lift), visible);
    let highScores = select(vec4<f32>(MASKED), scoresOf(highProducts, 1.0, lift), visible);
    let grows = subgroupAny(any(lowScores > lowMax + HEADROOM) || any(highScores > highMax + HEADROOM));
    if (local == 0u) { outgrown = u32(grows); }
    // The same for all subgroups, and written so that the compiler can see it.
    if (workgroupUniformLoad(&outgrown) != 0u) {
      let lowNext = max(lowMax, subgroupMax(lowScores));
      let highNext = max(highMax, subgroupMax(highScores));
      let lowRescale = exp2(lowMax - lowNext);
      let highRescale = exp2(highMax - highNext);
      lowMax = lowNext;
      highMax = highNext;
      lowSumExp *= lowRescale;
      highSumExp *= highRescale;
      if (first != start) {
        // each G 0..3 if GROUPS > G
        rescaleOwn(&sum{2 * G}, own, lowRescale, highRescale, lane);
        rescaleOwn(&sum{2 * G + 1}, own, lowRescale, highRescale, lane);
        // end
      }
    }
    let a = exp2(lowScores - lowMax);
    let b = exp2(highScores - highMax);
    let share = 1.0 / select(1.0, factor, RQ4);
    lowSumExp += a * share;
    highSumExp += b * share;
    let live = select(high, 0.0, scale == 0.0);
    weights[ownWeights + place] = smallHalvesOf(a * live, b * live);

    // O' += V' W, for tokens 0..15 and 16..31.
    // each G 0..3 if GROUPS > G
    // only G 1..3
    workgroupBarrier();
    // end
    if (INT4) {
      wideStoreRanges(ownRanges, {G}u, lowRanges, highRanges, lane);
      workgroupBarrier();
    }
    stageValues(own + lane * STRIDE, value{G}, ownRanges);
    value{G} = values[valueBlock + (ownValues + {G}u) * 32u + lane];
    workgroupBarrier();
    // only G 0..0
    let lowWeights = subgroupMatrixLoad<Right, row_major>(&weights, ownWeights, 1u);
    let highWeights = subgroupMatrixLoad<Right, row_major>(&weights, ownWeights + 16u, 1u);
    // end
    // each P 0..1
    sum{2 * G + P} = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, own + {16 * P}u * STRIDE, STRIDE), lowWeights, sum{2 * G + P});
    sum{2 * G + P} = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, own + {16 * P}u * STRIDE + 2u, STRIDE), highWeights, sum{2 * G + P});
    // end
    // end
    lowRanges = wideValueRanges(valueBlock, ownValues, lane);
    highRanges = wideValueRanges(valueBlock + 4u, ownValues, lane);
    valueScale = valueScaleAt(valueBlock, lane);
  }

  // Write the span's maxima, sums and O to its partials.
  let lowAll = subgroupAdd(lowSumExp);
  let highAll = subgroupAdd(highSumExp);
  let span = (((workgroup.z * params.kvHeads + kvHead) * GROUP + firstHead) * places + workgroup.x) * SPAN_STRIDE;
  let heads = min(COLUMNS, GROUP - firstHead);
  if (local < heads) {
    let most = select(highMax[lane % 4u], lowMax[lane % 4u], lane < 4u);
    let all = select(highAll[lane % 4u], lowAll[lane % 4u], lane < 4u);
    partials[span + lane * places * SPAN_STRIDE + FOURS] = vec4<f32>(most, all, 0.0, 0.0);
  }
  // each G 0..3 if GROUPS > G
  workgroupBarrier();
  subgroupMatrixStore<col_major>(&stage, own, sum{2 * G}, SUM_STRIDE);
  subgroupMatrixStore<col_major>(&stage, own + 4u, sum{2 * G + 1}, SUM_STRIDE);
  workgroupBarrier();
  storeOwn(span, places, own, ownValues + {G}u, heads, lane);
  // end
}
