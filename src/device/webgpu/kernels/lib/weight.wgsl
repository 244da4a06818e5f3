// Packed weights: value = scale * (code - BIAS) + offset over groups of 32 (or their halves). weights.ts is the other owner.
// The kernel's block holds CODES, SCALES and BIAS. Codes lie in rows [rows][cols / 32]; nibbles: one vec4<u32> a group,
// word w holds elements 4w..4w+3 in the low halves of its bytes and 16+4w..16+4w+3 in the high halves; bytes (int8): a row is
// two planes, elements 0..15 of every group, then 16..31. Codes of fewer bits become words of nibbles after they are read:
// bits, a word a group, is the second bit of the nibbles (codes are 0 or 2), bit w of its bytes' halves for word w; pairs, two
// words a group, the lower two, of words 0 and 2 and, two bits up, of words 1 and 3; thirds, places in a table of 8 values, are
// eight words of four groups' pairs and a word of third bits for each, as bits lie. Codes of more bits, fives and sixes, are a row
// of nibbles and after it one of their upper bits, as bits and pairs lie, to whole vectors.

// CODES
const NIBBLES: u32 = 0u;
const TABLE: u32 = 1u;
const BYTES: u32 = 2u;
const BITS: u32 = 3u;
const PAIRS: u32 = 4u;
const THIRDS: u32 = 5u;
const FIVES: u32 = 6u;
const SIXES: u32 = 7u;
const F32: u32 = 8u;
const F16: u32 = 9u;
const BF16: u32 = 10u;

/// Codes are nibbles and upper bits, which are stored apart.
const IS_JOINED: bool = CODES == FIVES || CODES == SIXES;
const HAS_UPPER: bool = CODES == THIRDS || IS_JOINED;

/// Whether codes are numbers from 0 on, not int8 values of a table.
const UNSIGNED: bool = CODES == NIBBLES || CODES == BITS || CODES == PAIRS || IS_JOINED;

/// The codes of a group are in one vec4 of `codes`, and of these in a second one.
const HAS_SECOND: bool = CODES == BYTES || HAS_UPPER;

fn firstAt(row: u32, group: u32, groups: u32) -> u32 {
  let at = row * groups + group;
  if (CODES == BYTES) {
    return row * 2u * groups + group;
  }
  if (CODES == BITS) {
    return at / 4u;
  }
  if (CODES == PAIRS) {
    return at / 2u;
  }
  if (CODES == THIRDS) {
    return at / 4u * 3u + group % 4u / 2u;
  }
  if (IS_JOINED) {
    return row * joinedVectors(groups) + group;
  }
  return at;
}

/// Vectors of a row of FIVES or SIXES.
fn joinedVectors(groups: u32) -> u32 {
  return groups + select((groups + 1u) / 2u, (groups + 3u) / 4u, CODES == FIVES);
}

fn secondAt(row: u32, group: u32, groups: u32) -> u32 {
  if (CODES == THIRDS) {
    return (row * groups + group) / 4u * 3u + 2u;
  }
  if (IS_JOINED) {
    return row * joinedVectors(groups) + groups + group / select(2u, 4u, CODES == FIVES);
  }
  return (row * 2u + 1u) * groups + group;
}

/// The words of nibbles of a group, from the vectors at firstAt and (THIRDS only) secondAt.
fn nibblesOf(first: vec4<u32>, second: vec4<u32>, group: u32) -> vec4<u32> {
  if (CODES == BITS) {
    let word = first[group % 4u];
    return vec4<u32>(word << 1u, word, word >> 1u, word >> 2u) & vec4<u32>(0x22222222u);
  }
  if (CODES == PAIRS || CODES == THIRDS) {
    let pairs = select(first.xy, first.zw, (group & 1u) == 1u);
    let lower = vec4<u32>(pairs.x, pairs.x >> 2u, pairs.y, pairs.y >> 2u) & vec4<u32>(0x33333333u);
    if (CODES == PAIRS) {
      return lower;
    }
    let word = second[group % 4u];
    return lower | (vec4<u32>(word << 2u, word << 1u, word, word >> 1u) & vec4<u32>(0x44444444u));
  }
  return first;
}

