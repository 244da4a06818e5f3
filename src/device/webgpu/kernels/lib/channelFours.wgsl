// Scales and zeros of keys by channel (lib/channels.wgsl) as f16, for matrix kernels, which expand codes in the order of
// lib/nibbles.wgsl.

// For four neighbouring dims: two words of scales, of dims 0 and 2 and of dims 1 and 3; then two words of scales times zeros,
// likewise. 0x6400 | (zero + 128) is the f16 1152 + zero, which spares a conversion.
fn channelFour(a: u32, b: u32) -> vec4<u32> {
  let scales = (vec2<u32>(a, b) & vec2<u32>(0x00ff00ffu)) << vec2<u32>(7u);
  let even = lowHalves(scales.x, scales.y);
  let odd = highHalves(scales.x, scales.y);
  let moved = (((vec2<u32>(a, b) >> vec2<u32>(8u)) & vec2<u32>(0x00ff00ffu)) ^ vec2<u32>(0x00800080u)) | vec2<u32>(0x64006400u);
  let evenZeros = lowHalves(moved.x, moved.y) - vec2<f16>(1152.0h);
  let oddZeros = highHalves(moved.x, moved.y) - vec2<f16>(1152.0h);
  return vec4<u32>(
    bitcast<u32>(even), bitcast<u32>(odd), bitcast<u32>(even * evenZeros), bitcast<u32>(odd * oddZeros));
}

// The four low codes of a word, which are dims of one token.
fn channelHalf(word: u32, four: vec4<u32>) -> vec2<u32> {
  return vec2<u32>(
    expand(word, bitcast<vec2<f16>>(four.x), bitcast<vec2<f16>>(four.z)),
    expand(word >> 8u, bitcast<vec2<f16>>(four.y), bitcast<vec2<f16>>(four.w)));
}
