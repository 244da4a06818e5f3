// The work of attendDecodeMatrix8 between its products, one token or dim per lane: codes become rows of floats in its `stage`, scores
// become weights. The kernel declares the constants, its bindings and arrays.

// A number for each of heads 0..3 and 4..7.
struct EightHeads {
  low: vec4<f32>,
  high: vec4<f32>,
}

// The score of a token that the query does not see.
const MASKED = EightHeads(vec4<f32>(-1e30), vec4<f32>(-1e30));

/// How far a score may exceed its maximum before that is raised, as an exponent of 2.
const HEADROOM: f32 = 20.0;
var<workgroup> outgrown: u32;

fn headOf(eight: EightHeads, head: u32) -> f32 {
  return select(eight.high[head % 4u], eight.low[head % 4u], head < 4u);
}

fn timesEach(a: EightHeads, b: EightHeads) -> EightHeads {
  return EightHeads(a.low * b.low, a.high * b.high);
}

fn weightsOf(scores: EightHeads, maxima: EightHeads) -> EightHeads {
  return EightHeads(exp2(scores.low - maxima.low), exp2(scores.high - maxima.high));
}

// Whether any lane's scores exceed their maxima by more than that. Uniform, and written so that the compiler can see it.
fn outgrows(scores: EightHeads, maxima: EightHeads, lane: u32) -> bool {
  let some = subgroupAny(any(scores.low > maxima.low + HEADROOM) || any(scores.high > maxima.high + HEADROOM));
  if (lane == 0u) {
    outgrown = u32(some);
  }
  return workgroupUniformLoad(&outgrown) != 0u;
}

// Stores eight dims of a group of a query head, scaled; each head has four lanes. Heads past the last one of the KV head repeat it.
fn stageQueries(heads: u32, firstHead: u32, group: u32, lane: u32) {
  let d = group * 32u + lane % 4u * 8u;
  let at = ((heads + min(firstHead + lane / 4u, GROUP - 1u)) * HEAD_DIM + d) / 4u;
  var a = vec4<f32>();
  var b = vec4<f32>();
  if (d < HEAD_DIM) {
    a = queries[at] * params.scale;
    b = queries[at + 1u] * params.scale;
  }
  stage[lane / 4u * STRIDE + lane % 4u * 2u] = a;
  stage[lane / 4u * STRIDE + lane % 4u * 2u + 1u] = b;
}

// Expands one group of dims of a token's key. Those of rq4 are not multiplied by their scale; scores are.
fn stageKeys(block: u32, group: u32, lane: u32) {
  let words = nibbleWords(keyCodes(block, group, lane), KEY_BITS);
  var range = vec2<f32>(1.0, -KEY_MIDDLE);
  if (INT4 && !CHANNEL) {
    range = unpack2x16float(keys[block + KEY_SCALES_AT + group * 8u + lane / 4u][lane % 4u]);
  }
  // each W 0..3
  stageWord(words[{W}u], {W}u, keyScales(group, {W}u, range.x), keyOffsets(group, {W}u, range.y), keyScales(group, {W + 4}u, range.x), keyOffsets(group, {W + 4}u, range.y), lane);
  // end
}

// For four dims.
fn keyScales(group: u32, four: u32, scale: f32) -> vec4<f32> {
  if (CHANNEL) {
    return channels[(group * 8u + four) * 2u];
  }
  return vec4<f32>(scale);
}

fn keyOffsets(group: u32, four: u32, offset: f32) -> vec4<f32> {
  if (CHANNEL) {
    return channels[(group * 8u + four) * 2u + 1u];
  }
  return vec4<f32>(offset);
}

// Expands a dim's codes of all tokens, without scales, which weights include; rotated codes are centred.
fn stageValues(block: u32, group: u32, lane: u32) {
  let words = nibbleWords(valueCodes(block, group * 32u + lane), VALUE_BITS);
  let offset = vec4<f32>(select(0.0, -VALUE_MIDDLE, RQ4));
  // each W 0..3
  stageWord(words[{W}u], {W}u, vec4<f32>(1.0), offset, vec4<f32>(1.0), offset, lane);
  // end
}