/// The upper bits of a group's four words, from the vector at secondAt: upperWord for each. For other codes, the vector itself.
fn upperOf(second: vec4<u32>, group: u32) -> vec4<u32> {
  if (CODES == FIVES) {
    return vec4<u32>(second[group % 4u]) >> vec4<u32>(0u, 1u, 2u, 3u);
  }
  if (CODES == SIXES) {
    let pairs = select(second.xy, second.zw, (group & 1u) == 1u);
    return vec4<u32>(pairs.x, pairs.x >> 2u, pairs.y, pairs.y >> 2u);
  }
  return second;
}

/// IS_JOINED: the same for word w, from the word at upperAt.
fn upperWord(upper: u32, w: u32) -> u32 {
  return upper >> select(2u * (w & 1u), w, CODES == FIVES);
}

/// IS_JOINED: where a word's upper bits go in each byte.
const UPPER_BITS: u32 = select(0x30303030u, 0x10101010u, CODES == FIVES);

/// IS_JOINED: the codes of a word's low nibbles, one a byte, and those of its high ones.
fn joinLow(word: u32, upper: u32) -> u32 {
  return (word & 0x0f0f0f0fu) | ((upper << 4u) & UPPER_BITS);
}

fn joinHigh(word: u32, upper: u32) -> u32 {
  return ((word >> 4u) & 0x0f0f0f0fu) | (upper & UPPER_BITS);
}

/// The same for a group's four words.
fn joinLows(words: vec4<u32>, uppers: vec4<u32>) -> vec4<u32> {
  return vec4<u32>(joinLow(words.x, uppers.x), joinLow(words.y, uppers.y), joinLow(words.z, uppers.z), joinLow(words.w, uppers.w));
}

fn joinHighs(words: vec4<u32>, uppers: vec4<u32>) -> vec4<u32> {
  return vec4<u32>(joinHigh(words.x, uppers.x), joinHigh(words.y, uppers.y), joinHigh(words.z, uppers.z), joinHigh(words.w, uppers.w));
}

/// In words: where a group's codes for nibbleWord begin, and (HAS_UPPER only) its upper bits.
fn wordAt(row: u32, group: u32, groups: u32, w: u32) -> u32 {
  let at = row * groups + group;
  if (CODES == BITS) {
    return at;
  }
  if (CODES == PAIRS) {
    return at * 2u + w / 2u;
  }
  if (CODES == THIRDS) {
    return at / 4u * 12u + group % 4u * 2u + w / 2u;
  }
  return firstAt(row, group, groups) * 4u + w;
}

fn upperAt(row: u32, group: u32, groups: u32, w: u32) -> u32 {
  return secondAt(row, group, groups) * 4u + select(group % 4u, (group & 1u) * 2u + w / 2u, CODES == SIXES);
}

/// Word w of a group's nibbles.
fn nibbleWord(word: u32, upper: u32, w: u32) -> u32 {
  if (CODES == BITS) {
    return ((word >> w) << 1u) & 0x22222222u;
  }
  if (CODES == PAIRS || CODES == THIRDS) {
    let lower = (word >> (2u * (w & 1u))) & 0x33333333u;
    if (CODES == PAIRS) {
      return lower;
    }
    return lower | (((upper >> w) & 0x11111111u) << 2u);
  }
  return word;
}

// SCALES: words a group. HALF and BFLOAT: two groups a word. PAIR: (scale, offset). HALVES: scales of elements 0..15 and
// 16..31. HALF_PAIRS: two words, (scale, offset) of either half. ODDS: three words for eight groups, an f32 d and a nibble n for
// each half: scale d * (2 n + 1), lower halves first. E4M3: an f32 for the row, then two unsigned e4m3 a group: scale half of the
// product, since e2m1's values are doubled. Of eight groups under one number (K types), five words: two f16, d and m, 64 times as large
// so that none is subnormal, then for two groups each their bytes a, a', b, b'. SUPER_PAIRS: scale d * a / 64, offset m * b / 64.
// SUPER_HALVES: scales d * (a - 128) / 64 and m * (b - 128) / 64, d and m the same.
const HALF: u32 = 0u;
const BFLOAT: u32 = 1u;
const PAIR: u32 = 2u;
const HALVES: u32 = 3u;
const HALF_PAIRS: u32 = 4u;
const ODDS: u32 = 5u;
const E4M3: u32 = 6u;
const SUPER_PAIRS: u32 = 7u;
const SUPER_HALVES: u32 = 8u;

