/**
 * Types of one, 1.7 and two bits, by way of q2_0 blocks (format/blocks/ternary.ts): q1_0 keeps a bit a code, the others two.
 */
import {
  Q2_BYTES,
  Q2_VALUES,
  TERNARY_TYPES,
  type TernaryTypeName,
  toQ2,
} from "../../../format/blocks/ternary.ts";
import { halfAt, type PackRow, pairsOf, putHalf } from "./words.ts";

export function ternaryRow(type: TernaryTypeName): PackRow {
  const { bytes: blockBytes, values } = TERNARY_TYPES[type];
  const q2 = new Uint8Array((values / Q2_VALUES) * Q2_BYTES);
  const four = new Uint32Array(8);
  return (bytes, at, cols, codes, to, scales, scaleTo) => {
    for (let col = 0; col < cols; at += blockBytes) {
      toQ2(TERNARY_TYPES[type], bytes.subarray(at, at + blockBytes), q2);
      for (let block = 0; block < q2.length; block += Q2_BYTES)
        for (let half = 0; half < 16; half += 8, col += 32) {
          putHalf(scales, scaleTo, col / 32, halfAt(q2, block));
          for (let w = 0; w < 8; w++) four[w] = apart(q2[block + 2 + half + w]);
          if (type === "q1_0") codes[to++] = bitsOf(four);
          else {
            pairsOf(four, 0, codes, to);
            to += 2;
          }
        }
    }
  };
}

/** Four codes of two bits, one a byte. */
function apart(four: number): number {
  return (four | (four << 6) | (four << 12) | (four << 18)) & 0x03030303;
}

/** The second bits of 32 codes, one a byte: bit w of a byte's lower half is word w's, of its upper half word 4 + w's. */
function bitsOf(four: Uint32Array): number {
  let word = 0;
  for (let w = 0; w < 8; w++) word |= ((four[w] >>> 1) & 0x01010101) << w;
  return word;
}
