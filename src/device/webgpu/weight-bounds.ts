/**
 * Refuses weights that the GPU's kernels could not represent: they expand weights to float16 for subgroup matrices, and
 * multiplied-out scales are float16 on every GPU. No published weight comes near the limit; a damaged or hostile file
 * may contain any number.
 */
import { UnsupportedError } from "../../format/errors.ts";
import { bf16ToF32, f16ToF32 } from "../../format/float16.ts";
import type { WeightForm } from "./weights.ts";

/** The largest finite float16. */
const LARGEST = 65_504;
/** Set in a float16 or bfloat16 of magnitude 2 or more; most matrices and scales are below. */
const TWO_OR_MORE = 0x4000_4000;

/** Largest magnitude of a code minus its bias, in every type of the form; for codes of a table it is in the table. */
const MOST_CODE = {
  ...{ nibbles: 15, table: 0, bytes: 128, bits: 2, pairs: 3, thirds: 0, fives: 31, sixes: 63 },
  ...{ f32: 0, f16: 0, bf16: 0 },
} as const;
/** The largest odd number that an f32 of `odds` is multiplied by. */
const MOST_ODD = 31;
/** Half of the largest e4m3, in a row of `e4m3`. */
const MOST_E4M3 = 240;

/**
 * A magnitude beyond float16 that a packed weight may have; null: there is none. codes, scales: whole words of packed
 * rows; rowWords: words of a row's scales. A float that is infinite or NaN in the file passes: it stays one.
 */
export function beyondFloat16(
  form: WeightForm,
  codes: Uint32Array,
  scales: Uint32Array,
  rowWords: number,
): number | null {
  if (form.codes === "bf16") {
    if (!hasLarge(codes)) return null;
    for (const bits of halvesOf(codes)) {
      const value = Math.abs(bf16ToF32(bits));
      if (value > LARGEST && value < Number.POSITIVE_INFINITY) return value;
    }
    return null;
  }
  if (form.scales === "odds" || form.scales === "e4m3") {
    const floats = new Float32Array(scales.buffer, scales.byteOffset, scales.length);
    const [every, most] = form.scales === "odds" ? [3, MOST_ODD] : [rowWords, MOST_E4M3];
    for (let i = 0; i < floats.length; i += every) {
      const value = Math.abs(floats[i]) * most * mostCode(form);
      if (!(value <= LARGEST)) return value;
    }
    return null;
  }
  if (form.scales === "superPairs" || form.scales === "superHalves") return beyondOfSupers(form, scales);
  if (form.scales === null || !hasLarge(scales)) return null;
  const read = form.scales === "bfloat" ? bf16ToF32 : f16ToF32;
  const isPair = form.scales === "pair" || form.scales === "halfPairs";
  const halves = halvesOf(scales);
  for (let i = 0; i < halves.length; i += isPair ? 2 : 1) {
    const offset = isPair ? Math.abs(read(halves[i + 1])) : 0;
    const value = Math.abs(read(halves[i])) * (mostCode(form) + form.bias) + offset;
    if (!(value <= LARGEST)) return value;
  }
  return null;
}

/**
 * For `superPairs` and `superHalves`: five words for eight groups. A d or dMin of 1,024 or more is infinite here, and
 * refused.
 */
function beyondOfSupers(form: WeightForm, scales: Uint32Array): number | null {
  const most = mostCode(form) + form.bias;
  const isPair = form.scales === "superPairs";
  for (let at = 0; at < scales.length; at += 5) {
    const d = Math.abs(f16ToF32(scales[at] & 0xffff)) / 64;
    const m = Math.abs(f16ToF32(scales[at] >>> 16)) / 64;
    // The result of the largest bytes; if that is within bounds the bytes need not be read.
    if (isPair ? d * 63 * most + m * 63 <= LARGEST : d * 128 * most <= LARGEST) continue;
    if (d + m === Number.POSITIVE_INFINITY) return d + m;
    for (let group = 0; group < 8; group++) {
      const bytes = scales[at + 1 + (group >> 1)] >>> (8 * (group & 1));
      const [a, b] = [bytes & 255, (bytes >>> 16) & 255];
      const value = isPair ? d * a * most + m * b : d * most * Math.max(Math.abs(a - 128), Math.abs(b - 128));
      if (!(value <= LARGEST)) return value;
    }
  }
  return null;
}

function mostCode({ codes, table }: WeightForm): number {
  if (!table) return MOST_CODE[codes];
  return Math.max(...new Int8Array(Uint32Array.from(table).buffer).map(Math.abs));
}

function hasLarge(words: Uint32Array): boolean {
  let all = 0;
  for (let i = 0; i < words.length; i++) all |= words[i];
  return (all & TWO_OR_MORE) !== 0;
}

function halvesOf({ buffer, byteOffset, byteLength }: Uint32Array): Uint16Array {
  return new Uint16Array(buffer, byteOffset, byteLength / 2);
}

/** The error of a weight that may have such a magnitude. */
export function tooLarge(name: string, value: number): UnsupportedError {
  return new UnsupportedError(
    `Weight ${name} with numbers of up to ${value.toPrecision(4)} (float16's largest is ${LARGEST}) on the gpu device`,
    "Check the file, or use the CPU (--device cpu).",
  );
}
