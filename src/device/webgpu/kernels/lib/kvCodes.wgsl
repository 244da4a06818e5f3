// Codes of keys and values -> numbers, one by one: value = range.x * code + range.y. The kernel declares RQ4 and MIDDLE, which is
// subtracted from its codes, and appends narrow.

// Eight codes in the low halves of two words' bytes -> eight halves.
fn halvesOfCodes(two: vec2<u32>, range: vec2<f32>) -> vec4<u32> {
  let low = vec4<f32>(unpack4xU8(two.x & 0x0f0f0f0fu)) * range.x + range.y;
  let high = vec4<f32>(unpack4xU8(two.y & 0x0f0f0f0fu)) * range.x + range.y;
  return halvesOf(low, high);
}

// The word of a token's scale among those of a block. int4 has a scale and a zero for each group, rq4 one scale of 16 bits.
fn scaleWord(group: u32, token: u32) -> u32 {
  return select(group * 8u + token / 4u, token / 8u, RQ4);
}

fn scalePart(token: u32) -> u32 {
  return select(token % 4u, token % 8u / 2u, RQ4);
}

// A value is x * code + y of this.
fn rangeOf(part: u32, token: u32) -> vec2<f32> {
  let two = unpack2x16float(part);
  if (RQ4) {
    return vec2<f32>(1.0, -MIDDLE) * two[token % 2u];
  }
  return two;
}
