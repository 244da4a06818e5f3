// Scales and zeros of keys by channel: of each dim of a page, as halves in a word, zero above scale. The kernel declares `keys`;
// packKv writes them.

// Of four neighbouring dims: scales, zeros. at: the word at which a block's scales begin.
fn channelRanges(at: u32, dim: u32) -> array<vec4<f32>, 2> {
  let word = keys[at + dim / 4u];
  let a = unpack2x16float(word.x);
  let b = unpack2x16float(word.y);
  let c = unpack2x16float(word.z);
  let d = unpack2x16float(word.w);
  return array<vec4<f32>, 2>(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y));
}
