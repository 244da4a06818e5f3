/**
 * GGUF's types of 256 values under two levels of scales (format/blocks/k-quants.ts defines them). q4_k, q5_k and q6_k keep both
 * levels; of the others a group's own scale and minimum are multiplied out and rounded to f16 once: 2^-12 of the weight at most.
 */
import { f16At, f32ToF16 } from "../../../format/float16.ts";
import { halfAt, LOW, type PackRow, putHalf, wordAt } from "./words.ts";

/** [16 x (scale, min) nibbles][64 bytes of 2-bit codes][d][dMin] -> nibbles, a pair for each 16 values. */
export const q2K: PackRow = (bytes, at, cols, codes, to, scales, scaleTo) => {
  for (let block = 0; block < cols / 256; block++, at += 84) {
    const d = f16At(bytes, at + 80);
    const dMin = f16At(bytes, at + 82);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + i];
      scales[scaleTo++] = f32ToF16(d * (pair & 15)) | (f32ToF16(-dMin * (pair >> 4)) << 16);
    }
    for (let group = 0; group < 8; group++, to += 4) {
      const from = at + 16 + 32 * (group >> 2);
      const shift = 2 * (group & 3);
      for (let w = 0; w < 4; w++) {
        const low = (wordAt(bytes, from + 4 * w) >>> shift) & 0x03030303;
        const high = (wordAt(bytes, from + 16 + 4 * w) >>> shift) & 0x03030303;
        codes[to + w] = low | (high << 4);
      }
    }
  }
};

/** [32 bytes of third bits][64 bytes of 2-bit codes][12 bytes of 6-bit scales][d] -> nibbles, a scale for each 16. */
export const q3K: PackRow = (bytes, at, cols, codes, to, scales, scaleTo) => {
  for (let block = 0; block < cols / 256; block++, at += 110) {
    const d = f16At(bytes, at + 108);
    for (let group = 0; group < 8; group++, to += 4) {
      const first = f32ToF16(d * sixBits(bytes, at + 96, 2 * group));
      scales[scaleTo++] = first | (f32ToF16(d * sixBits(bytes, at + 96, 2 * group + 1)) << 16);
      const from = at + 32 + 32 * (group >> 2);
      const shift = 2 * (group & 3);
      for (let w = 0; w < 4; w++) {
        const low = (wordAt(bytes, from + 4 * w) >>> shift) & 0x03030303;
        const high = (wordAt(bytes, from + 16 + 4 * w) >>> shift) & 0x03030303;
        const lowThird = (wordAt(bytes, at + 4 * w) >>> group) & 0x01010101;
        const highThird = (wordAt(bytes, at + 16 + 4 * w) >>> group) & 0x01010101;
        codes[to + w] = low | (lowThird << 2) | (high << 4) | (highThird << 6);
      }
    }
  }
};

/** q3_k's signed scale: low nibbles in bytes 0..7, upper pairs of bits in bytes 8..11. */
function sixBits(bytes: Uint8Array, at: number, i: number): number {
  const low = (bytes[at + (i & 7)] >> (4 * (i >> 3))) & 15;
  return (low | (((bytes[at + 8 + (i & 3)] >> (2 * (i >> 2))) & 3) << 4)) - 32;
}

/** An f16 of the file 64 times as large, as f16: exact, and no longer subnormal. */
function superHalf(bytes: Uint8Array, at: number): number {
  return f32ToF16(64 * f16At(bytes, at));
}

/** d and -dMin, then scales and minimums of eight groups, out of the 12 bytes of 6-bit numbers that q4_k and q5_k share. */
function superPairs(bytes: Uint8Array, at: number, scales: Uint32Array, scaleTo: number): void {
  const [first, second, low] = [wordAt(bytes, at + 4), wordAt(bytes, at + 8), wordAt(bytes, at + 12)];
  scales[scaleTo] = superHalf(bytes, at) | ((superHalf(bytes, at + 2) ^ 0x8000) << 16);
  const [scale, min] = [first & 0x3f3f3f3f, second & 0x3f3f3f3f];
  scales[scaleTo + 1] = (scale & 0xffff) | (min << 16);
  scales[scaleTo + 2] = (scale >>> 16) | (min & 0xffff0000);
  const moreScale = (low & LOW) | ((first >>> 2) & 0x30303030);
  const moreMin = ((low >>> 4) & LOW) | ((second >>> 2) & 0x30303030);
  scales[scaleTo + 3] = (moreScale & 0xffff) | (moreMin << 16);
  scales[scaleTo + 4] = (moreScale >>> 16) | (moreMin & 0xffff0000);
}

