/**
 * Quantizes to GGUF's K types, bit for bit like ggml's quantize_row_q2_K_ref ... q6_K_ref, and with an importance
 * matrix like its quantize_q2_K ... q6_K: the best scale of each group is searched (quantize-groups.ts), the scales are
 * quantized under the block's, and codes are made with the scales as stored. Layouts are in k-quants.ts.
 */
import { f16ToF32, f32ToF16 } from "../float16.ts";
import {
  type Found,
  importantWeights,
  meanSquare,
  NOTHING,
  nearest,
  positiveScale,
  rangedScale,
  type Search,
  signedScale,
  thirdBitScale,
  weightedSearch,
  weightsOf,
} from "./quantize-groups.ts";

const { abs, fround, max, min } = Math;
const SIZE = 256;

const clamp = (code: number, least: number, most: number) => max(least, min(most, code));

/** Writes the nearest f16 and returns its value. */
function putF16(out: Uint8Array, at: number, value: number): number {
  const bits = f32ToF16(value);
  out[at] = bits & 255;
  out[at + 1] = bits >> 8;
  return f16ToF32(bits);
}

/** Buffers for the search results of all groups of a block. */
function groups(count: number, codes: Uint8Array): Found[] {
  const size = SIZE / count;
  return Array.from({ length: count }, (_, g) => ({
    ...{ scale: 0, minimum: 0, codes: codes.subarray(size * g, size * (g + 1)) },
  }));
}

/** 2-bit planes: byte j of each half holds values j, j + 32, j + 64, j + 96. */
function putTwoBits(out: Uint8Array, at: number, codes: ArrayLike<number>): void {
  for (let half = 0; half < 2; half++)
    for (let j = 0; j < 32; j++) {
      const first = 128 * half + j;
      out[at + 32 * half + j] =
        (codes[first] & 3) |
        ((codes[first + 32] & 3) << 2) |
        ((codes[first + 64] & 3) << 4) |
        ((codes[first + 96] & 3) << 6);
    }
}

/** A type whose groups have a scale and a minimum. */
interface Ranged {
  readonly groups: number;
  /** The largest code of a group's scale or minimum. */
  readonly levels: number;
  /** Without an importance matrix. */
  readonly search: Search;
  readonly weights: (values: Float32Array, out: Float32Array) => void;
  /** With one: the mean squares of the block that are added to a value's square. */
  readonly means: number;
}

/** Searches the groups of a block: scales and minima become codes under one number each. */
class RangedBlock {
  readonly scales: Uint8Array;
  readonly minima: Uint8Array;
  readonly codes = new Uint8Array(SIZE);
  readonly #type: Ranged;
  readonly #found: Found[];
  readonly #weights: Float32Array;
  /** For each group: scale, minimum and weight. */
  readonly #sums: [Float32Array, Float32Array, Float32Array];

  constructor(type: Ranged) {
    const { groups: count } = type;
    this.#type = type;
    this.#found = groups(count, this.codes);
    this.#weights = new Float32Array(SIZE / count);
    this.scales = new Uint8Array(count);
    this.minima = new Uint8Array(count);
    this.#sums = [new Float32Array(count), new Float32Array(count), new Float32Array(count)];
  }