/// Whether a group's halves have scales of their own, and whether a group's scales are in two words.
const BY_HALVES: bool = SCALES == HALVES || SCALES == HALF_PAIRS || SCALES == ODDS || SCALES == E4M3 || SCALES == SUPER_HALVES;
const IS_SUPER: bool = SCALES == SUPER_PAIRS || SCALES == SUPER_HALVES;
const HAS_NEXT: bool = SCALES == HALF_PAIRS || SCALES == ODDS || SCALES == E4M3 || IS_SUPER;
const HAS_OFFSET: bool = SCALES == PAIR || SCALES == HALF_PAIRS || SCALES == SUPER_PAIRS;
/// The bytes of IS_SUPER, divided by 64.
const SUPER_BIAS: f32 = select(0.0, 2.0, SCALES == SUPER_HALVES);

/// The word of `scales` that holds a group's scale.
fn scaleAt(row: u32, group: u32, groups: u32) -> u32 {
  if (SCALES == HALF || SCALES == BFLOAT) {
    return row * ((groups + 1u) / 2u) + group / 2u;
  }
  if (SCALES == ODDS) {
    return (row * groups + group) / 8u * 3u;
  }
  if (SCALES == E4M3) {
    return row * (1u + groups / 2u);
  }
  if (IS_SUPER) {
    return (row * groups + group) / 8u * 5u;
  }
  return (row * groups + group) * select(1u, 2u, SCALES == HALF_PAIRS);
}

/// HAS_NEXT: the second word of a group, whose first is at `at`.
fn nextAt(at: u32, group: u32) -> u32 {
  if (SCALES == E4M3) {
    return at + 1u + group / 2u;
  }
  if (IS_SUPER) {
    return at + 1u + group % 8u / 2u;
  }
  return at + 1u + select(0u, group / 4u % 2u, SCALES == ODDS);
}

/// (scale, offset) of elements 0..15 and of 16..31, from the words at scaleAt and (HAS_NEXT only) nextAt.
fn scalesOf(word: u32, next: u32, group: u32) -> vec4<f32> {
  if (SCALES == HALF) {
    let scale = halfOf(word >> (16u * (group & 1u)));
    return vec4<f32>(scale, -BIAS * scale, scale, -BIAS * scale);
  }
  if (SCALES == BFLOAT) {
    let scale = bitcast<f32>(select(word << 16u, word & 0xffff0000u, (group & 1u) == 1u));
    return vec4<f32>(scale, -BIAS * scale, scale, -BIAS * scale);
  }
  if (SCALES == ODDS) {
    let odds = vec2<f32>(vec2<u32>(next >> (8u * (group % 4u)), next >> (8u * (group % 4u) + 4u)) & vec2<u32>(15u)) * 2.0 + 1.0;
    let both = bitcast<f32>(word) * odds;
    return vec4<f32>(both.x, -BIAS * both.x, both.y, -BIAS * both.y);
  }
  if (SCALES == E4M3) {
    let bytes = next >> (16u * (group & 1u));
    let both = bitcast<f32>(word) * vec2<f32>(halfE4m3(bytes & 0x7fu), halfE4m3((bytes >> 8u) & 0x7fu));
    return vec4<f32>(both.x, -BIAS * both.x, both.y, -BIAS * both.y);
  }
  var pair = vec2<f32>(halfOf(word), halfOf(word >> 16u));
  if (IS_SUPER) {
    let bytes = next >> (8u * (group & 1u));
    pair *= vec2<f32>(vec2<u32>(bytes, bytes >> 16u) & vec2<u32>(255u)) * 0.015625 - SUPER_BIAS;
  }
  if (SCALES == PAIR || SCALES == SUPER_PAIRS) {
    return vec4<f32>(pair, pair);
  }
  if (SCALES == HALVES || SCALES == SUPER_HALVES) {
    return vec4<f32>(pair.x, -BIAS * pair.x, pair.y, -BIAS * pair.y);
  }
  return vec4<f32>(pair, halfOf(next), halfOf(next >> 16u));
}

/// Half of an unsigned e4m3 (bias 7), exactly; bytes below 8 are subnormal.
fn halfE4m3(bits: u32) -> f32 {
  return select(bitcast<f32>((bits << 20u) + (119u << 23u)), f32(bits) * 0.0009765625, bits < 8u);
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
