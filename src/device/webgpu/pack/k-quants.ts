/**
 * GGUF's types of 256 values with two levels of scales (format/blocks/k-quants.ts defines them). q4_k, q5_k and q6_k
 * keep both levels. For the others, the scale and minimum of each group are multiplied out and rounded to f16 once,
 * which changes a weight by 2^-12 of it at most.
 */
import { f16At, f16ToF32, f32ToF16 } from "../../../format/float16.ts";
import { halfAt, LOW, type PackRow, putHalf, wordOf } from "./words.ts";

/** The lowest two bits of four bytes, and the lowest one. */
const PAIRS = 0x03030303;
const ONES = 0x01010101;

/** [16 x (scale, min) nibbles][64 bytes of 2-bit codes][d][dMin] -> nibbles, a pair for each 16 values. */
export const q2K: PackRow = ({ bytes, words }, at, cols, codes, to, scales, scaleTo) => {
  for (let block = 0; block < cols / 256; block++, at += 84, to += 32) {
    const d = f16At(bytes, at + 80);
    const dMin = f16At(bytes, at + 82);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + i];
      scales[scaleTo++] = f32ToF16(d * (pair & 15)) | (f32ToF16(-dMin * (pair >> 4)) << 16);
    }
    for (let half = 0; half < 2; half++) {
      const from = at / 4 + 4 + 8 * half;
      for (let w = 0; w < 4; w++) {
        const low = words[from + w];
        const high = words[from + 4 + w];
        for (let group = 0; group < 4; group++)
          codes[to + 16 * half + 4 * group + w] =
            ((low >>> (2 * group)) & PAIRS) | (((high >>> (2 * group)) & PAIRS) << 4);
      }
    }
  }
};

/** [32 bytes of third bits][64 bytes of 2-bit codes][12 bytes of 6-bit scales][d] -> nibbles, a scale for each 16. */
export const q3K: PackRow = ({ bytes, halves }, at, cols, codes, to, scales, scaleTo) => {
  for (let block = 0; block < cols / 256; block++, at += 110, to += 32) {
    const d = f16At(bytes, at + 108);
    for (let group = 0; group < 8; group++) {
      const first = f32ToF16(d * sixBits(bytes, at + 96, 2 * group));
      scales[scaleTo++] = first | (f32ToF16(d * sixBits(bytes, at + 96, 2 * group + 1)) << 16);
    }
    const thirds = at / 2;
    for (let w = 0; w < 4; w++) {
      // A word has a bit for each of eight groups.
      const lowThird = wordOf(halves, thirds + 2 * w);
      const highThird = wordOf(halves, thirds + 8 + 2 * w);
      for (let half = 0; half < 2; half++) {
        const low = wordOf(halves, thirds + 16 + 16 * half + 2 * w);
        const high = wordOf(halves, thirds + 24 + 16 * half + 2 * w);
        for (let i = 0; i < 4; i++) {
          const group = 4 * half + i;
          codes[to + 4 * group + w] =
            ((low >>> (2 * i)) & PAIRS) |
            (((lowThird >>> group) & ONES) << 2) |
            (((high >>> (2 * i)) & PAIRS) << 4) |
            (((highThird >>> group) & ONES) << 6);
        }
      }
    }
  }
};

/** q3_k's signed scale: low nibbles in bytes 0..7, upper pairs of bits in bytes 8..11. */
function sixBits(bytes: Uint8Array, at: number, i: number): number {
  const low = (bytes[at + (i & 7)] >> (4 * (i >> 3))) & 15;
  return (low | (((bytes[at + 8 + (i & 3)] >> (2 * (i >> 2))) & 3) << 4)) - 32;
}

/** Mask of the upper halves of four bytes. */
const HIGH = 0xf0f0f0f0;

/** The bits of an f16 number times 64: exact, and no longer subnormal. */
function superHalf(bits: number): number {
  const exponent = bits & 0x7c00;
  return exponent > 0 && exponent < 0x6000 ? bits + 0x1800 : f32ToF16(64 * f16ToF32(bits));
}

/**
 * Writes d and -dMin, then scales and minimums of eight groups. Reads the first four words of a block of q4_k or q5_k,
 * 12 bytes of which are 6-bit numbers.
 */
function superPairs(words: Int32Array, at: number, scales: Uint32Array, scaleTo: number): void {
  const [numbers, first, second, low] = [words[at], words[at + 1], words[at + 2], words[at + 3]];
  scales[scaleTo] = superHalf(numbers & 0xffff) | ((superHalf(numbers >>> 16) ^ 0x8000) << 16);
  const scale = first & 0x3f3f3f3f;
  const min = second & 0x3f3f3f3f;
  scales[scaleTo + 1] = (scale & 0xffff) | (min << 16);
  scales[scaleTo + 2] = (scale >>> 16) | (min & 0xffff0000);
  const moreScale = (low & LOW) | ((first >>> 2) & 0x30303030);
  const moreMin = ((low >>> 4) & LOW) | ((second >>> 2) & 0x30303030);
  scales[scaleTo + 3] = (moreScale & 0xffff) | (moreMin << 16);
  scales[scaleTo + 4] = (moreScale >>> 16) | (moreMin & 0xffff0000);
}

/** 128 bytes of nibbles; a byte holds a value of each of two groups, at the same place. at: in words. */
function superNibbles(words: Int32Array, at: number, codes: Uint32Array, to: number): void {
  for (let two = 0; two < 4; two++, at += 8, to += 8)
    for (let w = 0; w < 4; w++) {
      const low = words[at + w];
      const high = words[at + 4 + w];
      codes[to + w] = (low & LOW) | ((high & LOW) << 4);
      codes[to + 4 + w] = ((low >>> 4) & LOW) | (high & HIGH);
    }
}

