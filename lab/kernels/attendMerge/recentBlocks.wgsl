// attendDecodePacked's spans of positions that are not packed: a block of 32 float16 keys and values at a time, by the same matrices.
// Sums are rotated as packed values are, so that attendMerge joins all spans alike. The kernel declares what is named in capitals, the
// bindings, `stage`, `headFactors` and `maxima`; it appends packedCodes.

const CHUNKS: u32 = HEAD_DIM / 8u;
const RECENT_WORDS: u32 = CHUNKS * 32u;

// span: the first of its partials.
fn attendRecent(spans: Spans, index: u32, single: Spanned, kvHead: u32, firstHead: u32, span: u32, places: u32, lane: u32) {
  let gap = gapOf(single.packed);
  let start = spans.first + index * spans.tokens;
  let end = min(start + spans.tokens, spans.end);
  let firstQuery = (single.row * params.kvHeads + kvHead) * GROUP;
  let queryHead = lane % 8u;
  let queryWord = lane / 8u;
  // each G 0..3
  let query{G} = recentQueries(firstQuery, firstHead, {G}u, queryHead, queryWord);
  // end
  let factor = queryFactor(query0, query1, query2, query3);
  let inverse = inverseFactor(factor);
  if (queryWord == 0u) {
    headFactors[queryHead / 4u][queryHead % 4u] = factor;
  }
  // each P 0..7
  var q{P}: Right;
  var sum{P}: Result;
  // end
  // each G 0..3 if GROUPS > G
  stage[CODES_AT + queryHead * QUERY_STRIDE + queryWord + {4 * G}u] = halvesOf(query{G}[0] * inverse, query{G}[1] * inverse);
  // end
  workgroupBarrier();
  // each G 0..3 if GROUPS > G
  q{2 * G} = subgroupMatrixLoad<Right, col_major>(&stage, CODES_AT + {4 * G}u, QUERY_STRIDE);
  q{2 * G + 1} = subgroupMatrixLoad<Right, col_major>(&stage, CODES_AT + {4 * G + 2}u, QUERY_STRIDE);
  // end
  var lowMax = vec4<f32>(MASKED);
  var highMax = vec4<f32>(MASKED);
  var lowSumExp = vec4<f32>(0.0);
  var highSumExp = vec4<f32>(0.0);
  for (var first = start; first < end; first += 32u) {
    let token = positionAt(gap, first + lane);
    let visible = first + lane < end && token >= spans.oldest;
    let page = blockOf(params.recentTable + single.table, positionAt(gap, first) / 32u, params.kvHeads, kvHead) * RECENT_WORDS;
    var low = Result();
    var high = Result();
    // each W 0..3
    var eight{W} = recentKey(page, {W}u, lane);
    // end
    // each G 0..3 if GROUPS > G
    workgroupBarrier();
    // each W 0..3
    stage[CODES_AT + lane * STRIDE + {W}u] = eight{W};
    // end
    // each W 0..3
    eight{W} = recentKey(page, {4 * G + 4 + W}u, lane);
    // end
    workgroupBarrier();
    // each P 0..1
    low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, CODES_AT + {2 * P}u, STRIDE), q{2 * G + P}, low);
    high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, CODES_AT + 16u * STRIDE + {2 * P}u, STRIDE), q{2 * G + P}, high);
    // end
    // end
    // each W 0..3
    eight{W} = recentValue(page, {W}u, lane, visible);
    // end
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&stage, CODES_AT, low, SCORE_STRIDE);
    subgroupMatrixStore<row_major>(&stage, CODES_AT + 16u * SCORE_STRIDE, high, SCORE_STRIDE);
    workgroupBarrier();
    let lowProducts = bitcast<vec4<f32>>(stage[CODES_AT + lane * SCORE_STRIDE]) * headFactors[0];
    let highProducts = bitcast<vec4<f32>>(stage[CODES_AT + lane * SCORE_STRIDE + 1u]) * headFactors[1];
    let lowScores = select(vec4<f32>(MASKED), scoresOf(lowProducts, 1.0, 0.0), visible);
    let highScores = select(vec4<f32>(MASKED), scoresOf(highProducts, 1.0, 0.0), visible);
    let lowNext = max(lowMax, subgroupMax(lowScores));
    let highNext = max(highMax, subgroupMax(highScores));
    let lowRescale = exp2(lowMax - lowNext);
    let highRescale = exp2(highMax - highNext);
    lowMax = lowNext;
    highMax = highNext;
    if (first != start) {
      // each G 0..3 if GROUPS > G
      rescalePiece(&sum{2 * G}, lowRescale, highRescale, lane);
      rescalePiece(&sum{2 * G + 1}, lowRescale, highRescale, lane);
      // end
    }
    let live = select(0.0, 1.0, visible);
    let a = exp2(lowScores - lowMax) * live;
    let b = exp2(highScores - highMax) * live;
    lowSumExp = lowSumExp * lowRescale + a;
    highSumExp = highSumExp * highRescale + b;
    workgroupBarrier();
    // At most 1.
    stage[lane] = smallHalvesOf(a, b);
    // each G 0..3 if GROUPS > G
    // only G 1..3
    workgroupBarrier();
    // end
    // each W 0..3
    stage[CODES_AT + lane * STRIDE + {W}u] = eight{W};
    // end
    // each W 0..3
    eight{W} = recentValue(page, {4 * G + 4 + W}u, lane, visible);
    // end
    workgroupBarrier();
    // only G 0..0
    let lowWeights = subgroupMatrixLoad<Right, row_major>(&stage, 0u, 1u);
    let highWeights = subgroupMatrixLoad<Right, row_major>(&stage, 16u, 1u);
    // end
    // each P 0..1
    sum{2 * G + P} = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, col_major>(&stage, CODES_AT + {2 * P}u, STRIDE), lowWeights, sum{2 * G + P});
    sum{2 * G + P} = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, col_major>(&stage, CODES_AT + 16u * STRIDE + {2 * P}u, STRIDE), highWeights, sum{2 * G + P});
    // end
    // end
  }

  let lowAll = subgroupAdd(lowSumExp);
  let highAll = subgroupAdd(highSumExp);
  let heads = min(COLUMNS, GROUP - firstHead);
  if (lane < heads) {
    let most = select(highMax[lane % 4u], lowMax[lane % 4u], lane < 4u);
    let all = select(highAll[lane % 4u], lowAll[lane % 4u], lane < 4u);
    partials[span + lane * places * SPAN_STRIDE + FOURS] = vec4<f32>(most, all, 0.0, 0.0);
  }
  // Four dims of head lane / 8 and four heads later, of each group.
  // each G 0..3
  var low{G} = vec4<f32>(0.0);
  var high{G} = vec4<f32>(0.0);
  // end
  // each G 0..3 if GROUPS > G
  workgroupBarrier();
  subgroupMatrixStore<col_major>(&stage, 0u, sum{2 * G}, SUM_STRIDE);
  subgroupMatrixStore<col_major>(&stage, 4u, sum{2 * G + 1}, SUM_STRIDE);
  workgroupBarrier();
  low{G} = rotatedWithin(bitcast<vec4<f32>>(stage[lane / 8u * SUM_STRIDE + lane % 8u]), {8 * G}u, lane);
  high{G} = rotatedWithin(bitcast<vec4<f32>>(stage[(lane / 8u + 4u) * SUM_STRIDE + lane % 8u]), {8 * G}u, lane);
  // end
  if (rotationBlock(HEAD_DIM) > 32u) {
    acrossGroups(&low0, &low1);
    acrossGroups(&high0, &high1);
    acrossGroups(&low2, &low3);
    acrossGroups(&high2, &high3);
  }
  if (rotationBlock(HEAD_DIM) > 64u) {
    acrossGroups(&low0, &low2);
    acrossGroups(&high0, &high2);
    acrossGroups(&low1, &low3);
    acrossGroups(&high1, &high3);
  }
  // each G 0..3 if GROUPS > G
  storeRotated(span, places, {8 * G}u + lane % 8u, heads, low{G}, high{G}, lane);
  // end
}

