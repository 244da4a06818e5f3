/** Keys and values unchanged, for comparing the reference with float32 implementations. */
import type { KvCodec } from "../device/contract.ts";

export const f32: KvCodec = {
  name: "f32",
  packed: null,
  vectorBytes: (headDim) => headDim * 4,
  encode(vector, bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i < vector.length; i++) view.setFloat32(i * 4, vector[i], true);
  },
  decode(bytes, vector) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i < vector.length; i++) vector[i] = view.getFloat32(i * 4, true);
  },
};
