// Scales and zeros of keys by channel (lib/channels.wgsl) as f16, for matrix kernels, which expand codes in the order of
// lib/nibbles.wgsl.

// For four neighbouring dims: two words of scales, of dims 0 and 2 and of dims 1 and 3; then two words of scales times zeros,
// likewise.
fn channelFour(a: u32, b: u32) -> vec4<u32> {
  let scales = (vec2<u32>(a, b) & vec2<u32>(0x00ff00ffu)) << vec2<u32>(7u);
  let even = lowHalves(scales.x, scales.y);
  let odd = highHalves(scales.x, scales.y);
  let evenZeros = vec2<f16>(f16(extractBits(i32(a), 8u, 8u)), f16(extractBits(i32(b), 8u, 8u)));
  let oddZeros = vec2<f16>(f16(i32(a) >> 24u), f16(i32(b) >> 24u));
  return vec4<u32>(
    bitcast<u32>(even), bitcast<u32>(odd), bitcast<u32>(even * evenZeros), bitcast<u32>(odd * oddZeros));
}

// The four low codes of a word, which are dims of one token.
fn channelHalf(word: u32, four: vec4<u32>) -> vec2<u32> {
  return vec2<u32>(
    expand(word, bitcast<vec2<f16>>(four.x), bitcast<vec2<f16>>(four.z)),
    expand(word >> 8u, bitcast<vec2<f16>>(four.y), bitcast<vec2<f16>>(four.w)));
}
