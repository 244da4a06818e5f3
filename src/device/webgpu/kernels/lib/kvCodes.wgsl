// 4-bit codes of keys and values -> numbers, where they are wanted one by one: value = range.x * code + range.y.

// Eight codes in the low halves of two words' bytes -> eight halves.
fn halvesOfCodes(two: vec2<u32>, range: vec2<f32>) -> vec4<u32> {
  let low = vec4<f32>(unpack4xU8(two.x & 0x0f0f0f0fu)) * range.x + range.y;
  let high = vec4<f32>(unpack4xU8(two.y & 0x0f0f0f0fu)) * range.x + range.y;
  return vec4<u32>(
    pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
}
