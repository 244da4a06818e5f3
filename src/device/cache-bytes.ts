/**
 * Converts a cache's bytes between a device's own arrangement and the codec's. An arrangement is a permutation of bits,
 * most of them in whole bytes or half bytes. It is found once, by giving the device's own reader blocks whose bits are
 * numbered.
 */
import { PAGE_SLOTS } from "./contract.ts";

/** The codec's bytes of a page of one head, keys or values, from the device's block. */
type ReadPage = (block: Uint8Array) => Uint8Array;
/** As ReadPage, for the vector of one slot. */
type ReadVector = (block: Uint8Array, slot: number) => Uint8Array;

/** Where the bits of the codec's page are in a device's block. */
export interface BlockMap {
  /** Bytes of the device's block. */
  readonly blockBytes: number;
  /** Bytes of the codec's page. */
  readonly pageBytes: number;
  /**
   * For each byte of the codec: how many of its bits are adjacent and in order in a byte of the device: 8, 4, 2 or 1.
   */
  readonly together: Uint8Array;
  /** For each bit of the codec: its position in the device's block. */
  readonly bits: Uint32Array;
}

/** For pages whose vectors are consecutive in the codec's bytes. */
export function blockMap(blockBytes: number, vectorBytes: number, read: ReadVector): BlockMap {
  return pageMap(blockBytes, PAGE_SLOTS * vectorBytes, (block) => {
    const page = new Uint8Array(PAGE_SLOTS * vectorBytes);
    for (let slot = 0; slot < PAGE_SLOTS; slot++)
      page.set(read(block, slot).subarray(0, vectorBytes), slot * vectorBytes);
    return page;
  });
}

export function pageMap(blockBytes: number, pageBytes: number, read: ReadPage): BlockMap {
  const bits = new Uint32Array(8 * pageBytes);
  // Digit by digit: bit n of this block is the digit of n at `shift`.
  for (let shift = 0; 8 * blockBytes > 2 ** shift; shift++) {
    // Within a byte, bits count from 0: 0b10101010 and so on; for higher digits all bits of a byte are the same.
    const low = [0xaa, 0xcc, 0xf0][shift];
    const numbered = Uint8Array.from({ length: blockBytes }, (_, i) =>
      shift < 3 ? low : -((i >>> (shift - 3)) & 1),
    );
    const page = read(numbered);
    for (let at = 0; at < bits.length; at++) bits[at] |= ((page[at >> 3] >> (at & 7)) & 1) << shift;
  }
  const together = new Uint8Array(pageBytes);
  for (let byte = 0; byte < pageBytes; byte++) together[byte] = togetherOf(bits, 8 * byte);
  return { blockBytes, pageBytes, together, bits };
}

/** How many of the eight bits from `at` on are adjacent and in order. */
function togetherOf(bits: Uint32Array, at: number): number {
  for (let count = 8; count > 1; count /= 2) {
    let from = at;
    while (from < at + 8 && areTogether(bits, from, count)) from += count;
    if (from === at + 8) return count;
  }
  return 1;
}

function areTogether(bits: Uint32Array, at: number, count: number): boolean {
  if (bits[at] >> 3 !== bits[at + count - 1] >> 3) return false;
  for (let i = 1; i < count; i++) if (bits[at + i] !== bits[at] + i) return false;
  return true;
}

/** The codec's bytes of whole blocks, the first at `at`, each `stride` bytes after the previous one. */
export function gather(
  { together, bits, pageBytes }: BlockMap,
  from: Uint8Array,
  at: number,
  stride: number,
  pages: number,
): Uint8Array {
  const out = new Uint8Array(pages * pageBytes);
  for (let done = 0; done < out.length; done += pageBytes, at += stride) {
    for (let i = 0; i < pageBytes; i++) {
      const count = together[i];
      if (count === 8) {
        out[done + i] = from[at + (bits[8 * i] >> 3)];
        continue;
      }
      const mask = 2 ** count - 1;
      let byte = 0;
      for (let bit = 0; bit < 8; bit += count) {
        const place = bits[8 * i + bit];
        byte |= ((from[at + (place >> 3)] >> (place & 7)) & mask) << bit;
      }
      out[done + i] = byte;
    }
  }
  return out;
}

/** The inverse: bits of a block that no page uses become 0. */
export function scatter(
  { together, bits, blockBytes, pageBytes }: BlockMap,
  bytes: Uint8Array,
  into: Uint8Array,
  at: number,
  stride: number,
): void {
  for (let done = 0; done < bytes.length; done += pageBytes, at += stride) {
    into.fill(0, at, at + blockBytes);
    for (let i = 0; i < pageBytes; i++) {
      const count = together[i];
      if (count === 8) {
        into[at + (bits[8 * i] >> 3)] = bytes[done + i];
        continue;
      }
      const mask = 2 ** count - 1;
      for (let bit = 0; bit < 8; bit += count) {
        const place = bits[8 * i + bit];
        into[at + (place >> 3)] |= ((bytes[done + i] >> bit) & mask) << (place & 7);
      }
    }
  }
}
