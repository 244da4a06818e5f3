// Loads and expands codes of keys by channel and of rotated values for attendDecodePacked. The kernel declares the constants, the
// bindings, `stage` and `partials`; it appends nibbles, planes and sums.

// Scores are not multiplied by a token's scale.
const TOKEN_SCALES: bool = false;
// The factor of products with codes. Codes are subnormal halves; those in higher bits are a power of two larger.
const UNIT: f32 = 16777216.0;
const KEY_HIGH: f32 = 1.0;
// The factor of weights, so that fractions of them are still normal numbers.
const RAISED: f32 = select(16.0, 64.0, VALUE_BITS == 3u);
// Subtracted from values' codes, to centre them.
const VALUE_MIDDLE: f32 = f32((1u << VALUE_BITS) - 1u) / 2.0;
// Where scales of channels begin, after their zeros.
const SCALES_AT: u32 = 4u * GROUPS;

// A word's eight codes: those of its low halves in the order 0, 2, 1, 3, then those of its high halves.
fn codeHalves(word: u32) -> vec4<u32> {
  let odd = word >> 8u;
  return vec4<u32>(word & NIBBLES, odd & NIBBLES, word & HIGH_NIBBLES, odd & HIGH_NIBBLES);
}

// The same for 32 codes of 3 bits, from three words (lib/planes.wgsl).
fn threeBitHalves(codes: vec4<u32>) -> array<vec4<u32>, 4> {
  let upper = codes >> vec4<u32>(9u);
  return array<vec4<u32>, 4>(
    vec4<u32>(codes.x & PAIR, codes.x & SECOND, codes.x & THIRD, upper.x & PAIR),
    vec4<u32>(upper.x & SECOND, codes.y & PAIR, codes.y & SECOND, codes.y & THIRD),
    vec4<u32>(upper.y & PAIR, upper.y & SECOND, codes.z & PAIR, codes.z & SECOND),
    vec4<u32>(codes.z & THIRD, upper.z & PAIR, upper.z & SECOND, lastPair(codes)));
}
const SECOND: u32 = 0x00380038u;
const THIRD: u32 = 0x01c001c0u;

// For the four pairs of such a word: 1 / the factor of its codes, by which the other operand is multiplied.
fn keyShares(word: u32) -> vec4<f32> {
  if (KEY_BITS == 3u) {
    return threeBitShares(word);
  }
  return vec4<f32>(1.0, 1.0, 0.0625, 0.0625);
}

fn valueShares(word: u32) -> vec4<f32> {
  if (VALUE_BITS == 3u) {
    return threeBitShares(word);
  }
  return vec4<f32>(1.0, 1.0, 0.0625, 0.0625);
}

fn threeBitShares(word: u32) -> vec4<f32> {
  let first = select(vec4<f32>(1.0, 0.125, 0.015625, 1.0), vec4<f32>(0.125, 1.0, 0.125, 0.015625), word == 1u);
  let second = select(vec4<f32>(1.0, 0.125, 1.0, 0.125), vec4<f32>(0.015625, 1.0, 0.125, 1.0), word == 3u);
  return select(first, second, word >= 2u);
}

// The power of two by which a head's query is divided so that its largest number is between 2 and 4; scales of keys by channel are
// below 2^14. The head's four lanes, one of every eight, hold all of its dims.
fn queryFactor(a: array<vec4<f32>, 2>, b: array<vec4<f32>, 2>, c: array<vec4<f32>, 2>, d: array<vec4<f32>, 2>) -> f32 {
  let own = max(max(largestOf(a), largestOf(b)), max(largestOf(c), largestOf(d)));
  let pair = max(own, subgroupShuffleXor(own, 8u));
  let exponent = bitcast<u32>(max(pair, subgroupShuffleXor(pair, 16u))) >> 23u;
  // Zero, or too small or not finite: not scaled.
  if (exponent < 28u || exponent == 255u) {
    return 1.0;
  }
  return bitcast<f32>((exponent - 1u) << 23u);
}

