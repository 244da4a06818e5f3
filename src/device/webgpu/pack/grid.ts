/**
 * GGUF's grid types (format/blocks/grid.ts): codes become indices into a table of 16 values, in nibbles, or of 8, in
 * pairs of bits and third bits; scales are unchanged, d is an f32: nothing is rounded.
 */
import { GRID_TYPES, type GridTypeName, gridBlock } from "../../../format/blocks/grid.ts";
import { f16ToF32 } from "../../../format/float16.ts";
import { type PackRow, pairsOf } from "./words.ts";

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

export function gridRow(type: GridTypeName): PackRow {
  const { bytes: blockBytes, unit, table, unpack } = GRID_TYPES[type];
  const putCodes = table.length === 16 ? putNibbles : putThirds;
  const block = gridBlock();
  return ({ bytes }, at, cols, codes, to, scales, scaleTo) => {
    for (let i = 0; i < cols / 256; i++, at += blockBytes) {
      float[0] = f16ToF32(unpack(bytes, at, block)) * unit;
      scales[scaleTo++] = bits[0];
      for (let half = 0; half < 16; half += 8) {
        let nibbles = 0;
        for (let j = 0; j < 8; j++) nibbles |= (block.odds[half + j] >> 1) << (4 * j);
        scales[scaleTo++] = nibbles;
      }
      to = putCodes(block.codes, codes, to);
    }
  };
}

/** 256 codes of four bits, one per byte -> eight groups; returns the start of the next ones. */
function putNibbles(from: Uint32Array, codes: Uint32Array, to: number): number {
  for (let at = 0; at < 64; at += 8, to += 4)
    for (let w = 0; w < 4; w++) codes[to + w] = from[at + w] | (from[at + 4 + w] << 4);
  return to;
}

/** 256 codes of three bits: for each four groups eight words of lower bits, then four of third bits. */
function putThirds(from: Uint32Array, codes: Uint32Array, to: number): number {
  for (let at = 0; at < 64; at += 32, to += 12)
    for (let group = 0; group < 4; group++) {
      const first = at + 8 * group;
      pairsOf(from, first, codes, to + 2 * group);
      let third = 0;
      for (let w = 0; w < 4; w++) {
        third |= ((from[first + w] >>> 2) & 0x01010101) << w;
        third |= ((from[first + 4 + w] >>> 2) & 0x01010101) << (4 + w);
      }
      codes[to + 8 + group] = third;
    }
  return to;
}
