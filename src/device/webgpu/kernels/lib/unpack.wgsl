// Expands words of 4-bit codes to eight halves each, for attendDecodeMatrix: in the order in which codes unpack (nibbles.wgsl), a
// word's low codes before its high ones. The kernel declares RQ4, CHANNEL, VALUE_BITS and `ranges`; it appends nibbles.

// Keys have one scale per token.
const TOKEN_SCALES: bool = RQ4 && !CHANNEL;
// The largest rotated code.
const MOST_CODE: f16 = f16((1u << VALUE_BITS) - 1u);
// The factor of queries and weights that are multiplied with high codes.
const KEY_HIGH: f32 = select(1.0, 0.125, TOKEN_SCALES);
const VALUE_HIGH: f32 = select(1.0, 0.125, RQ4);

// A word's eight codes: those of its low halves in the order 0, 2, 1, 3, as 2 code - MOST_CODE, then those of its high halves, 8 times
// as large, which saves a shift. Queries and weights for the high ones are divided by 8.
fn centred(word: u32) -> vec4<u32> {
  return vec4<u32>(
    centre(word << 1u, MOST_CODE), centre(word >> 7u, MOST_CODE),
    centreHigh(word, MOST_CODE), centreHigh(word >> 8u, MOST_CODE));
}

// Codes of a token's dims, with one scale and zero.
fn key(word: u32, range: u32) -> vec4<u32> {
  if (TOKEN_SCALES) {
    return centred(word);
  }
  let both = bitcast<vec2<f16>>(range);
  return vec4<u32>(
    expand(word, both.xx, both.yy), expand(word >> 8u, both.xx, both.yy),
    expandHigh(word, both.xx, both.yy), expandHigh(word >> 8u, both.xx, both.yy));
}

// Codes of a dim's tokens.
fn value(word: u32, at: u32) -> vec4<u32> {
  if (RQ4) {
    return centred(word);
  }
  let scales = ranges[at];
  let zeros = ranges[at + 1u];
  return vec4<u32>(
    expand(word, bitcast<vec2<f16>>(scales.x), bitcast<vec2<f16>>(zeros.x)),
    expand(word >> 8u, bitcast<vec2<f16>>(scales.y), bitcast<vec2<f16>>(zeros.y)),
    expandHigh(word, bitcast<vec2<f16>>(scales.z), bitcast<vec2<f16>>(zeros.z)),
    expandHigh(word >> 8u, bitcast<vec2<f16>>(scales.w), bitcast<vec2<f16>>(zeros.w)));
}

// int4: stores scales and zeros of the tokens of a word of codes, in the order of unpacking. The lanes of `group` have them.
fn storeRanges(group: u32, low: vec4<u32>, high: vec4<u32>, lane: u32) {
  if (lane / 4u == group) {
    ranges[lane % 4u * 2u] = vec4<u32>(
      bitcast<u32>(lowHalves(low.x, low.z)), bitcast<u32>(lowHalves(low.y, low.w)),
      bitcast<u32>(lowHalves(high.x, high.z)), bitcast<u32>(lowHalves(high.y, high.w)));
    ranges[lane % 4u * 2u + 1u] = vec4<u32>(
      bitcast<u32>(highHalves(low.x, low.z)), bitcast<u32>(highHalves(low.y, low.w)),
      bitcast<u32>(highHalves(high.x, high.z)), bitcast<u32>(highHalves(high.y, high.w)));
  }
}