/** [d][dMin][12 bytes of scales and mins][128 bytes of nibbles]: a byte holds the same value of two groups. */
export const q4K: PackRow = (bytes, at, cols, codes, to, scales, scaleTo) => {
  for (let block = 0; block < cols / 256; block++, at += 144, scaleTo += 5) {
    superPairs(bytes, at, scales, scaleTo);
    for (let two = 0; two < 4; two++, to += 8) {
      const from = at + 16 + 32 * two;
      for (let w = 0; w < 4; w++) {
        const low = wordAt(bytes, from + 4 * w);
        const high = wordAt(bytes, from + 16 + 4 * w);
        codes[to + w] = (low & LOW) | ((high & LOW) << 4);
        codes[to + 4 + w] = ((low >>> 4) & LOW) | (high & 0xf0f0f0f0);
      }
    }
  }
};

/** As q4_k, with 32 bytes of fifth bits before the nibbles -> nibbles, and apart their fifth bits. */
export const q5K: PackRow = (bytes, at, cols, codes, to, scales, scaleTo) => {
  let fifthTo = to + cols / 8;
  for (let block = 0; block < cols / 256; block++, at += 176, scaleTo += 5) {
    superPairs(bytes, at, scales, scaleTo);
    for (let group = 0; group < 8; group++, to += 4) {
      const from = at + 48 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      let fifths = 0;
      for (let w = 0; w < 4; w++) {
        const low = (wordAt(bytes, from + 4 * w) >>> shift) & LOW;
        codes[to + w] = low | (((wordAt(bytes, from + 16 + 4 * w) >>> shift) & LOW) << 4);
        fifths |= ((wordAt(bytes, at + 16 + 4 * w) >>> group) & 0x01010101) << w;
        fifths |= ((wordAt(bytes, at + 32 + 4 * w) >>> group) & 0x01010101) << (4 + w);
      }
      codes[fifthTo++] = fifths;
    }
  }
};

/** [128 bytes of low nibbles][64 bytes of upper 2 bits][16 signed scales][d] -> nibbles, and apart their upper bits. */
export const q6K: PackRow = (bytes, at, cols, codes, to, scales, scaleTo) => {
  let pairsTo = to + cols / 8;
  for (let block = 0; block < cols / 256; block++, at += 210) {
    const d = superHalf(bytes, at + 208);
    scales[scaleTo++] = d | (d << 16);
    for (let i = 0; i < 4; i++) {
      // A group's two scales are neighbours; above 128 they are unsigned.
      const four = wordAt(bytes, at + 192 + 4 * i) ^ 0x80808080;
      scales[scaleTo++] = (four & 0xff0000ff) | ((four & 0xff00) << 8) | ((four >>> 8) & 0xff00);
    }
    for (let group = 0; group < 8; group++, to += 4, pairsTo += 2) {
      const quarter = group & 3;
      const low = at + 64 * (group >> 2) + 32 * (quarter & 1);
      const high = at + 128 + 32 * (group >> 2);
      const shift = 4 * (quarter >> 1);
      for (let w = 0; w < 4; w++) {
        const nibbles = (wordAt(bytes, low + 4 * w) >>> shift) & LOW;
        codes[to + w] = nibbles | (((wordAt(bytes, low + 16 + 4 * w) >>> shift) & LOW) << 4);
      }
      for (let w = 0; w < 4; w += 2) {
        const pair = (from: number) => (wordAt(bytes, high + from) >>> (2 * quarter)) & 0x03030303;
        const lower = pair(4 * w) | (pair(4 * w + 4) << 2);
        codes[pairsTo + w / 2] = lower | (pair(4 * w + 16) << 4) | (pair(4 * w + 20) << 6);
      }
    }
  }
};

/** [d][8 x 2 high scale bits][8 x 4 low scale bits][128 nibble bytes]: eight groups as iq4_nl has them. */
export const iq4Xs: PackRow = (bytes, at, cols, codes, to, scales, scaleTo) => {
  for (let block = 0; block < cols / 256; block++, at += 136) {
    const d = f16At(bytes, at);
    const high = halfAt(bytes, at + 2);
    for (let group = 0; group < 8; group++, to += 4) {
      const low = (bytes[at + 4 + (group >> 1)] >> (4 * (group & 1))) & 15;
      const scale = (low | (((high >> (2 * group)) & 3) << 4)) - 32;
      putHalf(scales, scaleTo, 8 * block + group, f32ToF16(d * scale));
      for (let w = 0; w < 4; w++) codes[to + w] = wordAt(bytes, at + 8 + 16 * group + 4 * w);
    }
  }
};
