// Packed weights -> f16, for kernels with subgroup matrices. The kernel's block has CODES, SCALES and BIAS; it appends weight, codes
// and narrow.

// The excess of a code as `expand` makes it. Without an offset the bias is subtracted together with it: one rounding less.
const CENTER: f16 = f16(select(1152.0, 1024.0, UNSIGNED) + select(BIAS, 0.0, HAS_OFFSET));

/// A byte of IS_SUPER with the exponent of 0x4c00 is the f16 16 + byte / 64; this is its excess.
const SUPER_CENTER: f16 = select(16.0h, 18.0h, SCALES == SUPER_HALVES);

/// (scale, offset) of each half of a group, as stored; forms without offsets do not use them. Loading checks that weights are within
/// float16 (weight-bounds.ts).
fn f16Scales(words: vec2<u32>, group: u32) -> vec4<f16> {
  let pair = bitcast<vec2<f16>>(words.x);
  if (SCALES == HALF) {
    return vec4<f16>(select(pair.x, pair.y, (group & 1u) == 1u));
  }
  if (SCALES == BFLOAT) {
    return bitcast<vec2<f16>>(smallHalfPair(scalesOf(words.x, 0u, group).xx)).xxyy;
  }
  if (SCALES == HALVES) {
    return pair.xxyy;
  }
  if (IS_SUPER) {
    let bytes = ((words.y >> (8u * (group & 1u))) & 0x00ff00ffu) | 0x4c004c00u;
    let both = (bitcast<vec2<f16>>(bytes) - vec2<f16>(SUPER_CENTER)) * pair;
    return select(both.xyxy, both.xxyy, SCALES == SUPER_HALVES);
  }
  if (SCALES == ODDS || SCALES == E4M3) {
    return bitcast<vec2<f16>>(smallHalfPair(scalesOf(words.x, words.y, group).xz)).xxyy;
  }
  return vec4<f16>(pair, select(pair, bitcast<vec2<f16>>(words.y), SCALES == HALF_PAIRS));
}

/// Four f16 or bf16 as f16.
fn halves(words: vec2<u32>) -> vec2<u32> {
  if (CODES == F16) {
    return words;
  }
  return vec2<u32>(smallHalfPair(floatsOf(words.x)), smallHalfPair(floatsOf(words.y)));
}

/// Four codes -> scale * code + offset in f16. A byte with the exponent of 0x6400 is the f16 1024 + byte. int8 codes become unsigned
/// by flipping their sign bit; the others are unsigned.
fn expand(word: u32, scale: vec2<f16>) -> vec2<u32> {
  let bytes = select(word ^ 0x80808080u, word, UNSIGNED);
  let even = bitcast<vec2<f16>>((bytes & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(CENTER);
  let odd = bitcast<vec2<f16>>(((bytes >> 8u) & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(CENTER);
  var a = even * scale.x;
  var b = odd * scale.x;
  if (HAS_OFFSET) {
    a += scale.y;
    b += scale.y;
  }
  return vec2<u32>(bitcast<u32>(vec2<f16>(a.x, b.x)), bitcast<u32>(vec2<f16>(a.y, b.y)));
}

/// The same in the order 0, 2, 1, 3, which saves instructions.
fn expandApart(word: u32, scale: vec2<f16>) -> vec2<u32> {
  let bytes = select(word ^ 0x80808080u, word, UNSIGNED);
  let even = bitcast<vec2<f16>>((bytes & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(CENTER);
  let odd = bitcast<vec2<f16>>(((bytes >> 8u) & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(CENTER);
  return vec2<u32>(scaled(even, scale), scaled(odd, scale));
}

/// The low nibbles of a word's bytes, likewise.
fn nibblesApart(word: u32, scale: vec2<f16>) -> vec2<u32> {
  let even = bitcast<vec2<f16>>((word & 0x000f000fu) | 0x64006400u) - vec2<f16>(CENTER);
  let odd = bitcast<vec2<f16>>(((word >> 8u) & 0x000f000fu) | 0x64006400u) - vec2<f16>(CENTER);
  return vec2<u32>(scaled(even, scale), scaled(odd, scale));
}

/// The high nibbles: 0x6400 | 16 code is 1024 + 16 code.
fn highNibblesApart(word: u32, scale: vec2<f16>) -> vec2<u32> {
  let less = vec2<f16>(960.0h - CENTER);
  let even = fma(bitcast<vec2<f16>>((word & 0x00f000f0u) | 0x64006400u), vec2<f16>(0.0625h), less);
  let odd = fma(bitcast<vec2<f16>>(((word >> 8u) & 0x00f000f0u) | 0x64006400u), vec2<f16>(0.0625h), less);
  return vec2<u32>(scaled(even, scale), scaled(odd, scale));
}

fn scaled(codes: vec2<f16>, scale: vec2<f16>) -> u32 {
  if (HAS_OFFSET) {
    return bitcast<u32>(fma(codes, scale.xx, scale.yy));
  }
  return bitcast<u32>(codes * scale.x);
}
