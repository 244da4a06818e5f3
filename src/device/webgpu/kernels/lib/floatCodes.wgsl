// 4-bit and 8-bit codes -> floats, without conversions and with few shifts, which take four times as long as an addition on some GPUs
// (Apple's). A code in the mantissa of 2^23, where it is in its word, makes a float that is larger by 2^23; a code n bits higher
// counts 2^n times as much. The other operand is divided by that beforehand (`arranged`), once for all rows.

const CODE_BITS: u32 = 0x4b000000u;
const CODE_BASE: f32 = 8388608.0;
/// How much a code counts: in the low half of byte 0, its high half, the low half of byte 1, its high half.
const PLACES: vec4<f32> = vec4<f32>(1.0, 16.0, 256.0, 4096.0);
const SHARES: vec4<f32> = vec4<f32>(1.0, 0.0625, 0.00390625, 0.000244140625);

/// The nibbles of bytes 0 and 1 of a word, minus `middle` (an integer), times PLACES. For bytes 2 and 3, shift the word by 16.
fn nibbleFloats(word: u32, middle: f32) -> vec4<f32> {
  let bits = (vec4<u32>(word) & vec4<u32>(0xfu, 0xf0u, 0xf00u, 0xf000u)) | vec4<u32>(CODE_BITS);
  return bitcast<vec4<f32>>(bits) - (vec4<f32>(CODE_BASE) + middle * PLACES);
}

/// int8 codes of a word, minus `middle`: byte 0, byte 1 times 256, byte 2, byte 3 times 256.
fn byteFloats(word: u32, middle: f32) -> vec4<f32> {
  let unsigned = word ^ 0x80808080u;
  let two = vec2<u32>(unsigned, unsigned >> 16u);
  let bits = (two.xxyy & vec4<u32>(0xffu, 0xff00u, 0xffu, 0xff00u)) | vec4<u32>(CODE_BITS);
  return bitcast<vec4<f32>>(bits) - (vec4<f32>(CODE_BASE) + (128.0 + middle) * PLACES.xzxz);
}

/// Arranges two values for a word's low nibbles and two for its high ones in the order of nibbleFloats, divided by PLACES.
fn arranged(low: vec2<f32>, high: vec2<f32>) -> vec4<f32> {
  return vec4<f32>(low.x, high.x, low.y, high.y) * SHARES;
}
