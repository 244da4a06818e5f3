// Where attendPrompt's matrix kernels find a page, and how they expand its 4-bit codes to f16. The kernel declares KV_HEADS, RQ4,
// VALUE_BITS and TOKEN_SCALES, whether keys have one scale per token; it appends batch and nibbles.

// The value of a code divided by what it is expanded to: rotated codes become 2 code - MOST_CODE.
const KEY_CODE: f32 = select(1.0, 0.5, TOKEN_SCALES);
const VALUE_CODE: f32 = select(1.0, 0.5, RQ4);
const MOST_CODE: f16 = f16((1u << VALUE_BITS) - 1u);

fn pageAt(table: u32, kvHead: u32, position: u32) -> u32 {
  return blockOf(table, position / 32u, KV_HEADS, kvHead);
}

// Codes in the low four bits of each half of `word >> shift`.
fn code(word: u32, shift: u32, scale: vec2<f16>, zero: vec2<f16>) -> u32 {
  if (RQ4) {
    // Times 2 code - MOST_CODE, so twice the value; half of a subnormal scale would lose a bit.
    let place = select(word >> (max(shift, 1u) - 1u), word << 1u, shift == 0u);
    return bitcast<u32>(bitcast<vec2<f16>>(centre(place, MOST_CODE)) * scale);
  }
  return expand(word >> shift, scale, zero);
}

fn fourCodes(a: u32, b: u32, shift: u32, scale: vec2<f16>, zero: vec2<f16>) -> vec4<u32> {
  return vec4<u32>(
    code(a, shift, scale, zero), code(a, shift + 8u, scale, zero), code(b, shift, scale, zero), code(b, shift + 8u, scale, zero));
}
