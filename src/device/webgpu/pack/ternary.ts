/** Types of one, 1.7 and two bits (format/blocks/ternary.ts): q1_0 keeps one bit per code, the others two. */
import { TERNARY_TYPES, type TernaryTypeName, ternaryBlock } from "../../../format/blocks/ternary.ts";
import { halfAt, type PackRow, pairsOf, putHalf } from "./words.ts";

export function ternaryRow(name: TernaryTypeName): PackRow {
  const type = TERNARY_TYPES[name];
  const block = ternaryBlock(type);
  const { words } = block;
  return ({ bytes }, at, cols, codes, to, scales, scaleTo) => {
    for (let group = 0; group < cols / 32; at += type.bytes) {
      const scale = halfAt(bytes, at + type.scale);
      type.unpack(bytes, at, block);
      for (let first = 0; first < words.length; first += 8, group++) {
        putHalf(scales, scaleTo, group, scale);
        if (name === "q1_0") codes[to++] = bitsOf(words, first);
        else {
          pairsOf(words, first, codes, to);
          to += 2;
        }
      }
    }
  };
}

/**
 * The second bits of 32 codes, one per byte: bit w of a byte's lower half is word w's, of its upper half word 4 + w's.
 */
function bitsOf(words: Uint32Array, first: number): number {
  let bits = 0;
  for (let w = 0; w < 8; w++) bits |= ((words[first + w] >>> 1) & 0x01010101) << w;
  return bits;
}
