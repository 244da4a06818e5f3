/** Comparing arrays to the last bit. `toEqual` looks at thousands of numbers one by one, which takes longer than computing them. */
import { expect } from "vitest";

type Numbers = Uint8Array | Float32Array;

/** Fails, with the difference, unless both hold the same numbers. */
export function expectSame(found: Numbers, wanted: Numbers, what?: string): void {
  if (Buffer.compare(bytesOf(found), bytesOf(wanted)) !== 0) expect(found, what).toEqual(wanted);
}

function bytesOf({ buffer, byteOffset, byteLength }: Numbers): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
