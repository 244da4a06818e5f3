/** Infinities and NaN in tensors: found wherever a type keeps a float, by the definition of its values. */
import { describe, expect, it } from "vitest";
import { dequantize } from "../../src/format/blocks.ts";
import { FormatError } from "../../src/format/errors.ts";
import { areFinite, finiteTensor } from "../../src/format/finite-tensor.ts";
import { BLOCKS, type TensorType } from "../../src/format/tensor.ts";
import { randomBytes, randomTensor } from "../device/random-tensor.ts";

const TYPES = Object.keys(BLOCKS) as TensorType[];
const ROWS = 3;
const BLOCKS_A_ROW = 2;

function byValues(type: TensorType, bytes: Uint8Array, count: number): boolean {
  const values = new Float32Array(count);
  dequantize(type, bytes, values);
  const scales = type.startsWith("mlx") ? [0, 4] : type === "nvfp4" ? [0] : [];
  if (scales.length === 0) return values.every(Number.isFinite);
  // A finite scale of 1e38 times a code may be infinite.
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += BLOCKS[type].bytes)
    if (!scales.every((offset) => Number.isFinite(view.getFloat32(at + offset, true)))) return false;
  return true;
}

describe.each(TYPES)("%s", (type) => {
  const { elements, bytes: blockBytes } = BLOCKS[type];
  const cols = Math.max(32, elements * BLOCKS_A_ROW);

  it("is finite exactly where all its values are, whichever two bytes become an exponent of ones", () => {
    const good = randomBytes(type, ROWS, cols, 7);
    expect(areFinite(type, good)).toBe(true);
    let wrong = 0;
    const block = Math.floor((ROWS * cols) / elements) - 1;
    // iq1_m has the exponent of its scale in every other byte.
    const apart = type === "iq1_m" ? 2 : 1;
    for (let at = 0; at + apart < blockBytes; at++)
      for (const [low, high] of [
        [0x00, 0x7c],
        [0x01, 0xfe],
        [0x80, 0x7f],
        [0xc0, 0xff],
        [0xff, 0x00],
      ]) {
        const bytes = good.slice();
        bytes[block * blockBytes + at] = low;
        bytes[block * blockBytes + at + apart] = high;
        const areAll = byValues(type, bytes, ROWS * cols);
        if (!areAll) wrong++;
        expect(areFinite(type, bytes), `byte ${at}`).toBe(areAll);
        // At any alignment.
        const moved = new Uint8Array(bytes.length + 1).subarray(1);
        moved.set(bytes);
        expect(areFinite(type, moved)).toBe(areAll);
      }
    expect(wrong).toBeGreaterThan(0);
  });
});

it("reads as the tensor does, and refuses with its name and rows", async () => {
  const tensor = randomTensor("blk.0.ffn_up.weight", "q4_k", 4, 256);
  const into = new Uint8Array(2 * 144);
  const wanted = into.slice();
  await tensor.readRows(1, 2, wanted);
  const read = finiteTensor({
    ...tensor,
    async readRows(first, count, bytes) {
      await tensor.readRows(first, count, bytes);
      if (first === 3) bytes[1] = 0x7e;
    },
  });
  await read.readRows(1, 2, into);
  expect(into).toEqual(wanted);
  const failed = read.readRows(3, 1, into.subarray(144));
  await expect(failed).rejects.toThrow(FormatError);
  await expect(failed).rejects.toThrow(
    "tensor blk.0.ffn_up.weight, rows 3 to 3: an infinity or a NaN; allowed: finite numbers; the file is damaged",
  );
});
