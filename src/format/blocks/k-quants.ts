/**
 * GGUF's K types: 256 values under two levels of scales (ggml's block_q2_K ... block_q6_K). An f16 `d` (and `dMin`)
 * covers the block; small integer scales cover groups of 16 or 32. Codes of 2, 4 or 6 bits are stored in planes: one
 * byte holds the same bits of values that are 32 (or 64, 96) apart.
 */
import { f16At } from "../float16.ts";

const fround = Math.fround;

/** [16 x (scale, min) nibbles][64 bytes of 2-bit codes][d][dMin], value = d * scale * code - dMin * min. */
export function q2_k(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 84, to += 256) {
    const d = f16At(bytes, at + 80);
    const dMin = f16At(bytes, at + 82);
    for (let i = 0; i < 256; i++) {
      const pair = bytes[at + (i >> 4)];
      const scale = fround(d * (pair & 15));
      const min = fround(dMin * (pair >> 4));
      out[to + i] = fround(scale * twoBits(bytes, at + 16, i)) - min;
    }
  }
}

/**
 * [32 bytes of third bits][64 bytes of 2-bit codes][12 bytes of 6-bit scales][d],
 * value = d * (scale - 32) * (code - 4), where the third bit is the code's upper one.
 */
export function q3_k(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 110, to += 256) {
    const d = f16At(bytes, at + 108);
    for (let i = 0; i < 256; i++) {
      const scale = fround(d * (sixBitScale(bytes, at + 96, i >> 4) - 32));
      const third = (bytes[at + (i & 31)] >> (i >> 5)) & 1;
      out[to + i] = scale * (twoBits(bytes, at + 32, i) + 4 * third - 4);
    }
  }
}

/** [d][dMin][12 bytes of 6-bit scales and mins][128 bytes of nibbles], value = d * scale * code - dMin * min. */
export function q4_k(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 144, to += 256) {
    const d = f16At(bytes, at);
    const dMin = f16At(bytes, at + 2);
    for (let group = 0; group < 8; group++) {
      const scale = fround(d * groupScale(bytes, at + 4, group));
      const min = fround(dMin * groupMin(bytes, at + 4, group));
      for (let j = 0; j < 32; j++) {
        out[to + 32 * group + j] = fround(scale * nibble(bytes, at + 16, group, j)) - min;
      }
    }
  }
}

/** Like q4_k, with 32 bytes of fifth bits before the nibbles: bit `group` of byte j belongs to value j of the group. */
export function q5_k(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 176, to += 256) {
    const d = f16At(bytes, at);
    const dMin = f16At(bytes, at + 2);
    for (let group = 0; group < 8; group++) {
      const scale = fround(d * groupScale(bytes, at + 4, group));
      const min = fround(dMin * groupMin(bytes, at + 4, group));
      for (let j = 0; j < 32; j++) {
        const fifth = (bytes[at + 16 + j] >> group) & 1;
        out[to + 32 * group + j] = fround(scale * (nibble(bytes, at + 48, group, j) | (fifth << 4))) - min;
      }
    }
  }
}

/** [128 bytes of low nibbles][64 bytes of upper 2 bits][16 signed scales][d], value = d * scale * (code - 32). */
export function q6_k(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 210, to += 256) {
    const d = f16At(bytes, at + 208);
    for (let i = 0; i < 256; i++) {
      const scale = fround(d * ((bytes[at + 192 + (i >> 4)] << 24) >> 24));
      // Each half of 128 values: 64 bytes whose low nibbles are values 0..63 and high nibbles 64..127.
      const low = (bytes[at + 64 * (i >> 7) + (i & 63)] >> (4 * ((i >> 6) & 1))) & 15;
      out[to + i] = scale * ((low | (twoBits(bytes, at + 128, i) << 4)) - 32);
    }
  }
}

/** 2-bit planes: each half of 128 values has 32 bytes; byte j holds values j, j + 32, j + 64, j + 96, lowest first. */
function twoBits(bytes: Uint8Array, at: number, i: number): number {
  return (bytes[at + 32 * (i >> 7) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
}

/** Nibble planes: 32 bytes hold two groups of 32, the even group in the low halves. */
function nibble(bytes: Uint8Array, at: number, group: number, j: number): number {
  return (bytes[at + 32 * (group >> 1) + j] >> (4 * (group & 1))) & 15;
}

/** q3_k: sixteen 6-bit scales; low nibbles in bytes 0..7, upper pairs of bits in bytes 8..11. */
function sixBitScale(bytes: Uint8Array, at: number, i: number): number {
  const low = (bytes[at + (i & 7)] >> (4 * (i >> 3))) & 15;
  const high = (bytes[at + 8 + (i & 3)] >> (2 * (i >> 2))) & 3;
  return low | (high << 4);
}

/** q4_k, q5_k: eight 6-bit scales; 0..3 are whole in bytes 0..3, 4..7 are split between bytes 8..11 and the tops of 0..3. */
function groupScale(bytes: Uint8Array, at: number, group: number): number {
  if (group < 4) return bytes[at + group] & 63;
  return (bytes[at + 4 + group] & 15) | ((bytes[at + group - 4] >> 6) << 4);
}

/** Their mins: 0..3 whole in bytes 4..7, 4..7 split between bytes 8..11 and the tops of 4..7. */
function groupMin(bytes: Uint8Array, at: number, group: number): number {
  if (group < 4) return bytes[at + 4 + group] & 63;
  return (bytes[at + 4 + group] >> 4) | ((bytes[at + group] >> 6) << 4);
}
