/**
 * A cache's bytes, from a device's own arrangement into the codec's and back. Owns neither: a device says how it reads one
 * vector of a block. One idea: an arrangement is a permutation of half bytes, so it is asked about blocks whose half
 * bytes are numbered, once, and what it answers is the permutation.
 */
import { PAGE_SLOTS } from "./contract.ts";

/** The vector of a slot, in the codec's bytes, from the keys or the values of a block of one head. */
export type ReadVector = (block: Uint8Array, slot: number) => Uint8Array;

/** Where in a device's block each half byte of its vectors [32, vectorBytes] lies. */
export interface BlockMap {
  readonly blockBytes: number;
  readonly vectorBytes: number;
  /** By the codec's byte: the device's byte, where both halves lie together in their order; else -1. */
  readonly whole: Int32Array;
  /** By half byte, the lower one of a byte first. */
  readonly halves: Uint32Array;
}

export function blockMap(blockBytes: number, vectorBytes: number, read: ReadVector): BlockMap {
  const halves = new Uint32Array(PAGE_SLOTS * vectorBytes * 2);
  // Digit by digit: the half byte n of this block is the digit of n at `shift`.
  for (let shift = 0; 2 * blockBytes > 2 ** shift; shift += 4) {
    const digit = (n: number) => (n >>> shift) & 15;
    const numbered = Uint8Array.from(
      { length: blockBytes },
      (_, i) => digit(2 * i) | (digit(2 * i + 1) << 4),
    );
    for (let slot = 0; slot < PAGE_SLOTS; slot++) {
      const vector = read(numbered, slot);
      for (let i = 0; i < vectorBytes; i++) {
        const at = 2 * (slot * vectorBytes + i);
        halves[at] |= (vector[i] & 15) << shift;
        halves[at + 1] |= (vector[i] >> 4) << shift;
      }
    }
  }
  const isWhole = (i: number) => halves[2 * i] % 2 === 0 && halves[2 * i + 1] === halves[2 * i] + 1;
  const whole = Int32Array.from({ length: PAGE_SLOTS * vectorBytes }, (_, i) =>
    isWhole(i) ? halves[2 * i] / 2 : -1,
  );
  return { blockBytes, vectorBytes, whole, halves };
}

/** The codec's bytes [slots, vectorBytes] of whole blocks, the first at `at`, each `stride` bytes after the last. */
export function gather(
  map: BlockMap,
  from: Uint8Array,
  at: number,
  stride: number,
  slots: number,
): Uint8Array {
  const { whole, halves, vectorBytes } = map;
  const out = new Uint8Array(slots * vectorBytes);
  for (let done = 0; done < out.length; done += whole.length, at += stride) {
    for (let i = 0; i < whole.length; i++) {
      const byte = whole[i];
      if (byte >= 0) out[done + i] = from[at + byte];
      else {
        const low = halves[2 * i];
        const high = halves[2 * i + 1];
        const first = (from[at + (low >> 1)] >> ((low & 1) << 2)) & 15;
        const second = (from[at + (high >> 1)] >> ((high & 1) << 2)) & 15;
        out[done + i] = first | (second << 4);
      }
    }
  }
  return out;
}

/** The inverse: what of a block no vector has becomes 0. */
export function scatter(
  map: BlockMap,
  bytes: Uint8Array,
  into: Uint8Array,
  at: number,
  stride: number,
): void {
  const { whole, halves, blockBytes } = map;
  for (let done = 0; done < bytes.length; done += whole.length, at += stride) {
    into.fill(0, at, at + blockBytes);
    for (let i = 0; i < whole.length; i++) {
      const value = bytes[done + i];
      const byte = whole[i];
      if (byte >= 0) into[at + byte] = value;
      else {
        const low = halves[2 * i];
        const high = halves[2 * i + 1];
        into[at + (low >> 1)] |= (value & 15) << ((low & 1) << 2);
        into[at + (high >> 1)] |= (value >> 4) << ((high & 1) << 2);
      }
    }
  }
}
