/**
 * GGUF's types of one, 1.7 and two bits with one f16 scale: value = d * (code - 1) with codes 0 to 3. A block is
 * unpacked to one code per byte, which is where all devices start; q2_0 can hold the codes of all these types.
 */
import { f16At } from "../float16.ts";

/** Values of a q2_0 block, and its bytes: [d][16 bytes of four codes, lowest first]. */
export const Q2_VALUES = 64;
export const Q2_BYTES = 18;

/** The codes of one block, one per byte; `words` is the same memory, four codes per word. */
export interface TernaryBlock {
  readonly codes: Uint8Array;
  readonly words: Uint32Array;
}

export interface TernaryType {
  /** Bytes of a block in the file, and the number of its values. */
  readonly bytes: number;
  readonly values: number;
  /** Offset of a block's f16 scale. */
  readonly scale: number;
  readonly unpack: (bytes: Uint8Array, at: number, into: TernaryBlock) => void;
}

export function ternaryBlock({ values }: TernaryType): TernaryBlock {
  const codes = new Uint8Array(values);
  return { codes, words: new Uint32Array(codes.buffer) };
}

export const TERNARY_TYPES = {
  tq1_0: { bytes: 54, values: 256, scale: 52, unpack: tq1 },
  tq2_0: { bytes: 66, values: 256, scale: 64, unpack: tq2 },
  q1_0: { bytes: 18, values: 128, scale: 0, unpack: q1 },
  q2_0: { bytes: Q2_BYTES, values: Q2_VALUES, scale: 0, unpack: q2 },
} as const satisfies Record<string, TernaryType>;

export type TernaryTypeName = keyof typeof TERNARY_TYPES;

/** Whether a tensor type is one of these. */
export function isTernaryType(type: string): type is TernaryTypeName {
  return Object.hasOwn(TERNARY_TYPES, type);
}

export function dequantizeTernary(type: TernaryType) {
  return (bytes: Uint8Array, out: Float32Array): void => {
    const block = ternaryBlock(type);
    for (let at = 0, to = 0; to < out.length; at += type.bytes, to += type.values) {
      const d = f16At(bytes, at + type.scale);
      type.unpack(bytes, at, block);
      for (let i = 0; i < type.values; i++) out[to + i] = d * (block.codes[i] - 1);
    }
  };
}

/** Converts whole blocks of `type` into q2_0 blocks of the same values, which fill `into` exactly. */
export function toQ2(type: TernaryType, bytes: Uint8Array, into: Uint8Array): void {
  const block = ternaryBlock(type);
  for (let at = 0, to = 0; to < into.length; at += type.bytes) {
    type.unpack(bytes, at, block);
    for (let word = 0; word < block.words.length; ) {
      into[to++] = bytes[at + type.scale];
      into[to++] = bytes[at + type.scale + 1];
      for (let i = 0; i < Q2_VALUES / 4; i++) {
        const four = block.words[word++];
        into[to++] = four | (four >>> 6) | (four >>> 12) | (four >>> 18);
      }
    }
  }
}

/** Powers of 3: a byte times 3^n, cut to 8 bits, is a fraction of 256 whose first digit in base 3 is digit n. */
const POWERS = [1, 3, 9, 27, 81];

/** [48 bytes of five digits][4 bytes of four][d]: digit n of 32 bytes, of 16 and of 4 follow each other. */
function tq1(bytes: Uint8Array, at: number, { codes }: TernaryBlock): void {
  let to = 0;
  for (const [first, count, digits] of TQ1_PARTS)
    for (let n = 0; n < digits; n++)
      for (let j = 0; j < count; j++) codes[to++] = (((bytes[at + first + j] * POWERS[n]) & 255) * 3) >> 8;
}

const TQ1_PARTS = [
  [0, 32, 5],
  [32, 16, 5],
  [48, 4, 4],
] as const;

/** [64 bytes of four codes][d]: a byte holds values that are 32 apart, in each half of 128. */
function tq2(bytes: Uint8Array, at: number, { words }: TernaryBlock): void {
  for (let i = 0; i < 16; i++) {
    const from = at + 4 * i;
    const word = bytes[from] | (bytes[from + 1] << 8) | (bytes[from + 2] << 16) | (bytes[from + 3] << 24);
    for (let n = 0; n < 4; n++) words[32 * (i >> 3) + 8 * n + (i & 7)] = (word >>> (2 * n)) & 0x03030303;
  }
}

/** [d][16 bytes of bits]: d or -d, codes 2 or 0. */
function q1(bytes: Uint8Array, at: number, { words }: TernaryBlock): void {
  for (let i = 0; i < 32; i++) {
    const four = (bytes[at + 2 + (i >> 1)] >> (4 * (i & 1))) & 15;
    words[i] = ((four * 0x00204081) & 0x01010101) << 1;
  }
}

function q2(bytes: Uint8Array, at: number, { words }: TernaryBlock): void {
  for (let i = 0; i < 16; i++) {
    const four = bytes[at + 2 + i];
    words[i] = (four | (four << 6) | (four << 12) | (four << 18)) & 0x03030303;
  }
}
