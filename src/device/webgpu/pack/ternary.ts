/** Types of one, 1.7 and two bits, by way of q2_0 blocks (format/blocks/ternary.ts) -> nibbles of 0 to 3. */
import {
  Q2_BYTES,
  Q2_VALUES,
  TERNARY_TYPES,
  type TernaryTypeName,
  toQ2,
} from "../../../format/blocks/ternary.ts";
import { halfAt, type PackRow, putHalf } from "./words.ts";

export function ternaryRow(type: TernaryTypeName): PackRow {
  const { bytes: blockBytes, values } = TERNARY_TYPES[type];
  const q2 = new Uint8Array((values / Q2_VALUES) * Q2_BYTES);
  return (bytes, at, cols, codes, to, scales, scaleTo) => {
    for (let col = 0; col < cols; col += values, at += blockBytes) {
      toQ2(TERNARY_TYPES[type], bytes.subarray(at, at + blockBytes), q2);
      for (let i = 0; i < values; i += 32, to += 4) {
        const from = (i / Q2_VALUES) | 0;
        const block = from * Q2_BYTES;
        putHalf(scales, scaleTo, (col + i) / 32, halfAt(q2, block));
        const part = block + 2 + ((i % Q2_VALUES) >> 2);
        for (let w = 0; w < 4; w++) codes[to + w] = apart(q2[part + w]) | (apart(q2[part + 4 + w]) << 4);
      }
    }
  };
}

/** Four codes of two bits, one a byte. */
function apart(four: number): number {
  return (four | (four << 6) | (four << 12) | (four << 18)) & 0x03030303;
}
