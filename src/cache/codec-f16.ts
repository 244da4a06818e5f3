/** Keys and values in float16, rounded to nearest even: what every claim about a smaller format is compared with. */
import type { KvCodec } from "../device/contract.ts";
import { f16ToF32, f32ToF16 } from "../format/float16.ts";

export const f16: KvCodec = {
  name: "f16",
  vectorBytes: (headDim) => headDim * 2,
  encode(vector, bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i < vector.length; i++) view.setUint16(i * 2, f32ToF16(vector[i]), true);
  },
  decode(bytes, vector) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i < vector.length; i++) vector[i] = f16ToF32(view.getUint16(i * 2, true));
  },
};