// Stores eight codes of a lane's row: four from column 4 w on, and the four that are 16 further.
fn stageWord(word: u32, w: u32, scale: vec4<f32>, offset: vec4<f32>, highScale: vec4<f32>, highOffset: vec4<f32>, lane: u32) {
  let a = nibbleFloats(word, 0.0);
  let b = nibbleFloats(word >> 16u, 0.0);
  // Rows with one scale are multiplied only once.
  stage[lane * STRIDE + w] = fma(vec4<f32>(a.xz, b.xz), scale * SHARES.xzxz, offset);
  stage[lane * STRIDE + 4u + w] = fma(vec4<f32>(a.yw, b.yw), highScale * SHARES.ywyw, highOffset);
}

// The scale of a token's key in rq4.
fn tokenScale(block: u32, lane: u32) -> f32 {
  if (INT4 || CHANNEL) {
    return 1.0;
  }
  return unpack2x16float(keys[block + KEY_SCALES_AT + lane / 8u][lane % 8u / 2u])[lane % 2u];
}

// Scale and zero of a token's values in a group; rotated ones have no zero.
fn valueRange(block: u32, group: u32, lane: u32) -> vec2<f32> {
  let at = block + VALUE_SCALES_AT;
  if (RQ4) {
    return vec2<f32>(unpack2x16float(values[at + lane / 8u][lane % 8u / 2u])[lane % 2u], 0.0);
  }
  return unpack2x16float(values[at + group * 8u + lane / 4u][lane % 4u]);
}

// A token's scores.
fn scoresOf(lane: u32, scale: f32, visible: bool) -> EightHeads {
  // each H 0..7
  let s{H} = stage[{H}u * STRIDE + lane / 4u][lane % 4u];
  // end
  let low = exponents(vec4<f32>(s0, s1, s2, s3) * scale);
  let high = exponents(vec4<f32>(s4, s5, s6, s7) * scale);
  return EightHeads(select(MASKED.low, low, visible), select(MASKED.high, high, visible));
}

fn exponents(four: vec4<f32>) -> vec4<f32> {
  if (HAS_SOFTCAP) {
    return params.cap * vec4<f32>(boundedTanh(four.x), boundedTanh(four.y), boundedTanh(four.z), boundedTanh(four.w));
  }
  return four;
}

// Stores a token's weights times its values' scale.
fn stageWeights(weight: EightHeads, scale: f32, lane: u32) {
  let low = weight.low * scale;
  let high = weight.high * scale;
  // each H 0..3
  weights[{H}u * STRIDE + lane / 4u][lane % 4u] = low[{H}u];
  weights[{H + 4}u * STRIDE + lane / 4u][lane % 4u] = high[{H}u];
  // end
}

fn storeFactors(rescale: EightHeads, lane: u32) {
  workgroupBarrier();
  if (lane < ROWS) {
    factors[lane] = headOf(rescale, lane);
  }
}

// Multiplies eight dims of all heads by a factor each, through memory, since elements of matrices cannot be accessed.
fn rescaleSum(sum: ptr<function, Result>, lane: u32) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&stage, 0u, *sum, STRIDE);
  workgroupBarrier();
  if (lane < 2u * ROWS) {
    stage[lane / 2u * STRIDE + lane % 2u] *= factors[lane / 2u];
  }
  workgroupBarrier();
  *sum = subgroupMatrixLoad<Result, row_major>(&stage, 0u, STRIDE);
}

// Writes 32 dims of the workgroup's heads from `stage` to their partials.
fn storeSums(span: u32, places: u32, group: u32, heads: u32, zeros: EightHeads, lane: u32) {
  let four = group * 8u + lane % 8u;
  for (var head = lane / 8u; head < heads; head += 4u) {
    if (four < FOURS) {
      partials[span + head * places * SPAN_STRIDE + four] = stage[head * STRIDE + lane % 8u] + headOf(zeros, head);
    }
  }
}
