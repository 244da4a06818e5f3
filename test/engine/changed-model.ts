/** The tiny model with one tensor that is wrong, on any device. */
import { expect } from "vitest";
import type { Device } from "../../src/device/contract.ts";
import type { EngineModel } from "../../src/engine/language-model.ts";
import { loadEngineModel } from "../../src/engine/load-checkpoint.ts";
import { dequantize } from "../../src/format/blocks.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { ggufCheckpoint } from "../../src/format/checkpoints.ts";
import { LogitsError } from "../../src/format/errors.ts";
import type { WrittenTensor } from "../format/write-gguf.ts";
import { tinyModel } from "./tiny-model.ts";

/** The model with one tensor in float32, its values changed. */
export async function changedModel(
  open: () => Promise<Device>,
  name: string,
  change: (values: Float32Array, cols: number) => void,
): Promise<EngineModel> {
  const inFloats = (tensor: WrittenTensor): WrittenTensor => {
    const [cols, rows = 1] = tensor.dims.map(Number);
    const values = new Float32Array(rows * cols);
    dequantize(tensor.type === 0 ? "f32" : "q8_0", tensor.data!, values);
    change(values, cols);
    return { ...tensor, type: 0, data: new Uint8Array(values.buffer) };
  };
  const tensors = (all: WrittenTensor[]) => all.map((one) => (one.name === name ? inFloats(one) : one));
  const checkpoint = await ggufCheckpoint(bufferSource("tiny.gguf", tinyModel({ tensors })));
  return loadEngineModel(checkpoint, open, { context: 128, chunk: 16 });
}

/** Logits beyond float32 end a text with the error that names one of them. */
export async function expectBeyondFloat32(open: () => Promise<Device>): Promise<void> {
  // Infinity or -Infinity, each where the other's row is not.
  const model = await changedModel(open, "output.weight", (values, cols) => {
    values.fill(3e38, 100 * cols, 101 * cols).fill(-3e38, 101 * cols, 102 * cols);
  });
  const options = { temperature: 1, ignoreEnd: true, maxTokens: 3 };
  const generation = model.generate({ ids: [259, 260, 261, 262] }, options).result();
  const error: LogitsError = await generation.then(String, (error) => error);
  expect(error).toBeInstanceOf(LogitsError);
  expect(error.position).toBe(3);
  expect([100, 101]).toContain(error.id);
  await model.close();
}