// The scales of two tokens.
fn valueScaleAt(block: u32, lane: u32) -> u32 {
  return values[block + VALUE_SCALES_AT + lane / 8u][lane % 8u / 2u];
}

// The lane's scale of the two in `pair`.
fn scaleOf(pair: u32, lane: u32) -> f32 {
  return unpack2x16float(pair >> (lane % 2u * 16u)).x;
}

// The four dims whose scales and zeros a lane loads. Lanes that load the same ones have the same shares, since both store them.
fn channelFourOf(lane: u32) -> u32 {
  return lane % 16u % (GROUPS * 4u);
}

// Scales and zeros of four dims of a group and of the four that are 16 further, two dims to a word.
fn channelWordsAt(block: u32, lane: u32) -> vec4<u32> {
  let four = channelFourOf(lane);
  let at = block + KEY_SCALES_AT + four / 4u * 4u + four % 4u / 2u;
  let i = four % 2u * 2u;
  return vec4<u32>(keys[at][i], keys[at][i + 1u], keys[at + 2u][i], keys[at + 2u][i + 1u]);
}

// Stores them in the order of unpacked codes. shares: those of word lane % 4.
fn storeChannels(words: vec4<u32>, shares: vec4<f32>, lane: u32) {
  let four = channelFourOf(lane);
  let apart = vec4<u32>(
    (words.x & 0xffffu) | (words.y << 16u), (words.x >> 16u) | (words.y & 0xffff0000u),
    (words.z & 0xffffu) | (words.w << 16u), (words.z >> 16u) | (words.w & 0xffff0000u));
  // 1024 plus an int8 plus 128.
  let zeros = ((apart >> vec4<u32>(8u)) & vec4<u32>(0x00ff00ffu)) ^ vec4<u32>(0x64806480u);
  stage[four] = vec4<u32>(
    zeroHalves(zeros.x, shares.x), zeroHalves(zeros.y, shares.y), zeroHalves(zeros.z, shares.z), zeroHalves(zeros.w, shares.w));
  stage[SCALES_AT + four] = (apart & vec4<u32>(0x00ff00ffu)) << vec4<u32>(7u);
}

// Two halves, each 1152 plus a zero -> the zeros over a share, exactly.
fn zeroHalves(bits: u32, share: f32) -> u32 {
  let codes = bitcast<vec2<f16>>(bits) - vec2<f16>(1152.0h);
  return bitcast<u32>(codes * vec2<f16>(f16(inverseFactor(share))));
}

fn scaledHalves(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
  return vec4<u32>(product(a.x, b.x), product(a.y, b.y), product(a.z, b.z), product(a.w, b.w));
}

fn product(a: u32, b: u32) -> u32 {
  return bitcast<u32>(bitcast<vec2<f16>>(a) * bitcast<vec2<f16>>(b));
}

fn dotHalves(a: vec4<u32>, b: vec4<u32>) -> f32 {
  return dotPair(a.x, b.x) + dotPair(a.y, b.y) + dotPair(a.z, b.z) + dotPair(a.w, b.w);
}

fn dotPair(a: u32, b: u32) -> f32 {
  let two = unpack2x16float(a) * unpack2x16float(b);
  return two.x + two.y;
}

// Writes 32 dims of the workgroup's heads from `stage` to their partials, less the middles of the lane's two heads.
fn storeCentred(span: u32, places: u32, group: u32, heads: u32, low: f32, high: f32, lane: u32) {
  let four = group * 8u + lane % 8u;
  let at = lane / 8u * SUM_STRIDE + lane % 8u;
  if (four < FOURS) {
    if (lane / 8u < heads) {
      partials[span + lane / 8u * places * SPAN_STRIDE + four] = bitcast<vec4<f32>>(stage[at]) * (UNIT / RAISED) - low;
    }
    if (lane / 8u + 4u < heads) {
      partials[span + (lane / 8u + 4u) * places * SPAN_STRIDE + four] = bitcast<vec4<f32>>(stage[at + 4u * SUM_STRIDE]) * (UNIT / RAISED) - high;
    }
  }
}
