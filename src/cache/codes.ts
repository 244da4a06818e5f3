/**
 * Codes of few bits in bytes, in the order that all formats of the cache share. Codes are stored by groups of 32 (the
 * last one may have 16), so that kernels find the codes of a group together. In a group of n:
 * 8 bits a byte each
 * 4 bits code i in the low half of byte i, code i + n/2 in its high half
 * 2 bits codes i, i + n/4, i + n/2, i + 3n/4 in byte i, lowest bits first
 * 1 bit codes 8i to 8i + 7 in byte i, lowest bit first
 * 3 bits are the two low bits of all groups, then the high bit of all.
 */
import type { CodeBits } from "../device/kv.ts";

const GROUP = 32;

/** Bytes of `count` codes. */
export function codeBytes(count: number, bits: CodeBits): number {
  return (count * bits) / 8;
}

/** Writes codes into the first codeBytes of `bytes`. */
export function packCodes(codes: Uint8Array, bits: CodeBits, bytes: Uint8Array): void {
  bytes.fill(0, 0, codeBytes(codes.length, bits));
  eachPlace(codes.length, bits, (i, byte, shift, from, mask) => {
    bytes[byte] |= ((codes[i] >> from) & mask) << shift;
  });
}

export function unpackCodes(bytes: Uint8Array, bits: CodeBits, codes: Uint8Array): void {
  codes.fill(0);
  eachPlace(codes.length, bits, (i, byte, shift, from, mask) => {
    codes[i] |= ((bytes[byte] >> shift) & mask) << from;
  });
}

/** The position of some bits of code i (from bit `from`, `mask`): in `byte` at `shift`. */
type Place = (i: number, byte: number, shift: number, from: number, mask: number) => void;

function eachPlace(count: number, bits: CodeBits, place: Place): void {
  if (bits === 3) {
    eachOf(count, 2, 0, 0, place);
    eachOf(count, 1, codeBytes(count, 2), 2, place);
  } else eachOf(count, bits, 0, 0, place);
}

function eachOf(count: number, bits: number, start: number, from: number, place: Place): void {
  const mask = 2 ** bits - 1;
  for (let first = 0; first < count; first += GROUP) {
    const length = Math.min(GROUP, count - first);
    const bytes = (length * bits) / 8;
    const at = start + (first * bits) / 8;
    for (let i = 0; i < length; i++) {
      if (bits === 1) place(first + i, at + (i >> 3), i & 7, from, mask);
      else place(first + i, at + (i % bytes), Math.floor(i / bytes) * bits, from, mask);
    }
  }
}
