/** What pages weigh in the codec's bytes, packed or as their vectors came. Devices that arrange them otherwise have sizes of their own. */
import { type KvCodec, type KvPart, PAGE_SLOTS } from "./contract.ts";

/** Bytes of a page's keys, or values, of one head. isRecent: of a page of Graph.recent. */
export function pageBytes(codec: KvCodec, headDim: number, part: KvPart, isRecent = false): number {
  const { packed } = codec;
  return packed && !isRecent ? packed.pageBytes(headDim, part) : PAGE_SLOTS * codec.vectorBytes(headDim);
}

/** Bytes of one token's key and value of one head: of packed pages, its share. */
export function tokenBytes(codec: KvCodec, headDim: number): number {
  return (pageBytes(codec, headDim, "keys") + pageBytes(codec, headDim, "values")) / PAGE_SLOTS;
}
