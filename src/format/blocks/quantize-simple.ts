/**
 * Quantizes to GGUF's types with one scale for 32 values, bit for bit like ggml's quantize_row_q4_0_ref ... q8_0_ref:
 * the scale comes from the value with the largest magnitude, or from the range; it is stored as f16, but codes are made
 * with the f32. With an importance matrix it is searched, as in ggml's quantize_q4_0 ... q5_1. Arithmetic is float32,
 * one operation at a time (blocks.ts). Layouts are in simple.ts.
 */
import { f32ToF16 } from "../float16.ts";
import {
  type Found,
  importantWeights,
  meanSquare,
  rangedScale,
  signedScale,
  weightedSearch,
} from "./quantize-groups.ts";

const { abs, fround, min, trunc } = Math;
const SIZE = 32;

/** Symmetric: the value of largest magnitude gets code 0, so that the whole range -`middle` to `middle` - 1 is used. */
function signed(values: Float32Array, from: number, middle: number, codes: Uint8Array): number {
  let largest = 0;
  let extreme = 0;
  for (let i = from; i < from + SIZE; i++)
    if (largest < abs(values[i])) {
      largest = abs(values[i]);
      extreme = values[i];
    }
  const d = fround(extreme / -middle);
  const inverse = d === 0 ? 0 : fround(1 / d);
  for (let i = 0; i < SIZE; i++) {
    const scaled = fround(fround(values[from + i] * inverse) + (middle + 0.5));
    codes[i] = min(2 * middle - 1, trunc(scaled));
  }
  return d;
}

/** From the lowest to the highest value; returns scale and minimum. */
function ranged(values: Float32Array, from: number, most: number, codes: Uint8Array): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (let i = from; i < from + SIZE; i++) {
    if (values[i] < low) low = values[i];
    if (values[i] > high) high = values[i];
  }
  const d = fround(fround(high - low) / most);
  const inverse = d === 0 ? 0 : fround(1 / d);
  for (let i = 0; i < SIZE; i++) {
    const scaled = fround(fround(fround(values[from + i] - low) * inverse) + 0.5);
    codes[i] = min(most, trunc(scaled));
  }
  return [d, low];
}

function putF16(out: Uint8Array, at: number, value: number): void {
  const bits = f32ToF16(value);
  out[at] = bits & 255;
  out[at + 1] = bits >> 8;
}

/** Writes 16 bytes of low nibbles at `at`; fifth bits, if any, go to the four bytes before. */
function putCodes(out: Uint8Array, at: number, codes: Uint8Array, fifth: boolean): void {
  for (let j = 0; j < 16; j++) out[at + j] = (codes[j] & 15) | ((codes[j + 16] & 15) << 4);
  if (!fifth) return;
  out.fill(0, at - 4, at);
  for (let j = 0; j < SIZE; j++) out[at - 4 + (j >> 3)] |= (codes[j] >> 4) << (j & 7);
}

/** The search for a type's blocks with an importance matrix. */
type Search = (values: Float32Array, weights: Float32Array, out: Found) => void;

/** Quantizes every block of `values` (rows as long as `importance`) with the result of `search`. */
function searched(
  values: Float32Array,
  importance: Float32Array,
  search: Search,
  put: (found: Found, block: number) => void,
): void {
  const weights = new Float32Array(SIZE);
  const found: Found = { scale: 0, minimum: 0, codes: new Uint8Array(SIZE) };
  const cols = importance.length;
  for (let row = 0; row < values.length; row += cols) {
    const mean = meanSquare(values, row, cols);
    for (let col = 0; col < cols; col += SIZE) {
      const block = values.subarray(row + col, row + col + SIZE);
      importantWeights(block, importance.subarray(col, col + SIZE), mean, weights);
      search(block, weights, found);
      put(found, (row + col) / SIZE);
    }
  }
}

const symmetric =
  (bytes: number, middle: number) =>
  (values: Float32Array, out: Uint8Array, importance?: Float32Array | null) => {
    const put = (d: number, codes: Uint8Array, block: number) => {
      putF16(out, block * bytes, d);
      putCodes(out, block * bytes + bytes - 16, codes, middle === 16);
    };
    if (importance) {
      const search: Search = (block, weights, found) => signedScale(block, middle, found, weights);
      searched(values, importance, search, ({ scale, codes }, block) => put(scale, codes, block));
      return;
    }
    const codes = new Uint8Array(SIZE);
    for (let from = 0; from < values.length; from += SIZE)
      put(signed(values, from, middle, codes), codes, from / SIZE);
  };

const offset =
  (bytes: number, most: number) =>
  (values: Float32Array, out: Uint8Array, importance?: Float32Array | null) => {
    const put = (d: number, low: number, codes: Uint8Array, block: number) => {
      putF16(out, block * bytes, d);
      putF16(out, block * bytes + 2, low);
      putCodes(out, block * bytes + bytes - 16, codes, most === 31);
    };
    if (importance) {
      const how = weightedSearch(most);
      const search: Search = (block, weights, found) => rangedScale(block, weights, how, found);
      searched(values, importance, search, ({ scale, minimum, codes }, block) =>
        put(scale, -minimum, codes, block),
      );
      return;
    }
    const codes = new Uint8Array(SIZE);
    for (let from = 0; from < values.length; from += SIZE) {
      const [d, low] = ranged(values, from, most, codes);
      put(d, low, codes, from / SIZE);
    }
  };

export const toQ4_0 = symmetric(18, 8);
export const toQ5_0 = symmetric(22, 16);
export const toQ4_1 = offset(20, 15);
export const toQ5_1 = offset(24, 31);

export function toQ8_0(values: Float32Array, out: Uint8Array): void {
  for (let from = 0, at = 0; from < values.length; from += SIZE, at += 34) {
    let largest = 0;
    for (let i = from; i < from + SIZE; i++) if (abs(values[i]) > largest) largest = abs(values[i]);
    const d = fround(largest / 127);
    const inverse = d === 0 ? 0 : fround(1 / d);
    putF16(out, at, d);
    for (let i = 0; i < SIZE; i++) {
      const scaled = fround(values[from + i] * inverse);
      // C's roundf: halves are rounded away from zero.
      out[at + 2 + i] = scaled < 0 ? -trunc(0.5 - scaled) : trunc(scaled + 0.5);
    }
  }
}
