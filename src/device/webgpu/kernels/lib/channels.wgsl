// Scales and zeros of keys by channel (src/cache/codec-channel.ts). For each dim of a page: the scale, as bits 14 to 7 of a float16,
// and the zero, an int8 in units of the scale; two dims to a word. The kernel declares `keys`; packKv writes them.

// For four neighbouring dims: scales, and scales times zeros. at: the word at which a block's scales begin.
fn channelRanges(at: u32, dim: u32) -> array<vec4<f32>, 2> {
  let word = keys[at + dim / 8u];
  let two = select(word.xy, word.zw, dim % 8u == 4u);
  let scales = vec4<f32>(channelScales(two.x), channelScales(two.y));
  let zeros = vec4<f32>(channelZeros(two.x), channelZeros(two.y));
  return array<vec4<f32>, 2>(scales, scales * zeros);
}

fn channelScales(two: u32) -> vec2<f32> {
  return unpack2x16float((two & 0x00ff00ffu) << 7u);
}

fn channelZeros(two: u32) -> vec2<f32> {
  return vec2<f32>(f32(extractBits(i32(two), 8u, 8u)), f32(i32(two) >> 24u));
}
