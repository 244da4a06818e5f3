// 4-bit codes to f16, two at a time, and the order in which they come: for kernels on devices with f16.
// The kernel declares TOKENS, those of a tile.
const NIBBLES: u32 = 0x000f000fu;

// Order of a quad's tokens, and dims, as masks of 16 bits unpack them: 0, 2, 1, 3.
fn swapMiddle(i: u32) -> u32 {
  return (i & ~3u) | ((i & 1u) << 1u) | ((i >> 1u) & 1u);
}

// Position in a tile's blocks of 32 that a column holds, if the tile is their `part`: 4 low codes of a word, 4 high ones.
fn tokenOf(column: u32, part: u32) -> u32 {
  let word = column / 8u + part * (TOKENS / 8u);
  return word / 4u * 32u + word % 4u * 4u + swapMiddle(column & 3u) + (column & 4u) * 4u;
}

// Codes in the low four bits of each half of `word` -> scale * code + zero. 0x6400 | code is the f16 1024 + code.
fn expand(word: u32, scale: vec2<f16>, zero: vec2<f16>) -> u32 {
  let codes = bitcast<vec2<f16>>((word & NIBBLES) | 0x64006400u) - vec2<f16>(1024.0h);
  return bitcast<u32>(fma(codes, scale, zero));
}

// Halves of two tokens' words side by side.
fn lowHalves(a: u32, b: u32) -> vec2<f16> {
  return bitcast<vec2<f16>>((a & 0xffffu) | (b << 16u));
}

fn highHalves(a: u32, b: u32) -> vec2<f16> {
  return bitcast<vec2<f16>>((a >> 16u) | (b & 0xffff0000u));
}
