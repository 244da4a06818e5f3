// Packed weights: value = scale * (code - BIAS) + offset over groups of 32 (or their halves). weights.ts is the other owner.
// The kernel's block holds CODES, SCALES and BIAS. Codes lie in rows [rows][cols / 32]; nibbles: one vec4<u32> a group,
// word w holds elements 4w..4w+3 in the low halves of its bytes and 16+4w..16+4w+3 in the high halves; bytes (int8): a row is
// two planes, elements 0..15 of every group, then 16..31.

// CODES
const NIBBLES: u32 = 0u;
const TABLE: u32 = 1u;
const BYTES: u32 = 2u;
const F32: u32 = 3u;
const F16: u32 = 4u;
const BF16: u32 = 5u;

// SCALES: words a group. HALF and BFLOAT: two groups a word. PAIR: (scale, offset). HALVES: scales of elements 0..15 and
// 16..31. HALF_PAIRS: two words, (scale, offset) of either half.
const HALF: u32 = 0u;
const BFLOAT: u32 = 1u;
const PAIR: u32 = 2u;
const HALVES: u32 = 3u;
const HALF_PAIRS: u32 = 4u;

/// The word of `scales` that holds a group's scale.
fn scaleAt(row: u32, group: u32, groups: u32) -> u32 {
  if (SCALES == HALF || SCALES == BFLOAT) {
    return row * ((groups + 1u) / 2u) + group / 2u;
  }
  return (row * groups + group) * select(1u, 2u, SCALES == HALF_PAIRS);
}

/// (scale, offset) of elements 0..15 and of 16..31, from the word at scaleAt and (HALF_PAIRS only) the one after it.
fn scalesOf(word: u32, next: u32, group: u32) -> vec4<f32> {
  if (SCALES == HALF) {
    let scale = halfOf(word >> (16u * (group & 1u)));
    return vec4<f32>(scale, -BIAS * scale, scale, -BIAS * scale);
  }
  if (SCALES == BFLOAT) {
    let scale = bitcast<f32>(select(word << 16u, word & 0xffff0000u, (group & 1u) == 1u));
    return vec4<f32>(scale, -BIAS * scale, scale, -BIAS * scale);
  }
  let pair = vec2<f32>(halfOf(word), halfOf(word >> 16u));
  if (SCALES == PAIR) {
    return vec4<f32>(pair, pair);
  }
  if (SCALES == HALVES) {
    return vec4<f32>(pair.x, -BIAS * pair.x, pair.y, -BIAS * pair.y);
  }
  return vec4<f32>(pair, halfOf(next), halfOf(next >> 16u));
}

/// The f16 in the lower half of a word.
fn halfOf(word: u32) -> f32 {
  return unpack2x16float(word & 0xffffu).x;
}

/// Two floats of an F16 or BF16 word.
fn floatsOf(word: u32) -> vec2<f32> {
  if (CODES == BF16) {
    return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
  }
  return unpack2x16float(word);
}
