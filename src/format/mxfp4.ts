/**
 * MXFP4 in a safetensors folder: 4-bit codes, two per byte, the first in the low half, and a power of two for each 32
 * of them. OpenAI's files have `X_blocks` [..., rows, groups, 16] and `X_scales` [..., rows, groups], both U8; MLX's
 * have `X.weight` of packed u32 words and `X.scales` U8. This file joins the two into one tensor of GGUF's mxfp4, whose
 * blocks hold the first 16 codes in the low halves of 16 bytes and the others in the high halves.
 */
import { FormatError } from "./errors.ts";
import { describe } from "./json.ts";
import { checkRows } from "./range-tensor.ts";
import { count, type SafetensorsEntry } from "./safetensors-file.ts";
import { BLOCKS, type Tensor } from "./tensor.ts";

/** Bytes gathered at a time, which bounds the memory of `readRows` beyond `into`. */
const STEP_BYTES = 1024 * 1024;
const GROUP = BLOCKS.mxfp4.elements;
const CODE_BYTES = GROUP / 2;

/** One tensor [rows, groups * 32] over codes and scales. Throws FormatError if the shapes disagree. */
export function mxfp4Tensor(name: string, codes: SafetensorsEntry, scales: SafetensorsEntry): Tensor {
  const [groups = 1] = scales.shape.slice(-1);
  const rows = count(scales.shape.slice(0, -1));
  if (scales.dtype !== "U8" || codes.bytes !== rows * groups * CODE_BYTES)
    throw new FormatError(
      `${codes.source.name}: ${describe(codes.name)}`,
      `${codes.bytes} bytes for scales of ${scales.dtype} [${scales.shape}]`,
      `scales of U8 and ${CODE_BYTES} bytes for each`,
    );
  const shape = { name, type: "mxfp4" as const, rows, cols: groups * GROUP };
  const read = async (entry: SafetensorsEntry, from: number, bytes: number) => {
    const into = new Uint8Array(bytes);
    await entry.source.read(entry.offset + from, into);
    return into;
  };
  return {
    ...shape,
    async readRows(first, rowCount, into) {
      checkRows(shape, first, rowCount, into);
      const step = Math.max(1, Math.floor(STEP_BYTES / (groups * CODE_BYTES)));
      for (let done = 0; done < rowCount; done += step) {
        const blocks = Math.min(step, rowCount - done) * groups;
        const at = (first + done) * groups;
        const [powers, pairs] = await Promise.all([
          read(scales, at, blocks),
          read(codes, at * CODE_BYTES, blocks * CODE_BYTES),
        ]);
        joinBlocks(powers, pairs, into.subarray(done * groups * BLOCKS.mxfp4.bytes));
      }
    },
  };
}

function joinBlocks(powers: Uint8Array, pairs: Uint8Array, into: Uint8Array): void {
  const half = CODE_BYTES / 2;
  for (let block = 0; block < powers.length; block++) {
    const to = block * BLOCKS.mxfp4.bytes;
    const from = block * CODE_BYTES;
    into[to] = powers[block];
    for (let pair = 0; pair < half; pair++) {
      const first = pairs[from + pair];
      const second = pairs[from + half + pair];
      into[to + 1 + 2 * pair] = (first & 15) | ((second & 15) << 4);
      into[to + 2 + 2 * pair] = (first >> 4) | (second & 0xf0);
    }
  }
}
