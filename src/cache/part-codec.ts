/** One part of a packing, keys or values: converts 32 vectors of one head to bytes and back. */
import { PAGE_SLOTS } from "../device/contract.ts";

export interface PartCodec {
  /** Bytes of a page of vectors [PAGE_SLOTS, headDim]. */
  pageBytes(headDim: number): number;
  encode(page: Float32Array, bytes: Uint8Array): void;
  decode(bytes: Uint8Array, page: Float32Array): void;
}

/** Each vector by itself, one after another. */
export interface VectorCodec {
  vectorBytes(headDim: number): number;
  encode(vector: Float32Array, bytes: Uint8Array): void;
  decode(bytes: Uint8Array, vector: Float32Array): void;
}

export function byVectors(codec: VectorCodec): PartCodec {
  const each = (page: Float32Array, bytes: Uint8Array, work: (v: Float32Array, b: Uint8Array) => void) => {
    const headDim = page.length / PAGE_SLOTS;
    const size = codec.vectorBytes(headDim);
    for (let slot = 0; slot < PAGE_SLOTS; slot++)
      work(
        page.subarray(slot * headDim, (slot + 1) * headDim),
        bytes.subarray(slot * size, (slot + 1) * size),
      );
  };
  return {
    pageBytes: (headDim) => PAGE_SLOTS * codec.vectorBytes(headDim),
    encode: (page, bytes) => each(page, bytes, codec.encode),
    decode: (bytes, page) => each(page, bytes, (vector, own) => codec.decode(own, vector)),
  };
}