/** [d][dMin][12 bytes of scales and mins][128 bytes of nibbles] */
export const q4K: PackRow = ({ words }, at, cols, codes, to, scales, scaleTo) => {
  const blocks = cols / 256;
  let from = at / 4;
  for (let block = 0; block < blocks; block++, from += 36, to += 32, scaleTo += 5) {
    superPairs(words, from, scales, scaleTo);
    superNibbles(words, from + 4, codes, to);
  }
};

const bits = new Int32Array(8);

/** As q4_k, with 32 bytes of fifth bits before the nibbles -> nibbles, and separately their fifth bits. */
export const q5K: PackRow = ({ words }, at, cols, codes, to, scales, scaleTo) => {
  const blocks = cols / 256;
  let fifthTo = to + cols / 8;
  let from = at / 4;
  for (let block = 0; block < blocks; block++, from += 44, to += 32, fifthTo += 8, scaleTo += 5) {
    superPairs(words, from, scales, scaleTo);
    for (let w = 0; w < 8; w++) bits[w] = words[from + 4 + w];
    // Bit g of the bytes of word w becomes bit w of the bytes of word g.
    exchange(bits, 1, 0x55555555);
    exchange(bits, 2, 0x33333333);
    exchange(bits, 4, LOW);
    for (let group = 0; group < 8; group++) codes[fifthTo + group] = bits[group];
    superNibbles(words, from + 12, codes, to);
  }
};

/**
 * A step of transposing eight words: for words `by` apart, exchanges the upper bits of the first with the lower bits of
 * the second.
 */
function exchange(eight: Int32Array, by: number, lower: number): void {
  for (let i = 0; i < 8; i++) {
    if (i & by) continue;
    const moved = ((eight[i] >>> by) ^ eight[i + by]) & lower;
    eight[i] ^= moved << by;
    eight[i + by] ^= moved;
  }
}

/**
 * [128 bytes of low nibbles][64 bytes of upper 2 bits][16 signed scales][d] -> nibbles, and separately their upper
 * bits.
 */
export const q6K: PackRow = ({ halves }, at, cols, codes, to, scales, scaleTo) => {
  const blocks = cols / 256;
  let pairsTo = to + cols / 8;
  let from = at / 2;
  for (let block = 0; block < blocks; block++, from += 105, scaleTo += 5) {
    const d = superHalf(halves[from + 104]);
    scales[scaleTo] = d | (d << 16);
    for (let i = 0; i < 4; i++) {
      // The two scales of a group are neighbours; adding 128 makes them unsigned.
      const four = wordOf(halves, from + 96 + 2 * i) ^ 0x80808080;
      scales[scaleTo + 1 + i] = (four & 0xff0000ff) | ((four & 0xff00) << 8) | ((four >>> 8) & 0xff00);
    }
    for (let half = 0; half < 2; half++, to += 16, pairsTo += 8) {
      const low = from + 32 * half;
      for (let w = 0; w < 4; w++) {
        // Each word holds values of a group in its low nibbles, and of the second group after it in its high nibbles.
        const a = wordOf(halves, low + 2 * w);
        const b = wordOf(halves, low + 8 + 2 * w);
        const c = wordOf(halves, low + 16 + 2 * w);
        const e = wordOf(halves, low + 24 + 2 * w);
        codes[to + w] = (a & LOW) | ((b & LOW) << 4);
        codes[to + 4 + w] = (c & LOW) | ((e & LOW) << 4);
        codes[to + 8 + w] = ((a >>> 4) & LOW) | (b & HIGH);
        codes[to + 12 + w] = ((c >>> 4) & LOW) | (e & HIGH);
      }
      const high = from + 64 + 16 * half;
      for (let w = 0; w < 4; w += 2) {
        // From pairs of bits of four groups in each of four words, to pairs of bits of four words in one word for each
        // group.
        let a = wordOf(halves, high + 2 * w);
        let b = wordOf(halves, high + 2 * w + 2);
        let c = wordOf(halves, high + 2 * w + 8);
        let e = wordOf(halves, high + 2 * w + 10);
        const ab = ((a >>> 2) ^ b) & 0x33333333;
        a ^= ab << 2;
        b ^= ab;
        const ce = ((c >>> 2) ^ e) & 0x33333333;
        c ^= ce << 2;
        e ^= ce;
        const ac = ((a >>> 4) ^ c) & LOW;
        const be = ((b >>> 4) ^ e) & LOW;
        codes[pairsTo + w / 2] = a ^ (ac << 4);
        codes[pairsTo + 2 + w / 2] = b ^ (be << 4);
        codes[pairsTo + 4 + w / 2] = c ^ ac;
        codes[pairsTo + 6 + w / 2] = e ^ be;
      }
    }
  }
};

/** [d][8 x 2 high scale bits][8 x 4 low scale bits][128 nibble bytes]: eight groups as iq4_nl has them. */
export const iq4Xs: PackRow = ({ bytes, words }, at, cols, codes, to, scales, scaleTo) => {
  for (let block = 0; block < cols / 256; block++, at += 136) {
    const d = f16At(bytes, at);
    const high = halfAt(bytes, at + 2);
    for (let group = 0; group < 8; group++, to += 4) {
      const low = (bytes[at + 4 + (group >> 1)] >> (4 * (group & 1))) & 15;
      const scale = (low | (((high >> (2 * group)) & 3) << 4)) - 32;
      putHalf(scales, scaleTo, 8 * block + group, f32ToF16(d * scale));
      for (let w = 0; w < 4; w++) codes[to + w] = words[at / 4 + 2 + 4 * group + w];
    }
  }
};
