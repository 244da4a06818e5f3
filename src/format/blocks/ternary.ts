/**
 * GGUF's types of one, 1.7 and two bits under one f16 scale: value = d * (code - 1) with codes 0 to 3. One idea: q2_0 holds
 * the codes of all of them, so tq1_0, tq2_0 and q1_0 become q2_0 blocks (exactly), from where all devices start.
 */
import { f16At } from "../float16.ts";

/** Values of a q2_0 block, and its bytes: [d][16 bytes of four codes, lowest first]. */
export const Q2_VALUES = 64;
export const Q2_BYTES = 18;

export interface TernaryType {
  /** Of a block in the file, and the values in it. */
  readonly bytes: number;
  readonly values: number;
  /** Where a block has its f16 scale. */
  readonly scale: number;
  /** Code `i` of the block at `at`. */
  readonly code: (bytes: Uint8Array, at: number, i: number) => number;
}

/** Places of a base-3 digit: a byte times 3^n, cut to 8 bits, has digit n first. */
const POWERS = [1, 3, 9, 27, 81];

export const TERNARY_TYPES = {
  /** [48 bytes of five digits][4 bytes of four][d], fractions of 256: digit n of byte j lies with those of all bytes. */
  tq1_0: {
    ...{ bytes: 54, values: 256, scale: 52 },
    code(bytes, at, i) {
      if (i < 160) return digit(bytes[at + (i & 31)], i >> 5);
      if (i < 240) return digit(bytes[at + 32 + (i & 15)], (i - 160) >> 4);
      return digit(bytes[at + 48 + (i & 3)], (i - 240) >> 2);
    },
  },
  /** [64 bytes of four codes][d]: a byte holds values that lie 32 apart, in each half of 128. */
  tq2_0: {
    ...{ bytes: 66, values: 256, scale: 64 },
    code: (bytes, at, i) => (bytes[at + 32 * (i >> 7) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3,
  },
  /** [d][16 bytes of bits]: d or -d. */
  q1_0: {
    ...{ bytes: 18, values: 128, scale: 0 },
    code: (bytes, at, i) => ((bytes[at + 2 + (i >> 3)] >> (i & 7)) & 1) << 1,
  },
  /** [d][16 bytes of four codes, lowest first]. */
  q2_0: {
    ...{ bytes: Q2_BYTES, values: Q2_VALUES, scale: 0 },
    code: (bytes, at, i) => (bytes[at + 2 + (i >> 2)] >> (2 * (i & 3))) & 3,
  },
} as const satisfies Record<string, TernaryType>;

export type TernaryTypeName = keyof typeof TERNARY_TYPES;

/** Whether a tensor type is one of these. */
export function isTernaryType(type: string): type is TernaryTypeName {
  return Object.hasOwn(TERNARY_TYPES, type);
}

export function dequantizeTernary({ bytes: blockBytes, values, scale, code }: TernaryType) {
  return (bytes: Uint8Array, out: Float32Array): void => {
    for (let at = 0, to = 0; to < out.length; at += blockBytes, to += values) {
      const d = f16At(bytes, at + scale);
      for (let i = 0; i < values; i++) out[to + i] = d * (code(bytes, at, i) - 1);
    }
  };
}

/** Whole blocks of `type` -> q2_0 blocks of the same values, `into` exactly. */
export function toQ2(
  { bytes: blockBytes, values, scale, code }: TernaryType,
  bytes: Uint8Array,
  into: Uint8Array,
): void {
  for (let at = 0, to = 0; to < into.length; at += blockBytes)
    for (let first = 0; first < values; first += Q2_VALUES, to += Q2_BYTES) {
      into[to] = bytes[at + scale];
      into[to + 1] = bytes[at + scale + 1];
      for (let i = 0; i < Q2_VALUES; i += 4) {
        let four = 0;
        for (let j = 0; j < 4; j++) four |= code(bytes, at, first + i + j) << (2 * j);
        into[to + 2 + (i >> 2)] = four;
      }
    }
}

function digit(byte: number, n: number): number {
  return (((byte * POWERS[n]) & 255) * 3) >> 8;
}
