/**
 * MLX's groups, [scale f32][bias f32][codes, neighbours in a byte] (format/blocks/mlx.ts). Scale and bias become f16,
 * which is exact for files with f16 or bf16 of ordinary size; a group of 64 or 128 becomes two or four of ours with the
 * same pair.
 */
import { f32ToF16 } from "../../../format/float16.ts";
import { type PackRow, wordAt } from "./words.ts";

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

function floatAt(bytes: Uint8Array, at: number): number {
  bits[0] = wordAt(bytes, at);
  return float[0];
}

/** The lower, then the upper halves of bytes 0 and 1 of `pairs`: four adjacent codes, one per byte. */
function apart(pairs: number): number {
  const low = (pairs & 0x0f) | ((pairs & 0x0f00) << 8);
  const high = ((pairs & 0xf0) << 4) | ((pairs & 0xf000) << 12);
  return low | high;
}

export function mlx4(group: 32 | 64 | 128): PackRow {
  return ({ bytes }, at, cols, codes, to, scales, scaleTo) => {
    for (let block = 0; block < cols / group; block++, at += 8 + group / 2) {
      const pair = f32ToF16(floatAt(bytes, at)) | (f32ToF16(floatAt(bytes, at + 4)) << 16);
      for (let part = 0; part < group / 32; part++, to += 4) {
        scales[scaleTo++] = pair;
        const from = at + 8 + 16 * part;
        for (let w = 0; w < 4; w += 2) {
          const low = wordAt(bytes, from + 2 * w);
          const high = wordAt(bytes, from + 8 + 2 * w);
          codes[to + w] = apart(low) | (apart(high) << 4);
          codes[to + w + 1] = apart(low >>> 16) | (apart(high >>> 16) << 4);
        }
      }
    }
  };
}

export function mlx8(group: 32 | 64 | 128): PackRow {
  return ({ bytes }, at, cols, codes, to, scales, scaleTo) => {
    const plane = cols / 8;
    for (let block = 0; block < cols / group; block++, at += 8 + group) {
      // Codes are unsigned: minus 128 they are int8, and the offset compensates for it.
      const scale = floatAt(bytes, at);
      const pair = f32ToF16(scale) | (f32ToF16(floatAt(bytes, at + 4) + 128 * scale) << 16);
      for (let part = 0; part < group / 32; part++, to += 4) {
        scales[scaleTo++] = pair;
        const from = at + 8 + 32 * part;
        for (let w = 0; w < 4; w++) {
          codes[to + w] = wordAt(bytes, from + 4 * w) ^ 0x80808080;
          codes[to + plane + w] = wordAt(bytes, from + 16 + 4 * w) ^ 0x80808080;
        }
      }
    }
  };
}
