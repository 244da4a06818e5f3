/** Shared by the packers: reading words from bytes at any alignment, and arithmetic on four codes in a word. */

/**
 * Bytes of a file, also as numbers of two and of four bytes: a word is one read if a type's blocks are whole words
 * (q4_k, q5_k), two if they are even (most), four by `wordAt` for all others.
 */
export interface FileBytes {
  readonly bytes: Uint8Array;
  readonly halves: Uint16Array;
  readonly words: Int32Array;
}

/** Views of bytes, which are copied unless they begin with a whole word. */
export function fileBytes(from: Uint8Array): FileBytes {
  const bytes = from.byteOffset % 4 === 0 ? from : from.slice();
  const { buffer, byteOffset, length } = bytes;
  return {
    bytes,
    halves: new Uint16Array(buffer, byteOffset, length >> 1),
    words: new Int32Array(buffer, byteOffset, length >> 2),
  };
}

/** Packs one row: file bytes from `at` on -> codes from word `to` on, scales from word `scaleTo` on. */
export type PackRow = (
  file: FileBytes,
  at: number,
  cols: number,
  codes: Uint32Array,
  to: number,
  scales: Uint32Array,
  scaleTo: number,
) => void;

export function wordAt(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
}

/** A word that starts at half word `at`. */
export function wordOf(halves: Uint16Array, at: number): number {
  return halves[at] | (halves[at + 1] << 16);
}

export function halfAt(bytes: Uint8Array, at: number): number {
  return bytes[at] | (bytes[at + 1] << 8);
}

/** The lower halves of four bytes. */
export const LOW = 0x0f0f0f0f;

/** Bits 0..3 of a number, each in bit 0 of a separate byte. */
export function spreadBits(bits: number): number {
  return (bits & 1) | ((bits & 2) << 7) | ((bits & 4) << 14) | ((bits & 8) << 21);
}

/** Writes group `group`'s f16 or bf16 bits where two groups share a word. The even group of a word comes first. */
export function putHalf(scales: Uint32Array, scaleTo: number, group: number, bits: number): void {
  const at = scaleTo + (group >> 1);
  scales[at] = group & 1 ? (scales[at] & 0xffff) | (bits << 16) : bits;
}

/**
 * The lower two bits of 32 codes, one per byte in eight words -> two words that kernels read as nibbles: bits 0 and 1
 * of words 0, 1, 4 and 5 side by side, then those of words 2, 3, 6 and 7.
 */
export function pairsOf(from: Uint32Array, at: number, codes: Uint32Array, to: number): void {
  const pair = (word: number) => from[at + word] & 0x03030303;
  for (let i = 0; i < 4; i += 2)
    codes[to++] = pair(i) | (pair(i + 1) << 2) | (pair(i + 4) << 4) | (pair(i + 5) << 6);
}
