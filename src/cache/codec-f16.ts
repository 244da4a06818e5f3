/**
 * Keys and values in float16, rounded to nearest even: the baseline for every smaller format. Numbers beyond float16's
 * range become its largest, so that no cache holds an infinity. NaN stays NaN.
 */
import type { KvCodec } from "../device/contract.ts";
import { f16ToF32, f32ToF16 } from "../format/float16.ts";

/** The largest finite float16. */
const LARGEST = 65_504;

/** The bits of the nearest finite float16. */
export function finiteF16(value: number): number {
  return f32ToF16(Math.min(LARGEST, Math.max(-LARGEST, value)));
}

export const f16: KvCodec = {
  name: "f16",
  packed: null,
  vectorBytes: (headDim) => headDim * 2,
  encode(vector, bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i < vector.length; i++) view.setUint16(i * 2, finiteF16(vector[i]), true);
  },
  decode(bytes, vector) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i < vector.length; i++) vector[i] = f16ToF32(view.getUint16(i * 2, true));
  },
};
