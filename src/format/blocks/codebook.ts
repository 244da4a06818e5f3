/**
 * Types whose 4-bit codes are indices into a table of 16 values: iq4_nl and iq4_xs (one table), mxfp4 (the OCP
 * microscaling format: e2m1 values under a power of two) and nvfp4 (e2m1 values under an e4m3 scale and an f32).
 * Nibbles are ordered as in q4_0: low halves first, then high halves.
 */
import { f16At } from "../float16.ts";

const fround = Math.fround;

/** ggml's kvalues_iq4nl: spaced for weights that are roughly normal. */
const IQ4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/**
 * e2m1 times two, so that all are integers; the scale is halved to compensate. Code 8, minus zero, is plain zero as in
 * ggml.
 */
const E2M1 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/** [d f16][16 nibble bytes] for 32 values. */
export function iq4_nl(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 18, to += 32) {
    nibbles(IQ4, f16At(bytes, at), bytes, at + 2, out, to);
  }
}

/**
 * [d f16][8 x 2 high scale bits][8 x 4 low scale bits][128 nibble bytes] for 256 values: eight groups of 32, each
 * under d * (6-bit scale - 32).
 */
export function iq4_xs(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 136, to += 256) {
    const d = f16At(bytes, at);
    const high = bytes[at + 2] | (bytes[at + 3] << 8);
    for (let group = 0; group < 8; group++) {
      const low = (bytes[at + 4 + (group >> 1)] >> (4 * (group & 1))) & 15;
      const scale = (low | (((high >> (2 * group)) & 3) << 4)) - 32;
      nibbles(IQ4, fround(d * scale), bytes, at + 8 + 16 * group, out, to + 32 * group);
    }
  }
}

/** [exponent u8][16 nibble bytes] for 32 values under 2^(exponent - 127). */
export function mxfp4(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; to < out.length; at += 17, to += 32) {
    nibbles(E2M1, 2 ** (bytes[at] - 128), bytes, at + 1, out, to);
  }
}

/**
 * [scale f32][4 unsigned e4m3][32 nibble bytes] for 64 values: four groups of 16 whose 8 bytes hold values 0..7 low and
 * 8..15 high, each under scale * e4m3.
 */
export function nvfp4(bytes: Uint8Array, out: Float32Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0, to = 0; to < out.length; at += 40) {
    const tensorScale = view.getFloat32(at, true);
    for (let group = 0; group < 4; group++, to += 16) {
      const scale = fround(tensorScale * HALF_E4M3[bytes[at + 4 + group]]);
      for (let j = 0; j < 8; j++) {
        const codes = bytes[at + 8 + 8 * group + j];
        out[to + j] = scale * E2M1[codes & 15];
        out[to + 8 + j] = scale * E2M1[codes >> 4];
      }
    }
  }
}

/**
 * Half of an unsigned e4m3 (bias 7; the upper bit is ignored), since the table's values are doubled. NaN, 0x7f, is 0 as
 * in ggml.
 */
const HALF_E4M3 = Float32Array.from({ length: 256 }, (_, bits) => {
  if (bits === 0x7f) return 0;
  const exponent = (bits >> 3) & 15;
  const mantissa = bits & 7;
  return exponent === 0 ? mantissa * 2 ** -10 : (8 + mantissa) * 2 ** (exponent - 11);
});

function nibbles(
  table: readonly number[],
  scale: number,
  bytes: Uint8Array,
  at: number,
  out: Float32Array,
  to: number,
): void {
  for (let j = 0; j < 16; j++) {
    out[to + j] = scale * table[bytes[at + j] & 15];
    out[to + 16 + j] = scale * table[bytes[at + j] >> 4];
  }
}
