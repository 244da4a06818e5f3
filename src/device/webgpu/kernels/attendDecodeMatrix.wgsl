// attendDecode by f16 subgroup matrices: one token's queries attend to a 4-bit cache. A workgroup is one subgroup. It takes a block of
// 32 tokens at a time for 8 query heads of one KV head, the columns of its matrices: S' = K Q', online softmax with one token per
// lane, O' += V' W. Codes become f16 in 3 KiB of workgroup memory, 32 dims at a time: so little that many workgroups hide each other's
// latency. O stays in matrix registers and is scaled down only when a maximum has grown 2^8 times, as in attendPromptMatrix. Weights
// include the values' scales of rq4, since f16 must represent their products. Registers have a name for each group G of 32 dims or
// piece of 16: compilers put arrays that a loop indexes into local memory, and Dawn puts an `if` around each matrix load whose offset
// is not constant. The loop's arithmetic is written out here: with functions over structs rq4 took 109 us after 131,072 tokens, with
// this text 73; int4 took 96 us with a function that reads its codes, 88 without one (H200).
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, spans, decodeScales, decodeScores, softcap, nibbles, unpack, queries, sums, narrow
// <values>
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 64u;
// include: cacheValues
const MOST_SPANS: u32 = 128u;
const PART: u32 = 0u;
const KEPT: u32 = 0u;
const HAS_SOFTCAP: bool = false;
// </values>
const SUBGROUP: u32 = 32u;
// Query heads per workgroup.
const COLUMNS: u32 = 8u;
// Heads 4..7 do not exist, and nothing of them is computed but in matrices. 32/8 heads after 131,072 tokens, H200: int4 89.1 -> 87.4 us,
// rq4 70.7 -> 68.3.
const FEW: bool = GROUP <= 4u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const SETS: u32 = (GROUP + COLUMNS - 1u) / COLUMNS;

