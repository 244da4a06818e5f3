/**
 * Numbers -> GGUF's K types, bit for bit as ggml's quantize_row_q2_K_ref ... q6_K_ref (without an importance matrix):
 * each group's best scale is searched (quantize-groups.ts), the scales are quantized under the block's, and codes are made
 * with the scales as they are stored. Layouts stand in k-quants.ts.
 */
import { f16ToF32, f32ToF16 } from "../float16.ts";
import {
  type Found,
  NOTHING,
  nearest,
  rangedScale,
  type Search,
  signedScale,
  thirdBitScale,
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

/** Room for what the searches of all groups of a block find, over `codes`. */
function groups(count: number, codes: Uint8Array): Found[] {
  const size = SIZE / count;
  return Array.from({ length: count }, (_, g) => ({
    ...{ scale: 0, minimum: 0, codes: codes.subarray(size * g, size * (g + 1)) },
  }));
}

/** Codes of a group under value = d * code - dm. Under a scale of 0 those of the search stay, as in ggml. */
function ranged(values: Float32Array, d: number, dm: number, most: number, { codes }: Found): void {
  if (d === 0) return;
  for (let i = 0; i < values.length; i++)
    codes[i] = clamp(nearest(fround(fround(values[i] + dm) / d)), 0, most);
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

const Q2: Search = { most: 3, first: -0.5, step: 0.1, steps: 15, byMagnitude: true };

export function toQ2_K(values: Float32Array, out: Uint8Array): void {
  const codes = new Uint8Array(SIZE);
  const weights = new Float32Array(16);
  const found = groups(16, codes);
  for (let from = 0, at = 0; from < values.length; from += SIZE, at += 84) {
    let maxScale = 0;
    let maxMin = 0;
    for (let g = 0; g < 16; g++) {
      const group = values.subarray(from + 16 * g, from + 16 * g + 16);
      for (let i = 0; i < 16; i++) weights[i] = abs(group[i]);
      rangedScale(group, weights, Q2, found[g]);
      maxScale = max(maxScale, found[g].scale);
      maxMin = max(maxMin, found[g].minimum);
    }
    const perScale = maxScale > 0 ? fround(15 / maxScale) : 0;
    const perMin = maxMin > 0 ? fround(15 / maxMin) : 0;
    const d = putF16(out, at + 80, fround(maxScale / 15));
    const dMin = putF16(out, at + 82, fround(maxMin / 15));
    for (let g = 0; g < 16; g++) {
      const scale = nearest(fround(perScale * found[g].scale));
      const minimum = nearest(fround(perMin * found[g].minimum));
      out[at + g] = scale | (minimum << 4);
      const group = values.subarray(from + 16 * g, from + 16 * g + 16);
      ranged(group, fround(d * scale), fround(dMin * minimum), 3, found[g]);
    }
    putTwoBits(out, at + 16, codes);
  }
}

export function toQ3_K(values: Float32Array, out: Uint8Array): void {
  const codes = new Int8Array(SIZE);
  const scales = new Float32Array(16);
  for (let from = 0, at = 0; from < values.length; from += SIZE, at += 110) {
    let extreme = 0;
    codes.fill(0);
    for (let g = 0; g < 16; g++) {
      const group = values.subarray(from + 16 * g, from + 16 * g + 16);
      scales[g] = thirdBitScale(group, codes.subarray(16 * g, 16 * g + 16));
      if (abs(scales[g]) > abs(extreme)) extreme = scales[g];
    }
    const perScale = extreme === 0 ? 0 : fround(-32 / extreme);
    const d = putF16(out, at + 108, extreme === 0 ? 0 : fround(1 / perScale));
    out.fill(0, at, at + 32);
    out.fill(0, at + 96, at + 108);
    for (let g = 0; g < 16; g++) {
      const stored = extreme === 0 ? 0 : clamp(nearest(fround(perScale * scales[g])), -32, 31) + 32;
      out[at + 96 + (g & 7)] |= (stored & 15) << (4 * (g >> 3));
      out[at + 104 + (g & 3)] |= (stored >> 4) << (2 * (g >> 2));
      const scale = fround(d * (stored - 32));
      // A group under a scale of 0 keeps the codes of its search, as in ggml; they count from the middle, except where all is zero.
      for (let i = 16 * g; i < 16 * g + 16; i++)
        codes[i] =
          scale === 0
            ? codes[i] + (scales[g] === 0 && isZero(values, from + 16 * g) ? 0 : 4)
            : clamp(nearest(fround(values[from + i] / scale)), -4, 3) + 4;
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

/** q4_k and q5_k: d, dMin, scales and mins; codes into `found`. */
function ofGroups(
  values: Float32Array,
  search: Search,
  out: Uint8Array,
  at: number,
  found: readonly Found[],
): void {
  const weights = new Float32Array(32);
  let maxScale = 0;
  let maxMin = 0;
  for (let g = 0; g < 8; g++) {
    const group = values.subarray(32 * g, 32 * g + 32);
    weightsOf(group, weights);
    rangedScale(group, weights, search, found[g]);
    maxScale = max(maxScale, found[g].scale);
    maxMin = max(maxMin, found[g].minimum);
  }
  const perScale = maxScale > 0 ? fround(63 / maxScale) : 0;
  const perMin = maxMin > 0 ? fround(63 / maxMin) : 0;
  const d = putF16(out, at, fround(maxScale / 63));
  const dMin = putF16(out, at + 2, fround(maxMin / 63));
  for (let g = 0; g < 8; g++) {
    // ggml's bytes: a scale that the search made negative goes around.
    const scale = min(63, nearest(fround(perScale * found[g].scale)) & 255);
    const minimum = min(63, nearest(fround(perMin * found[g].minimum)) & 255);
    putSixBits(out, at + 4, g, scale, minimum);
    const group = values.subarray(32 * g, 32 * g + 32);
    ranged(group, fround(d * scale), fround(dMin * minimum), search.most, found[g]);
  }
}

const wide = (bytes: number, search: Search) => (values: Float32Array, out: Uint8Array) => {
  const codes = new Uint8Array(SIZE);
  const found = groups(8, codes);
  const nibbles = bytes - 128;
  for (let from = 0, at = 0; from < values.length; from += SIZE, at += bytes) {
    ofGroups(values.subarray(from, from + SIZE), search, out, at, found);
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

export const toQ4_K = wide(144, { most: 15, first: -1, step: 0.1, steps: 20, byMagnitude: false });
export const toQ5_K = wide(176, { most: 31, first: -0.5, step: 0.1, steps: 15, byMagnitude: false });

export function toQ6_K(values: Float32Array, out: Uint8Array): void {
  const codes = new Uint8Array(SIZE);
  const found = groups(16, codes);
  for (let from = 0, at = 0; from < values.length; from += SIZE, at += 210) {
    let extreme = 0;
    for (let g = 0; g < 16; g++) {
      signedScale(values.subarray(from + 16 * g, from + 16 * g + 16), 32, found[g]);
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