// Eight of a group's dims of a query head, scaled.
fn recentQueries(heads: u32, firstHead: u32, group: u32, head: u32, word: u32) -> array<vec4<f32>, 2> {
  let four = group * 8u + word * 2u;
  if (four >= FOURS) {
    return array<vec4<f32>, 2>();
  }
  let at = (heads + min(firstHead + head, GROUP - 1u)) * FOURS + four;
  return array<vec4<f32>, 2>(queries[at] * params.scale, queries[at + 1u] * params.scale);
}

fn recentKey(page: u32, chunk: u32, lane: u32) -> vec4<u32> {
  if (chunk >= CHUNKS) {
    return vec4<u32>(0u);
  }
  return recentKeys[page + chunk * 32u + lane];
}

// What a slot holds that the query does not see may be anything, NaN too.
fn recentValue(page: u32, chunk: u32, lane: u32, visible: bool) -> vec4<u32> {
  if (chunk >= CHUNKS) {
    return vec4<u32>(0u);
  }
  return select(vec4<u32>(0u), recentValues[page + lane * CHUNKS + chunk], visible);
}

// The rotation of four dims, as far as eight lanes hold them (lib/rotation.wgsl). attendMerge rotates back with rotationFactor.
fn rotatedWithin(values: vec4<f32>, firstFour: u32, lane: u32) -> vec4<f32> {
  let d = (firstFour + lane % 8u) * 4u;
  let factor = 1.0 / (f32(rotationBlock(HEAD_DIM)) * rotationFactor(HEAD_DIM));
  var sum = factor * vec4<f32>(
    flippedSign(values.x, d), flippedSign(values.y, d + 1u), flippedSign(values.z, d + 2u), flippedSign(values.w, d + 3u));
  sum = vec4<f32>(sum.xy + sum.zw, sum.xy - sum.zw).xzyw;
  sum = vec4<f32>(sum.xy + sum.zw, sum.xy - sum.zw).xzyw;
  for (var stride = 1u; stride < min(8u, rotationBlock(HEAD_DIM) / 4u); stride *= 2u) {
    let other = vec4<f32>(
      subgroupShuffleXor(sum.x, stride), subgroupShuffleXor(sum.y, stride), subgroupShuffleXor(sum.z, stride), subgroupShuffleXor(sum.w, stride));
    sum = select(sum + other, other - sum, (lane & stride) != 0u);
  }
  return sum;
}

fn acrossGroups(a: ptr<function, vec4<f32>>, b: ptr<function, vec4<f32>>) {
  let sum = *a + *b;
  *b = *a - *b;
  *a = sum;
}

fn storeRotated(span: u32, places: u32, four: u32, heads: u32, low: vec4<f32>, high: vec4<f32>, lane: u32) {
  if (four < FOURS) {
    if (lane / 8u < heads) {
      partials[span + lane / 8u * places * SPAN_STRIDE + four] = low;
    }
    if (lane / 8u + 4u < heads) {
      partials[span + (lane / 8u + 4u) * places * SPAN_STRIDE + four] = high;
    }
  }
}
