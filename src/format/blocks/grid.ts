/**
 * GGUF's types whose codes are indices into a grid of tuples (ggml's block_iq3_s ... block_iq1_m): 256 values under an
 * f16 `d` and a small odd scale for each 16 or 32. Whatever the order in the file, a block is unpacked to one code for
 * each value and one odd number for each 16 values: value = d * unit * odd * table[code]. All devices start from this
 * form. Every product is exact in float32.
 */
import { f16ToF32 } from "../float16.ts";
import { grid } from "./grids.ts";

/** One unpacked block. */
export interface GridBlock {
  /** 256 codes, one per byte. */
  readonly codes: Uint32Array;
  /** 2 * scale + 1 for each 16 values: 1 to 31. */
  readonly odds: Uint8Array;
}

export interface GridType {
  /** Bytes of a block in the file. */
  readonly bytes: number;
  /** A power of two. */
  readonly unit: number;
  /** The values of the codes, int8: 16 if codes have 4 bits, 8 if they have 3. */
  readonly table: readonly number[];
  /** Unpacks the block at `at` and returns its `d` as the bits of an f16. */
  readonly unpack: (bytes: Uint8Array, at: number, into: GridBlock) => number;
}

export function gridBlock(): GridBlock {
  return { codes: new Uint32Array(64), odds: new Uint8Array(16) };
}

/** Codes are ordered by value, so that kernels can compute values from them. */
const IQ3_S = [-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15];
const IQ3_XXS = [-62, -52, -44, -36, -28, -20, -12, -4, 4, 12, 20, 28, 36, 44, 52, 62];
/** The upper bit of a code is its sign; no grid contains the fourth magnitude. */
const IQ2 = [8, 25, 43, 0, -8, -25, -43, 0];
/** Eighths of -1, 0 and 1, shifted by 1/8 up or down. */
const IQ1 = [-7, 1, 9, 0, -9, -1, 7, 0];

export const GRID_TYPES = {
  iq3_s: { bytes: 110, unit: 1, table: IQ3_S, unpack: iq3s },
  iq3_xxs: { bytes: 98, unit: 1 / 4, table: IQ3_XXS, unpack: iq3xxs },
  iq2_s: { bytes: 82, unit: 1 / 8, table: IQ2, unpack: iq2s },
  iq2_xs: { bytes: 74, unit: 1 / 8, table: IQ2, unpack: iq2xs },
  iq2_xxs: { bytes: 66, unit: 1 / 8, table: IQ2, unpack: iq2xxs },
  iq1_s: { bytes: 50, unit: 1 / 8, table: IQ1, unpack: iq1s },
  iq1_m: { bytes: 56, unit: 1 / 8, table: IQ1, unpack: iq1m },
} as const satisfies Record<string, GridType>;

export type GridTypeName = keyof typeof GRID_TYPES;

/** Whether a tensor type is one of these. */
export function isGridType(type: string): type is GridTypeName {
  return Object.hasOwn(GRID_TYPES, type);
}

export function dequantizeGrid({ bytes: blockBytes, unit, table, unpack }: GridType) {
  return (bytes: Uint8Array, out: Float32Array): void => {
    const block = gridBlock();
    const codes = new Uint8Array(block.codes.buffer);
    for (let at = 0, to = 0; to < out.length; at += blockBytes, to += 256) {
      const d = f16ToF32(unpack(bytes, at, block)) * unit;
      for (let i = 0; i < 256; i++) out[to + i] = d * block.odds[i >> 4] * table[codes[i]];
    }
  };
}

/** [d][64 low index bytes][8 bytes of ninth bits][32 sign bytes][8 scale nibbles], an index for each 4 values. */
function iq3s(bytes: Uint8Array, at: number, { codes, odds }: GridBlock): number {
  const tuples = grid("iq3_s");
  for (let i = 0; i < 64; i++) {
    const ninth = (bytes[at + 66 + (i >> 3)] << (8 - (i & 7))) & 256;
    const signs = bytes[at + 74 + (i >> 1)] >> (4 * (i & 1));
    codes[i] = ranks(tuples[bytes[at + 2 + i] | ninth], signs);
  }
  for (let i = 0; i < 16; i++) odds[i] = 2 * ((bytes[at + 106 + (i >> 2)] >> (4 * ((i >> 1) & 1))) & 15) + 1;
  return halfBits(bytes, at);
}

/** [d][64 index bytes][8 words of four 7-bit signs and a 4-bit scale], an index for each 4 values. */
function iq3xxs(bytes: Uint8Array, at: number, { codes, odds }: GridBlock): number {
  const tuples = grid("iq3_xxs");
  for (let group = 0; group < 8; group++) {
    const word = wordAt(bytes, at + 66 + 4 * group);
    odds[2 * group] = odds[2 * group + 1] = 2 * (word >>> 28) + 1;
    for (let i = 0; i < 8; i++) {
      const signs = evenSigns(word >>> (7 * (i >> 1))) >> (4 * (i & 1));
      codes[8 * group + i] = ranks(tuples[bytes[at + 2 + 8 * group + i]], signs);
    }
  }
  return halfBits(bytes, at);
}

