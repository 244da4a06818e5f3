/**
 * Plain floats and the types with blocks of 32: GGUF's first types, iq4_nl, mxfp4 and nvfp4 (format/blocks/ defines
 * them).
 */
import { LOW, type PackRow, putHalf, spreadBits, wordAt, wordOf } from "./words.ts";

/** Floats are unchanged; rows are padded with zeros to whole groups of 32. */
export function floats(width: 2 | 4): PackRow {
  return ({ bytes }, at, cols, codes, to) => {
    const padded = Math.ceil(cols / 32) * 32 * width;
    const row = new Uint8Array(codes.buffer, codes.byteOffset + to * 4, padded);
    row.set(bytes.subarray(at, at + cols * width));
    row.fill(0, cols * width);
  };
}

/** Nibbles have the same order in the file and on the GPU; at: in half words. */
function nibbles(halves: Uint16Array, at: number, codes: Uint32Array, to: number): void {
  codes[to] = wordOf(halves, at);
  codes[to + 1] = wordOf(halves, at + 2);
  codes[to + 2] = wordOf(halves, at + 4);
  codes[to + 3] = wordOf(halves, at + 6);
}

/** [d][16 nibble bytes]: q4_0, and iq4_nl, whose table is in the kernels. */
export const q4_0: PackRow = ({ halves }, at, cols, codes, to, scales, scaleTo) => {
  const groups = cols / 32;
  let half = at / 2;
  for (let group = 0; group < groups; group++, half += 9, to += 4) {
    putHalf(scales, scaleTo, group, halves[half]);
    nibbles(halves, half + 1, codes, to);
  }
};

/** [d][m][16 nibble bytes] */
export const q4_1: PackRow = ({ words }, at, cols, codes, to, scales, scaleTo) => {
  const groups = cols / 32;
  let from = at / 4;
  for (let group = 0; group < groups; group++, from += 5, to += 4) {
    scales[scaleTo + group] = words[from];
    for (let w = 0; w < 4; w++) codes[to + w] = words[from + 1 + w];
  }
};

/** [exponent][16 nibble bytes]; the scale is 2^(exponent - 128), a bf16 whose biased exponent is one less. */
export const mxfp4: PackRow = ({ bytes }, at, cols, codes, to, scales, scaleTo) => {
  for (let group = 0; group < cols / 32; group++, at += 17, to += 4) {
    const exponent = bytes[at];
    // 2^-128 is the subnormal bf16 0x40.
    putHalf(scales, scaleTo, group, exponent === 0 ? 0x40 : (exponent - 1) << 7);
    for (let w = 0; w < 4; w++) codes[to + w] = wordAt(bytes, at + 1 + 4 * w);
  }
};

/**
 * [scale f32][4 ue4m3][32 nibble bytes, 8 for each 16 values]; the f32 is the same in all blocks of a row. NaN, 0x7f,
 * is 0.
 */
export const nvfp4: PackRow = ({ bytes }, at, cols, codes, to, scales, scaleTo) => {
  scales[scaleTo++] = wordAt(bytes, at);
  for (let block = 0; block < cols / 64; block++, at += 40) {
    let four = 0;
    for (let i = 0; i < 4; i++) {
      const scale = bytes[at + 4 + i];
      if (scale !== 0x7f) four |= scale << (8 * i);
    }
    scales[scaleTo++] = four;
    for (let half = 0; half < 2; half++, to += 4)
      for (let w = 0; w < 2; w++) {
        const low = wordAt(bytes, at + 8 + 16 * half + 4 * w);
        const high = wordAt(bytes, at + 16 + 16 * half + 4 * w);
        codes[to + w] = (low & LOW) | ((high & LOW) << 4);
        codes[to + 2 + w] = ((low >>> 4) & LOW) | (high & 0xf0f0f0f0);
      }
  }
};

/** Bit i of 32 fifth bits -> bit w of byte b for element 4w + b, and bit 4 + w for element 16 + 4w + b. */
function fifthWord(fifths: number): number {
  let word = 0;
  for (let w = 0; w < 4; w++)
    word |= (spreadBits(fifths >>> (4 * w)) << w) | (spreadBits(fifths >>> (16 + 4 * w)) << (4 + w));
  return word;
}

/** [d][32 fifth bits][16 nibble bytes] */
export const q5_0: PackRow = ({ halves }, at, cols, codes, to, scales, scaleTo) => {
  const groups = cols / 32;
  const fifthTo = to + 4 * groups;
  padFifths(codes, fifthTo, groups);
  let half = at / 2;
  for (let group = 0; group < groups; group++, half += 11, to += 4) {
    putHalf(scales, scaleTo, group, halves[half]);
    codes[fifthTo + group] = fifthWord(wordOf(halves, half + 1));
    nibbles(halves, half + 3, codes, to);
  }
};

/** [d][m][32 fifth bits][16 nibble bytes] */
export const q5_1: PackRow = ({ words }, at, cols, codes, to, scales, scaleTo) => {
  const groups = cols / 32;
  const fifthTo = to + 4 * groups;
  padFifths(codes, fifthTo, groups);
  let from = at / 4;
  for (let group = 0; group < groups; group++, from += 6, to += 4) {
    scales[scaleTo + group] = words[from];
    codes[fifthTo + group] = fifthWord(words[from + 1]);
    for (let w = 0; w < 4; w++) codes[to + w] = words[from + 2 + w];
  }
};

/** Zeros after the last group's fifth bits, up to whole vectors. */
function padFifths(codes: Uint32Array, fifthTo: number, groups: number): void {
  for (let group = groups; group % 4 !== 0; group++) codes[fifthTo + group] = 0;
}

/** [d][32 signed bytes] */
export const q8_0: PackRow = ({ halves }, at, cols, codes, to, scales, scaleTo) => {
  const groups = cols / 32;
  const plane = 4 * groups;
  let half = at / 2;
  for (let group = 0; group < groups; group++, half += 17, to += 4) {
    putHalf(scales, scaleTo, group, halves[half]);
    nibbles(halves, half + 1, codes, to);
    nibbles(halves, half + 9, codes, to + plane);
  }
};
