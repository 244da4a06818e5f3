/**
 * Codes by channel: the 32 values that a dim of the head has in a page share a scale and a zero. Keys have channels that
 * stand far out in every token (biases, norm weights, slow rotary pairs); a scale for each keeps them from coarsening the
 * others. (KIVI, arXiv 2402.02750; measured in KV.md, Trial 2.) In attention the scale goes to the query, once a page, and
 * the zero becomes one number for all of the page's tokens.
 *
 * Bytes: scales f16 [headDim], zeros f16 [headDim], then codes [PAGE_SLOTS][headDim] in the order of codes.ts, a token after
 * another. value = scale * code + zero, zero = min, scale = (max - min) / (2^bits - 1) as float16.
 * Values are float16 numbers, so a minimum is exact. All arithmetic is float32 in the order written, as in codec-int4.ts, so
 * that every device finds the same codes.
 */
import { PAGE_SLOTS } from "../device/contract.ts";
import type { CodeBits } from "../device/kv.ts";
import { f16ToF32 } from "../format/float16.ts";
import { finiteF16 } from "./codec-f16.ts";
import { codeBytes, packCodes, unpackCodes } from "./codes.ts";
import type { PartCodec } from "./part-codec.ts";

/** So much that zero + (2^bits - 1) * scale is finite in float16 too, as in int4. */
const LARGEST = 65_000;
const fround = Math.fround;

export function channelCodec(bits: CodeBits): PartCodec {
  const most = 2 ** bits - 1;
  return {
    pageBytes: (headDim) => 4 * headDim + PAGE_SLOTS * codeBytes(headDim, bits),
    encode(page, bytes) {
      const headDim = page.length / PAGE_SLOTS;
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const codes = new Uint8Array(page.length);
      for (let dim = 0; dim < headDim; dim++) {
        let min = LARGEST;
        let max = -LARGEST;
        for (let at = dim; at < page.length; at += headDim) {
          min = Math.min(min, Math.max(page[at], -LARGEST));
          max = Math.max(max, Math.min(page[at], LARGEST));
        }
        const scaleBits = finiteF16(fround(fround(max - min) / most));
        const zeroBits = finiteF16(min + 0);
        const scale = f16ToF32(scaleBits);
        const zero = f16ToF32(zeroBits);
        const inverse = scale > 0 ? fround(1 / scale) : 0;
        for (let at = dim; at < page.length; at += headDim) {
          const steps = fround(fround(fround(page[at] - zero) * inverse) + 0.5);
          codes[at] = Math.min(most, Math.max(0, Math.floor(steps)));
        }
        view.setUint16(2 * dim, scaleBits, true);
        view.setUint16(2 * (headDim + dim), zeroBits, true);
      }
      const size = codeBytes(headDim, bits);
      for (let slot = 0; slot < PAGE_SLOTS; slot++) {
        const at = 4 * headDim + slot * size;
        packCodes(codes.subarray(slot * headDim, (slot + 1) * headDim), bits, bytes.subarray(at, at + size));
      }
    },
    decode(bytes, page) {
      const headDim = page.length / PAGE_SLOTS;
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const half = (at: number) => f16ToF32(view.getUint16(2 * at, true));
      const scales = Float32Array.from({ length: headDim }, (_, dim) => half(dim));
      const zeros = Float32Array.from({ length: headDim }, (_, dim) => half(headDim + dim));
      const codes = new Uint8Array(headDim);
      const size = codeBytes(headDim, bits);
      for (let slot = 0; slot < PAGE_SLOTS; slot++) {
        unpackCodes(bytes.subarray(4 * headDim + slot * size), bits, codes);
        for (let dim = 0; dim < headDim; dim++)
          page[slot * headDim + dim] = scales[dim] * codes[dim] + zeros[dim];
      }
    },
  };
}
