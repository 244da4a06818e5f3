/**
 * `int4`: asymmetric 4-bit codes in groups of 32 along the head, 5.0 bits per value (the format published with
 * Open-TQ-Metal, arXiv 2604.16957): value = scale * code + zero, scale = (max - min) / 15 and zero = min as float16.
 *
 * Bytes of one group: scale f16, zero f16, then codes, value i in the low half of byte i and value i + half in its high
 * half. A head size that is not a multiple of 32 ends with a shorter group of 16. Codes are chosen for the rounded
 * scale and zero, so rounding them costs no accuracy. All arithmetic is float32 in the order written, so that every
 * device finds the same codes. Values are limited to +-65000, so that all decoded values are finite in float16, too, in
 * which fast kernels expand codes. A range below 15 * 2^-25 has scale 0 and decodes to its zero. There is no code for
 * NaN: a device may make anything of it.
 */
import type { KvCodec } from "../device/contract.ts";
import { INT4_GROUP } from "../device/int4.ts";
import { f16ToF32 } from "../format/float16.ts";
import { finiteF16 } from "./codec-f16.ts";

const HEADER_BYTES = 4;
/** zero + 15 * scale, each rounded to float16, is at most 76 more; float16 ends at 65504. */
const LARGEST = 65_000;
const fround = Math.fround;

export const int4: KvCodec = {
  name: "int4",
  packed: null,
  vectorBytes: (headDim) => headDim / 2 + HEADER_BYTES * Math.ceil(headDim / INT4_GROUP),
  encode(vector, bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    for (let first = 0; first < vector.length; first += INT4_GROUP) {
      const group = vector.subarray(first, first + INT4_GROUP);
      const half = group.length / 2;
      let min = LARGEST;
      let max = -LARGEST;
      for (const x of group) {
        min = Math.min(min, Math.max(x, -LARGEST));
        max = Math.max(max, Math.min(x, LARGEST));
      }
      const scaleBits = finiteF16(fround(fround(max - min) / 15));
      // Adding 0 turns -0 into 0: which of the two is the minimum depends on the order of comparisons.
      const zeroBits = finiteF16(min + 0);
      const scale = f16ToF32(scaleBits);
      const zero = f16ToF32(zeroBits);
      const inverse = scale > 0 ? fround(1 / scale) : 0;
      const code = (x: number) =>
        Math.min(15, Math.max(0, Math.floor(fround(fround(fround(x - zero) * inverse) + 0.5))));
      view.setUint16(at, scaleBits, true);
      view.setUint16(at + 2, zeroBits, true);
      at += HEADER_BYTES;
      for (let i = 0; i < half; i++) bytes[at++] = code(group[i]) | (code(group[i + half]) << 4);
    }
  },
  decode(bytes, vector) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    for (let first = 0; first < vector.length; first += INT4_GROUP) {
      const half = Math.min(INT4_GROUP, vector.length - first) / 2;
      const scale = f16ToF32(view.getUint16(at, true));
      const zero = f16ToF32(view.getUint16(at + 2, true));
      at += HEADER_BYTES;
      for (let i = 0; i < half; i++, at++) {
        vector[first + i] = scale * (bytes[at] & 15) + zero;
        vector[first + half + i] = scale * (bytes[at] >> 4) + zero;
      }
    }
  },
};