// include: decodeBindings
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;
// include: decodeMemory

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  // The workgroup's span of positions of one row, for some of the query heads of one KV head.
  let single = spannedOf(workgroup.z);
  let last = single.lastPosition;
  let table = params.table + single.table;
  let places = placesOf(MOST_SPANS);
  let spans = spansOf(last, last, single.packed, PART, params.window, 32u, places);
  if (workgroup.x >= spans.count) {
    return; // Only another row of the step has this span.
  }
  let kvHead = workgroup.y / SETS;
  let firstHead = workgroup.y % SETS * COLUMNS;
  let start = spanStart(spans, workgroup.x);
  let end = min(spanStart(spans, workgroup.x + 1u), spans.end);
  // A block is looked up one block before it is loaded. After the span's last block, that block is loaded again; it is in the cache by
  // then.
  let lastBlock = (end - 1u) / 32u;
  let block = blockOf(table, start / 32u, params.kvHeads, kvHead);
  var nextBlock = blockOf(table, min(start / 32u + 1u, lastBlock), params.kvHeads, kvHead);
  // Queries are loaded first, because their addresses are known before those of codes.
  let firstQuery = (single.row * params.kvHeads + kvHead) * GROUP;
  // each G 0..3
  let query{G} = queriesAt(firstQuery, firstHead, {G}u, lane);
  // end
  // What a lane has loaded of its next block: for each group, the words of codes of its token and of its dim; scales.
  var keyBlock = block * KEY_WORDS;
  var valueBlock = block * VALUE_WORDS;
  // each G 0..3
  var key{G}: vec4<u32>;
  var keyRange{G}: u32;
  var value{G}: vec4<u32>;
  // end
  // each G 0..3 if GROUPS > G
  key{G} = keys[keyBlock + lane + {32 * G}u];
  value{G} = values[valueBlock + lane + {32 * G}u];
  // end
  var valueScale: u32;
  var lowRanges: vec4<u32>;
  var highRanges: vec4<u32>;
  keyRange0 = keyRangeAt(keyBlock, 0u, lane);
  if (INT4) {
    // each G 1..3 if GROUPS > G
    keyRange{G} = keyRangeAt(keyBlock, {G}u, lane);
    // end
    lowRanges = valueRangesAt(valueBlock, lane);
    highRanges = valueRangesAt(valueBlock + 4u, lane);
  } else {
    valueScale = valueScaleAt(valueBlock, lane);
  }

  // Queries become matrices, each head divided by a factor. Four lanes have a head.
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
  // Maxima of heads 0..3 and 4..7, which are uniform, and each lane's own sums.
  var lowMax = vec4<f32>(MASKED);
  var highMax = vec4<f32>(MASKED);
  var lowSumExp = vec4<f32>(0.0);
  var highSumExp = vec4<f32>(0.0);
  // Weights are stored in the order in which codes of values unpack.
  let place = lane % 16u / 4u * 8u + lane / 16u * 4u + swapMiddle(lane % 4u);

  for (var first = start; first < end; first += 32u) {
    // Slots that the query does not see may hold anything, NaN too.
    let visible = first + lane >= spans.oldest && first + lane <= last;
    let keyScale = halfScale(keyRange0, lane);
    let scale = select(0.0, halfScale(valueScale, lane), visible);
    // The next block is loaded as soon as this one's words are used.
    keyBlock = nextBlock * KEY_WORDS;
    valueBlock = nextBlock * VALUE_WORDS;
    nextBlock = blockOf(table, min(first / 32u + 2u, lastBlock), params.kvHeads, kvHead);

    // S' = K Q', for tokens 0..15 and 16..31.
    var low = Result();
    var high = Result();
    // each G 0..3 if GROUPS > G
    workgroupBarrier();
    let keyWords{G} = key{G};
    // each W 0..3
    stage[lane * STRIDE + {W}u] = key(keyWords{G}[{W}u], keyRange{G});
    // end
    key{G} = keys[keyBlock + lane + {32 * G}u];
    if (INT4 || {G}u == 0u) {
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

    // Online softmax, in powers of 2. The maximum includes the value's scale, since f16 must represent the product.
    let factor = max(scale, 2.98e-8);
    let lift = select(0.0, log2(factor), RQ4);
    var lowProducts = bitcast<vec4<f32>>(stage[lane * SCORE_STRIDE]);
    var highProducts = bitcast<vec4<f32>>(stage[lane * SCORE_STRIDE + 1u]);
    if (isScaled) {
      lowProducts *= vec4<f32>(headFactors[0], headFactors[1], headFactors[2], headFactors[3]);
      highProducts *= vec4<f32>(headFactors[4], headFactors[5], headFactors[6], headFactors[7]);
    }
    let lowScores = select(vec4<f32>(MASKED), scoresOf(lowProducts, keyScale, lift), visible);
    var highScores = vec4<f32>(MASKED);
    if (!FEW) { highScores = select(vec4<f32>(MASKED), scoresOf(highProducts, keyScale, lift), visible); }
    let grows = subgroupAny(any(lowScores > lowMax + HEADROOM) || any(highScores > highMax + HEADROOM));
    if (lane == 0u) { outgrown = u32(grows); }
    // Uniform, and written so that the compiler can see it.
    if (workgroupUniformLoad(&outgrown) != 0u) {
      let lowNext = max(lowMax, subgroupMax(lowScores));
      var highNext = highMax;
      if (!FEW) { highNext = max(highMax, subgroupMax(highScores)); }
      let lowRescale = exp2(lowMax - lowNext);
      let highRescale = exp2(highMax - highNext);
      lowMax = lowNext;
      highMax = highNext;
      lowSumExp *= lowRescale;
      if (!FEW) { highSumExp *= highRescale; }
      if (first != start) {
        // each G 0..3 if GROUPS > G
        rescalePiece(&sum{2 * G}, lowRescale, highRescale, lane);
        rescalePiece(&sum{2 * G + 1}, lowRescale, highRescale, lane);
        // end
      }
    }
    let a = exp2(lowScores - lowMax);
    var b = vec4<f32>(0.0);
    if (!FEW) { b = exp2(highScores - highMax); }
    if (RQ4) {
      let share = 1.0 / factor;
      lowSumExp += a * share;
      if (!FEW) { highSumExp += b * share; }
      let live = select(select(1.0, VALUE_HIGH, lane >= 16u), 0.0, scale == 0.0);
      weights[place] = smallHalvesOf(a * live, b * live);
      valueScale = valueScaleAt(valueBlock, lane);
    } else {
      lowSumExp += a;
      if (!FEW) { highSumExp += b; }
      weights[place] = smallHalvesOf(a, b);
    }

    if (INT4 && first + 31u > last) {
      lowRanges = seenRanges(lowRanges, first + lane % 4u * 4u, last);
      highRanges = seenRanges(highRanges, first + lane % 4u * 4u + 16u, last);
    }

    // O' += V' W, for tokens 0..15 and 16..31.
    // each G 0..3 if GROUPS > G
    // only G 1..3
    workgroupBarrier();
    // end
    if (INT4) {
      storeRanges({G}u, lowRanges, highRanges, lane);
      workgroupBarrier();
    }
    let valueWords{G} = value{G};
    // each W 0..3
    stage[lane * STRIDE + {W}u] = value(valueWords{G}[{W}u], {2 * W}u);
    // end
    value{G} = values[valueBlock + lane + {32 * G}u];
    workgroupBarrier();
    // only G 0..0
    let lowWeights = subgroupMatrixLoad<Right, row_major>(&weights, 0u, 1u);
    let highWeights = subgroupMatrixLoad<Right, row_major>(&weights, 16u, 1u);
    // end
    // each P 0..1
    sum{2 * G + P} = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, {16 * P}u * STRIDE, STRIDE), lowWeights, sum{2 * G + P});
    sum{2 * G + P} = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, {16 * P}u * STRIDE + 2u, STRIDE), highWeights, sum{2 * G + P});
    // end
    // end
    if (INT4) {
      lowRanges = valueRangesAt(valueBlock, lane);
      highRanges = valueRangesAt(valueBlock + 4u, lane);
    }
  }

  // Write the span's maxima, sums and O to its partials.
  let lowAll = subgroupAdd(lowSumExp);
  let highAll = subgroupAdd(highSumExp);
  let span = (((workgroup.z * params.kvHeads + kvHead) * GROUP + firstHead) * places + workgroup.x) * SPAN_STRIDE;
  let heads = min(COLUMNS, GROUP - firstHead);
  if (lane < heads) {
    let most = select(highMax[lane % 4u], lowMax[lane % 4u], lane < 4u);
    let all = select(highAll[lane % 4u], lowAll[lane % 4u], lane < 4u);
    partials[span + lane * places * SPAN_STRIDE + FOURS] = vec4<f32>(most, all, 0.0, 0.0);
  }
  // each G 0..3 if GROUPS > G
  workgroupBarrier();
  subgroupMatrixStore<col_major>(&stage, 0u, sum{2 * G}, SUM_STRIDE);
  subgroupMatrixStore<col_major>(&stage, 4u, sum{2 * G + 1}, SUM_STRIDE);
  workgroupBarrier();
  storeSums(span, places, {G}u, heads, lane);
  // end
}
