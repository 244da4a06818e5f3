/**
 * GGUF's grid types (format/blocks/grid.ts) -> places in a table of 16 values, with a scale for each 16 or 32. The scale d *
 * odd is rounded to f16 once, as in K types.
 */
import { GRID_TYPES, type GridTypeName, gridBlock } from "../../../format/blocks/grid.ts";
import { f16ToF32, f32ToF16 } from "../../../format/float16.ts";
import { type PackRow, putHalf } from "./words.ts";

/** every: values under one scale. */
export function gridRow(type: GridTypeName, every: 16 | 32): PackRow {
  const { bytes: blockBytes, unit, unpack } = GRID_TYPES[type];
  const block = gridBlock();
  return (bytes, at, cols, codes, to, scales, scaleTo) => {
    for (let i = 0; i < cols / 256; i++, at += blockBytes) {
      const d = f16ToF32(unpack(bytes, at, block)) * unit;
      for (let group = 0; group < 8; group++, to += 4) {
        for (let w = 0; w < 4; w++)
          codes[to + w] = block.codes[8 * group + w] | (block.codes[8 * group + 4 + w] << 4);
        const first = f32ToF16(d * block.odds[2 * group]);
        if (every === 32) putHalf(scales, scaleTo, 8 * i + group, first);
        else scales[scaleTo + 8 * i + group] = first | (f32ToF16(d * block.odds[2 * group + 1]) << 16);
      }
    }
  };
}
