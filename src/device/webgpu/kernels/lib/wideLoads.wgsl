// Loads, expands and stores the dims of attendDecodeWide's subgroups. The kernel declares the constants, the bindings and the
// workgroup's memory; it appends decodeScales, nibbles, unpack and channelFours.

// Words of partials per head: its sums, then the maximum and the sum of weights.
const FOURS: u32 = HEAD_DIM / 4u;
const SPAN_STRIDE: u32 = FOURS + 1u;

// For the subgroup's groups. Keys by channel have none, and a token's scale is loaded with its first group.
fn wideKeyRange(block: u32, firstGroup: u32, group: u32, lane: u32) -> u32 {
  if (!INT4 && (CHANNEL || group > 0u)) {
    return 0u;
  }
  return keyRangeAt(block, firstGroup + group, lane);
}

// For the subgroup's groups; decodeScales counts groups from the block's first.
fn wideValueRanges(block: u32, firstGroup: u32, lane: u32) -> vec4<u32> {
  if (!INT4) {
    return vec4<u32>();
  }
  return valueRangesAt(block + firstGroup * 8u, lane);
}

// Scales and zeros of the four dims that a lane loads for its subgroup.
fn channelWordsAt(block: u32, firstGroup: u32, lane: u32) -> vec2<u32> {
  if (!CHANNEL) {
    return vec2<u32>();
  }
  let four = firstGroup * 8u + min(lane, KEY_GROUPS * 8u - 1u);
  let word = keys[block + KEY_SCALES_AT + four / 2u];
  return select(word.xy, word.zw, four % 2u == 1u);
}

fn storeChannels(words: vec2<u32>, firstGroup: u32, lane: u32) {
  if (CHANNEL && lane < KEY_GROUPS * 8u) {
    channels[firstGroup * 8u + lane] = channelFour(words.x, words.y);
  }
}

// A group of a token's key as halves. fours: the index of its channels' scales, in units of four dims.
fn stageKeys(at: u32, words: vec4<u32>, range: u32, fours: u32) {
  stage[at] = keyHalves(words.x, range, fours);
  stage[at + 1u] = keyHalves(words.y, range, fours + 1u);
  stage[at + 2u] = keyHalves(words.z, range, fours + 2u);
  stage[at + 3u] = keyHalves(words.w, range, fours + 3u);
}

fn keyHalves(word: u32, range: u32, four: u32) -> vec4<u32> {
  if (CHANNEL) {
    return vec4<u32>(channelHalf(word, channels[four]), channelHalf(word >> 4u, channels[four + 4u]));
  }
  return key(word, range);
}

// A dim's values of all tokens of a block.
fn stageValues(at: u32, words: vec4<u32>, rangesAt: u32) {
  stage[at] = value(words.x, rangesAt);
  stage[at + 1u] = value(words.y, rangesAt + 2u);
  stage[at + 2u] = value(words.z, rangesAt + 4u);
  stage[at + 3u] = value(words.w, rangesAt + 6u);
}

// Stores 32 dims of the workgroup's queries, [head][dim].
fn stageQuery(own: u32, query: array<vec4<f32>, 2>, inverse: f32, lane: u32) {
  workgroupBarrier();
  stage[own + lane / 4u * STRIDE + lane % 4u] = halvesOf(query[0] * inverse, query[1] * inverse);
  workgroupBarrier();
}

// Eight dims of a group of a query head, scaled, in the order of unpacked codes of keys.
fn keyQueryAt(query: u32, firstGroup: u32, group: u32, lane: u32) -> array<vec4<f32>, 2> {
  if (group >= KEY_GROUPS) {
    return array<vec4<f32>, 2>();
  }
  let at = (query + (firstGroup + group) * 32u + lane % 4u * 4u) / 4u;
  let a = queries[at] * params.scale;
  let b = queries[at + 4u] * (params.scale * KEY_HIGH);
  return array<vec4<f32>, 2>(a.xzyw, b.xzyw);
}

// The same for dims that are multiplied with values, in the order of unpacked values.
fn valueQueryAt(query: u32, group: u32, lane: u32) -> array<vec4<f32>, 2> {
  let at = (query + TURNED + group * 32u + lane % 4u * 8u) / 4u;
  return array<vec4<f32>, 2>(queries[at] * params.scale, queries[at + 1u] * params.scale);
}

fn largestOf(query: array<vec4<f32>, 2>) -> f32 {
  let four = max(abs(query[0]), abs(query[1]));
  return max(max(four.x, four.y), max(four.z, four.w));
}

// int4: stores scales and zeros of the tokens of a word of codes, in the order of unpacking. The lanes of `group` have them.
fn wideStoreRanges(at: u32, group: u32, low: vec4<u32>, high: vec4<u32>, lane: u32) {
  if (lane / 4u == group) {
    ranges[at + lane % 4u * 2u] = vec4<u32>(
      bitcast<u32>(lowHalves(low.x, low.z)), bitcast<u32>(lowHalves(low.y, low.w)),
      bitcast<u32>(lowHalves(high.x, high.z)), bitcast<u32>(lowHalves(high.y, high.w)));
    ranges[at + lane % 4u * 2u + 1u] = vec4<u32>(
      bitcast<u32>(highHalves(low.x, low.z)), bitcast<u32>(highHalves(low.y, low.w)),
      bitcast<u32>(highHalves(high.x, high.z)), bitcast<u32>(highHalves(high.y, high.w)));
  }
}

// Multiplies the columns of 16 dims of O' by a factor each, through the subgroup's memory.
fn rescaleOwn(sum: ptr<function, Result>, own: u32, lowFactors: vec4<f32>, highFactors: vec4<f32>, lane: u32) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&stage, own, *sum, SCORE_STRIDE);
  workgroupBarrier();
  if (lane < 16u) {
    let at = own + lane * SCORE_STRIDE;
    stage[at] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(stage[at]) * lowFactors);
    stage[at + 1u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(stage[at + 1u]) * highFactors);
  }
  workgroupBarrier();
  *sum = subgroupMatrixLoad<Result, row_major>(&stage, own, SCORE_STRIDE);
  workgroupBarrier();
}

// Writes 32 dims of the workgroup's heads from the subgroup's memory to their partials.
fn storeOwn(span: u32, places: u32, own: u32, group: u32, heads: u32, lane: u32) {
  let four = group * 8u + lane % 8u;
  for (var head = lane / 8u; head < heads; head += 4u) {
    partials[span + head * places * SPAN_STRIDE + four] = bitcast<vec4<f32>>(stage[own + head * SUM_STRIDE + lane % 8u]);
  }
}