  /** The numbers that multiply the codes of the scales and of the minima. */
  search(block: Float32Array, importance: Float32Array | null): [number, number] {
    const { groups: count, search, levels, means } = this.#type;
    const [scales, minima, sums] = this.#sums;
    const size = SIZE / count;
    const mean = importance ? fround(means * meanSquare(block, 0, SIZE)) : 0;
    const how = importance ? weightedSearch(search.most) : search;
    for (let g = 0; g < count; g++) {
      const group = block.subarray(size * g, size * (g + 1));
      if (importance)
        importantWeights(group, importance.subarray(size * g, size * (g + 1)), mean, this.#weights);
      else this.#type.weights(group, this.#weights);
      rangedScale(group, this.#weights, how, this.#found[g]);
      scales[g] = this.#found[g].scale;
      minima[g] = this.#found[g].minimum;
      sums[g] = 0;
      for (const weight of this.#weights) sums[g] += weight;
    }
    if (importance)
      return [
        positiveScale(scales, sums, levels, this.scales),
        positiveScale(minima, sums, levels, this.minima),
      ];
    return [plainScales(scales, levels, this.scales), plainScales(minima, levels, this.minima)];
  }

  /** Codes made with the scales as stored. With a scale of 0 the codes of the search are kept, as in ggml. */
  encode(block: Float32Array, d: number, dMin: number): void {
    const size = SIZE / this.#type.groups;
    for (let g = 0; g < this.#type.groups; g++) {
      const scale = fround(d * this.scales[g]);
      const minimum = fround(dMin * this.minima[g]);
      if (scale === 0) continue;
      for (let i = size * g; i < size * (g + 1); i++)
        this.codes[i] = clamp(nearest(fround(fround(block[i] + minimum) / scale)), 0, this.#type.search.most);
    }
  }
}

/** Scales from 0, in codes up to `levels`; a scale that the search made negative wraps around, like ggml's bytes. */
function plainScales(scales: Float32Array, levels: number, codes: Uint8Array): number {
  let most = 0;
  for (const scale of scales) most = max(most, scale);
  const inverse = most > 0 ? fround(levels / most) : 0;
  for (let g = 0; g < scales.length; g++) codes[g] = min(levels, nearest(fround(inverse * scales[g])) & 255);
  return fround(most / levels);
}

/** The columns of a block in `importance`, which covers a row. */
const ofBlock = (importance: Float32Array | null | undefined, from: number) =>
  importance?.subarray(from % importance.length, (from % importance.length) + SIZE) ?? null;

const Q2: Ranged = {
  ...{ groups: 16, levels: 15, means: 1 },
  search: { most: 3, first: -0.5, step: 0.1, steps: 15, byMagnitude: true },
  weights(values, out) {
    for (let i = 0; i < values.length; i++) out[i] = abs(values[i]);
  },
};

export function toQ2_K(values: Float32Array, out: Uint8Array, importance?: Float32Array | null): void {
  const found = new RangedBlock(Q2);
  for (let from = 0, at = 0; from < values.length; from += SIZE, at += 84) {
    const block = values.subarray(from, from + SIZE);
    const [scale, minimum] = found.search(block, ofBlock(importance, from));
    found.encode(block, putF16(out, at + 80, scale), putF16(out, at + 82, minimum));
    for (let g = 0; g < 16; g++) out[at + g] = found.scales[g] | (found.minima[g] << 4);
    putTwoBits(out, at + 16, found.codes);
  }
}

/** The codes of a block's scales, 0 to 63, and the number that multiplies them; codes of values count from 0. */
type ThirdBits = (block: Float32Array, codes: Uint8Array, stored: Uint8Array) => number;

const plainThirdBits: ThirdBits = (block, codes, stored) => {
  const scales = new Float32Array(16);
  const signed = new Int8Array(SIZE);
  let extreme = 0;
  for (let g = 0; g < 16; g++) {
    scales[g] = thirdBitScale(block.subarray(16 * g, 16 * g + 16), signed.subarray(16 * g, 16 * g + 16));
    if (abs(scales[g]) > abs(extreme)) extreme = scales[g];
    // ggml counts them from the middle, unless all are zero.
    const middle = scales[g] === 0 && isZero(block, 16 * g) ? 0 : 4;
    for (let i = 16 * g; i < 16 * g + 16; i++) codes[i] = signed[i] + middle;
  }
  const perScale = extreme === 0 ? 0 : fround(-32 / extreme);
  for (let g = 0; g < 16; g++)
    stored[g] = extreme === 0 ? 0 : clamp(nearest(fround(perScale * scales[g])), -32, 31) + 32;
  return extreme === 0 ? 0 : fround(1 / perScale);
};

const importantThirdBits =
  (importance: Float32Array): ThirdBits =>
  (block, codes, stored) => {
    const [weights, sums, scales] = [new Float32Array(16), new Float32Array(16), new Float32Array(16)];
    const found = groups(16, codes);
    const mean = fround(2 * meanSquare(block, 0, SIZE));
    for (let g = 0; g < 16; g++) {
      const group = block.subarray(16 * g, 16 * g + 16);
      importantWeights(group, importance.subarray(16 * g, 16 * g + 16), mean, weights);
      for (const weight of weights) sums[g] += weight;
      signedScale(group, 4, found[g], weights);
      scales[g] = found[g].scale;
    }
    const all = { scale: 0, codes: stored };
    signedScale(scales, 32, all, sums);
    return all.scale;
  };

export function toQ3_K(values: Float32Array, out: Uint8Array, importance?: Float32Array | null): void {
  const codes = new Uint8Array(SIZE);
  const stored = new Uint8Array(16);
  for (let from = 0, at = 0; from < values.length; from += SIZE, at += 110) {
    const own = ofBlock(importance, from);
    const search = own ? importantThirdBits(own) : plainThirdBits;
    const d = putF16(out, at + 108, search(values.subarray(from, from + SIZE), codes, stored));
    out.fill(0, at, at + 32);
    out.fill(0, at + 96, at + 108);
    for (let g = 0; g < 16; g++) {
      out[at + 96 + (g & 7)] |= (stored[g] & 15) << (4 * (g >> 3));
      out[at + 104 + (g & 3)] |= (stored[g] >> 4) << (2 * (g >> 2));
      const scale = fround(d * (stored[g] - 32));
      // A group with a scale of 0 keeps the codes of its search, as in ggml.
      for (let i = 16 * g; scale !== 0 && i < 16 * g + 16; i++)
        codes[i] = clamp(nearest(fround(values[from + i] / scale)), -4, 3) + 4;
    }
    for (let i = 0; i < SIZE; i++) if (codes[i] > 3) out[at + (i & 31)] |= 1 << (i >> 5);
    putTwoBits(out, at + 32, codes);
  }
}

function isZero(values: Float32Array, from: number): boolean {
  for (let i = from; i < from + 16; i++) if (abs(values[i]) >= NOTHING) return false;
  return true;
}

/** Eight 6-bit scales and mins in 12 bytes: 0..3 whole, 4..7 split between bytes 8..11 and the tops of the others. */
function putSixBits(out: Uint8Array, at: number, group: number, scale: number, minimum: number): void {
  if (group < 4) {
    out[at + group] = scale;
    out[at + group + 4] = minimum;
    return;
  }
  out[at + group + 4] = (scale & 15) | ((minimum & 15) << 4);
  out[at + group - 4] |= (scale >> 4) << 6;
  out[at + group] |= (minimum >> 4) << 6;
}

const wide = (bytes: number, search: Search) => {
  const type: Ranged = { groups: 8, levels: 63, means: 2, search, weights: weightsOf };
  const nibbles = bytes - 128;
  return (values: Float32Array, out: Uint8Array, importance?: Float32Array | null) => {
    const found = new RangedBlock(type);
    const { codes } = found;
    for (let from = 0, at = 0; from < values.length; from += SIZE, at += bytes) {
      const block = values.subarray(from, from + SIZE);
      const [scale, minimum] = found.search(block, ofBlock(importance, from));
      found.encode(block, putF16(out, at, scale), putF16(out, at + 2, minimum));
      for (let g = 0; g < 8; g++) putSixBits(out, at + 4, g, found.scales[g], found.minima[g]);
      for (let pair = 0; pair < 4; pair++)
        for (let j = 0; j < 32; j++)
          out[at + nibbles + 32 * pair + j] =
            (codes[64 * pair + j] & 15) | ((codes[64 * pair + 32 + j] & 15) << 4);
      if (search.most < 31) continue;
      for (let j = 0; j < 32; j++) {
        let fifths = 0;
        for (let g = 0; g < 8; g++) fifths |= (codes[32 * g + j] >> 4) << g;
        out[at + 16 + j] = fifths;
      }
    }
  };
};

export const toQ4_K = wide(144, { most: 15, first: -1, step: 0.1, steps: 20, byMagnitude: false });
export const toQ5_K = wide(176, { most: 31, first: -0.5, step: 0.1, steps: 15, byMagnitude: false });

export function toQ6_K(values: Float32Array, out: Uint8Array, importance?: Float32Array | null): void {
  const codes = new Uint8Array(SIZE);
  const found = groups(16, codes);
  for (let from = 0, at = 0; from < values.length; from += SIZE, at += 210) {
    const own = ofBlock(importance, from);
    let extreme = 0;
    for (let g = 0; g < 16; g++) {
      const weights = own?.subarray(16 * g, 16 * g + 16);
      signedScale(values.subarray(from + 16 * g, from + 16 * g + 16), 32, found[g], weights);
      if (abs(found[g].scale) > abs(extreme)) extreme = found[g].scale;
    }
    out.fill(0, at, at + 210);
    if (abs(extreme) < NOTHING) continue;
    const perScale = fround(-128 / extreme);
    const d = putF16(out, at + 208, fround(1 / perScale));
    for (let g = 0; g < 16; g++) {
      const stored = min(127, nearest(fround(perScale * found[g].scale)));
      out[at + 192 + g] = stored;
      const scale = fround(d * stored);
      for (let i = 16 * g; scale !== 0 && i < 16 * g + 16; i++)
        codes[i] = clamp(nearest(fround(values[from + i] / scale)), -32, 31) + 32;
    }
    for (let half = 0; half < 2; half++)
      for (let j = 0; j < 64; j++) {
        const [low, high] = [codes[128 * half + j], codes[128 * half + 64 + j]];
        out[at + 64 * half + j] = (low & 15) | ((high & 15) << 4);
      }
    putTwoBits(
      out,
      at + 128,
      codes.map((code) => code >> 4),
    );
  }
}