/**
 * Indices of four magnitudes and their sign bits -> codes of 16 ordered values: 8 + index, or 7 - index if negative.
 */
function ranks(places: number, signs: number): number {
  const negative = spread(signs);
  return (places ^ (negative * 7)) | ((negative ^ 0x01010101) << 3);
}

/** Eight codes from a tuple of two words and eight sign bits. */
function put8(codes: Uint32Array, i: number, tuples: Uint32Array, index: number, signs: number): void {
  codes[2 * i] = tuples[2 * index] | (spread(signs) << 2);
  codes[2 * i + 1] = tuples[2 * index + 1] | (spread(signs >> 4) << 2);
}

/** [d][32 low index bytes][32 sign bytes][8 bytes of upper pairs][16 scale nibbles], an index for each 8 values. */
function iq2s(bytes: Uint8Array, at: number, { codes, odds }: GridBlock): number {
  const tuples = grid("iq2_s");
  for (let i = 0; i < 32; i++) {
    const upper = (bytes[at + 66 + (i >> 2)] << (8 - 2 * (i & 3))) & 0x300;
    put8(codes, i, tuples, bytes[at + 2 + i] | upper, bytes[at + 34 + i]);
  }
  nibbleScales(bytes, at + 74, odds);
  return halfBits(bytes, at);
}

/** [d][32 half words of a 9-bit index and 7-bit signs][16 scale nibbles]. */
function iq2xs(bytes: Uint8Array, at: number, { codes, odds }: GridBlock): number {
  const tuples = grid("iq2_xs");
  for (let i = 0; i < 32; i++) {
    const half = halfBits(bytes, at + 2 + 2 * i);
    put8(codes, i, tuples, half & 511, evenSigns(half >> 9));
  }
  nibbleScales(bytes, at + 66, odds);
  return halfBits(bytes, at);
}

/** [d][8 times: four index bytes, then a word of four 7-bit signs and a 4-bit scale]. */
function iq2xxs(bytes: Uint8Array, at: number, { codes, odds }: GridBlock): number {
  const tuples = grid("iq2_xxs");
  for (let group = 0; group < 8; group++) {
    const from = at + 2 + 8 * group;
    const word = wordAt(bytes, from + 4);
    odds[2 * group] = odds[2 * group + 1] = 2 * (word >>> 28) + 1;
    for (let i = 0; i < 4; i++)
      put8(codes, 4 * group + i, tuples, bytes[from + i], evenSigns(word >>> (7 * i)));
  }
  return halfBits(bytes, at);
}

/** [d][32 low index bytes][8 half words: four times three upper bits, a 3-bit scale, the shift's sign]. */
function iq1s(bytes: Uint8Array, at: number, { codes, odds }: GridBlock): number {
  const tuples = grid("iq1");
  for (let group = 0; group < 8; group++) {
    const half = halfBits(bytes, at + 34 + 2 * group);
    odds[2 * group] = odds[2 * group + 1] = 2 * ((half >> 12) & 7) + 1;
    for (let i = 0; i < 4; i++) {
      const index = bytes[at + 2 + 4 * group + i] | (((half >> (3 * i)) & 7) << 8);
      put8(codes, 4 * group + i, tuples, index, half & 0x8000 ? 255 : 0);
    }
  }
  return halfBits(bytes, at);
}

/**
 * [32 low index bytes][32 nibbles of three upper bits and the shift's sign][4 half words: four 3-bit scales, then a nibble
 * of d], an index and a shift for each 8 values.
 */
function iq1m(bytes: Uint8Array, at: number, { codes, odds }: GridBlock): number {
  const tuples = grid("iq1");
  for (let i = 0; i < 32; i++) {
    const nibble = (bytes[at + 32 + (i >> 1)] >> (4 * (i & 1))) & 15;
    put8(codes, i, tuples, bytes[at + i] | ((nibble & 7) << 8), nibble & 8 ? 255 : 0);
  }
  let d = 0;
  for (let word = 0; word < 4; word++) {
    const half = halfBits(bytes, at + 48 + 2 * word);
    for (let i = 0; i < 4; i++) odds[4 * word + i] = 2 * ((half >> (3 * i)) & 7) + 1;
    d |= (half >> 12) << (4 * word);
  }
  return d;
}

function nibbleScales(bytes: Uint8Array, at: number, odds: Uint8Array): void {
  for (let i = 0; i < 16; i++) odds[i] = 2 * ((bytes[at + (i >> 1)] >> (4 * (i & 1))) & 15) + 1;
}

/** Spreads the lower four bits, one to the lowest bit of each byte. */
function spread(bits: number): number {
  return ((bits & 15) * 0x00204081) & 0x01010101;
}

/** Seven sign bits and the eighth that makes the number of minus signs even (ggml's ksigns). */
function evenSigns(bits: number): number {
  const seven = bits & 127;
  return seven | (((0x6996 >> ((seven ^ (seven >> 4)) & 15)) & 1) << 7);
}

function halfBits(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8);
}

function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}
