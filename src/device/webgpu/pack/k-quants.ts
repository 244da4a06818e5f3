/**
 * GGUF's types of 256 values under two levels of scales (format/blocks/k-quants.ts defines them). A group's own scale and
 * minimum are multiplied out and rounded to f16 once: 2^-12 of the weight at most, an eighth of a percent of a q4_k step.
 */
import { f16At, f32ToF16 } from "../../../format/float16.ts";
import { halfAt, LOW, lessBias, type PackRow, putHalf, wordAt } from "./words.ts";

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

/** (d * scale, -dMin * min) of eight groups, out of the 12 bytes of 6-bit numbers that q4_k and q5_k share. */
function groupPairs(bytes: Uint8Array, at: number, scales: Uint32Array, scaleTo: number): void {
  const d = f16At(bytes, at);
  const dMin = f16At(bytes, at + 2);
  for (let group = 0; group < 8; group++) {
    const from = at + 4 + group;
    const upper = bytes[from + 4];
    const scale = group < 4 ? bytes[from] & 63 : (upper & 15) | ((bytes[from - 4] >> 6) << 4);
    const min = group < 4 ? upper & 63 : (upper >> 4) | ((bytes[from] >> 6) << 4);
    scales[scaleTo + group] = f32ToF16(d * scale) | (f32ToF16(-dMin * min) << 16);
  }
}

/** [d][dMin][12 bytes of scales and mins][128 bytes of nibbles]: a byte holds the same value of two groups. */
export const q4K: PackRow = (bytes, at, cols, codes, to, scales, scaleTo) => {
  for (let block = 0; block < cols / 256; block++, at += 144, scaleTo += 8) {
    groupPairs(bytes, at, scales, scaleTo);
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

/** As q4_k, with 32 bytes of fifth bits before the nibbles -> bytes. */
export const q5K: PackRow = (bytes, at, cols, codes, to, scales, scaleTo) => {
  const plane = cols / 8;
  for (let block = 0; block < cols / 256; block++, at += 176, scaleTo += 8) {
    groupPairs(bytes, at, scales, scaleTo);
    for (let group = 0; group < 8; group++, to += 4) {
      const from = at + 48 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      for (let w = 0; w < 4; w++) {
        const lowFifth = (wordAt(bytes, at + 16 + 4 * w) >>> group) & 0x01010101;
        const highFifth = (wordAt(bytes, at + 32 + 4 * w) >>> group) & 0x01010101;
        codes[to + w] = ((wordAt(bytes, from + 4 * w) >>> shift) & LOW) | (lowFifth << 4);
        codes[to + plane + w] = ((wordAt(bytes, from + 16 + 4 * w) >>> shift) & LOW) | (highFifth << 4);
      }
    }
  }
};

/** [128 bytes of low nibbles][64 bytes of upper 2 bits][16 signed scales][d] -> bytes, a scale for each 16. */
export const q6K: PackRow = (bytes, at, cols, codes, to, scales, scaleTo) => {
  const plane = cols / 8;
  for (let block = 0; block < cols / 256; block++, at += 210) {
    const d = f16At(bytes, at + 208);
    for (let group = 0; group < 8; group++, to += 4) {
      const first = (bytes[at + 192 + 2 * group] << 24) >> 24;
      const second = (bytes[at + 193 + 2 * group] << 24) >> 24;
      scales[scaleTo++] = f32ToF16(d * first) | (f32ToF16(d * second) << 16);
      const quarter = group & 3;
      const low = at + 64 * (group >> 2) + 32 * (quarter & 1);
      const high = at + 128 + 32 * (group >> 2);
      const shift = 4 * (quarter >> 1);
      const highShift = 2 * quarter;
      for (let w = 0; w < 8; w++) {
        const nibbles = (wordAt(bytes, low + 4 * w) >>> shift) & LOW;
        const upper = (wordAt(bytes, high + 4 * w) >>> highShift) & 0x03030303;
        const word = lessBias(nibbles | (upper << 4), 0x20202020);
        codes[to + (w & 3) + (w < 4 ? 0 : plane)] = word;
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
