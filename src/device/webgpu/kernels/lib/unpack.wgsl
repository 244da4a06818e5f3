// Words of 4-bit codes to eight halves each, for attendDecodeMatrix: in the order in which codes unpack (nibbles.wgsl), low
// codes of a word before high ones. The kernel declares RQ4, CHANNEL, VALUE_BITS and `ranges`; it appends nibbles.

// Keys have a scale for each token.
const TOKEN_SCALES: bool = RQ4 && !CHANNEL;
// The largest rotated code.
const MOST_CODE: f16 = f16((1u << VALUE_BITS) - 1u);
// The factor of queries and weights that meet high codes.
const KEY_HIGH: f32 = select(1.0, 0.125, TOKEN_SCALES);
const VALUE_HIGH: f32 = select(1.0, 0.125, RQ4);

// A word's eight codes in the order 0, 2, 1, 3 of its low halves, as 2 code - MOST_CODE, then of its high ones, 8 times as large:
// they need no shift. Queries and weights of the high ones are an eighth.
fn centred(word: u32) -> vec4<u32> {
  return vec4<u32>(
    centre(word << 1u, MOST_CODE), centre(word >> 7u, MOST_CODE),
    centreHigh(word, MOST_CODE), centreHigh(word >> 8u, MOST_CODE));
}

// Of a token's dims, under one scale and zero.
fn key(word: u32, range: u32) -> vec4<u32> {
  if (TOKEN_SCALES) {
    return centred(word);
  }
  let both = bitcast<vec2<f16>>(range);
  return vec4<u32>(
    expand(word, both.xx, both.yy), expand(word >> 8u, both.xx, both.yy),
    expandHigh(word, both.xx, both.yy), expandHigh(word >> 8u, both.xx, both.yy));
}

// Of a dim's tokens.
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

// int4: scales and zeros of the tokens that meet a word of codes, in the order of unpacking. The lanes of `group` have them.
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
