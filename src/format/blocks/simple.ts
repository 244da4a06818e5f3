/**
 * GGUF's types with one scale for 32 values (ggml's block_q4_0 ... block_q8_0). `d` is the f16 scale, `m` the f16
 * minimum of the _1 types. 16 bytes of nibbles hold values 0..15 in their low halves and 16..31 in their high halves;
 * the 5-bit types store the fifth bit of value j as bit j of a 32-bit word before the nibbles.
 */
import { f16At } from "../float16.ts";

const fround = Math.fround;

/** [d][16 nibble bytes], value = d * (code - 8). */
export function q4_0(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 18, to += 32) {
    const d = f16At(bytes, at);
    for (let j = 0; j < 16; j++) {
      const codes = bytes[at + 2 + j];
      out[to + j] = d * ((codes & 15) - 8);
      out[to + 16 + j] = d * ((codes >> 4) - 8);
    }
  }
}

/** [d][m][16 nibble bytes], value = d * code + m. */
export function q4_1(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 20, to += 32) {
    const d = f16At(bytes, at);
    const m = f16At(bytes, at + 2);
    for (let j = 0; j < 16; j++) {
      const codes = bytes[at + 4 + j];
      out[to + j] = fround(d * (codes & 15)) + m;
      out[to + 16 + j] = fround(d * (codes >> 4)) + m;
    }
  }
}

/** [d][32 fifth bits][16 nibble bytes], value = d * (code - 16). */
export function q5_0(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 22, to += 32) {
    const d = f16At(bytes, at);
    for (let j = 0; j < 16; j++) {
      const codes = bytes[at + 6 + j];
      out[to + j] = d * (((codes & 15) | fifthBit(bytes, at + 2, j)) - 16);
      out[to + 16 + j] = d * (((codes >> 4) | fifthBit(bytes, at + 2, j + 16)) - 16);
    }
  }
}

/** [d][m][32 fifth bits][16 nibble bytes], value = d * code + m. */
export function q5_1(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 24, to += 32) {
    const d = f16At(bytes, at);
    const m = f16At(bytes, at + 2);
    for (let j = 0; j < 16; j++) {
      const codes = bytes[at + 8 + j];
      out[to + j] = fround(d * ((codes & 15) | fifthBit(bytes, at + 4, j))) + m;
      out[to + 16 + j] = fround(d * ((codes >> 4) | fifthBit(bytes, at + 4, j + 16))) + m;
    }
  }
}

/** [d][32 signed bytes], value = d * code. */
export function q8_0(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 34, to += 32) {
    const d = f16At(bytes, at);
    for (let j = 0; j < 32; j++) out[to + j] = d * ((bytes[at + 2 + j] << 24) >> 24);
  }
}

/** Bit `j` of the little-endian word at `at`, moved to the position of a code's fifth bit. */
function fifthBit(bytes: Uint8Array, at: number, j: number): number {
  return ((bytes[at + (j >> 3)] >> (j & 7)) & 1) << 4;
}
