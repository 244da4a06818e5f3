// 4-bit codes to f16, two at a time, and their order: for kernels on devices with f16.
const NIBBLES: u32 = 0x000f000fu;
const TWICE: u32 = 0x001e001eu;
const HIGH_NIBBLES: u32 = 0x00f000f0u;

// The order in which 16-bit masks unpack four tokens or dims: 0, 2, 1, 3.
fn swapMiddle(i: u32) -> u32 {
  return (i & ~3u) | ((i & 1u) << 1u) | ((i >> 1u) & 1u);
}

// Codes in the low four bits of each half of `word` -> scale * code + zero. 0x6400 | code is the f16 1024 + code.
fn expand(word: u32, scale: vec2<f16>, zero: vec2<f16>) -> u32 {
  let codes = bitcast<vec2<f16>>((word & NIBBLES) | 0x64006400u) - vec2<f16>(1024.0h);
  return bitcast<u32>(fma(codes, scale, zero));
}

// Codes in the next four bits: 0x6400 | 16 code is 1024 + 16 code.
fn expandHigh(word: u32, scale: vec2<f16>, zero: vec2<f16>) -> u32 {
  let codes = fma(bitcast<vec2<f16>>((word & HIGH_NIBBLES) | 0x64006400u), vec2<f16>(0.0625h), vec2<f16>(-64.0h));
  return bitcast<u32>(fma(codes, scale, zero));
}

// Rotated codes, up to `most`, in the low four bits of each half of `word`, shifted left by one -> 2 code - most, exactly.
fn centre(word: u32, most: f16) -> u32 {
  return bitcast<u32>(bitcast<vec2<f16>>((word & TWICE) | 0x64006400u) - vec2<f16>(1024.0h + most));
}

// The codes in the next four bits -> 8 (2 code - most).
fn centreHigh(word: u32, most: f16) -> u32 {
  return bitcast<u32>(bitcast<vec2<f16>>((word & HIGH_NIBBLES) | 0x64006400u) - vec2<f16>(1024.0h + 8.0h * most));
}

// The low halves of two tokens' words.
fn lowHalves(a: u32, b: u32) -> vec2<f16> {
  return bitcast<vec2<f16>>((a & 0xffffu) | (b << 16u));
}

fn highHalves(a: u32, b: u32) -> vec2<f16> {
  return bitcast<vec2<f16>>((a >> 16u) | (b & 0xffff0000u));
}
