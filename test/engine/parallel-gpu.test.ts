/**
 * Texts on a GPU, in software: those that share steps, or guess, say what their own logits, read alone, find likeliest; and
 * logits that are no numbers end a text. Models of one shape on a shared device, since compiling takes most of the time.
 */
import { expect, it } from "vitest";
import { webgpuDevice } from "../../src/device/webgpu/webgpu.ts";
import { loadEngineModel } from "../../src/engine/load-checkpoint.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { ggufCheckpoint } from "../../src/format/checkpoints.ts";
import { describeGpu } from "../device/webgpu/gpu.ts";
import { sharedGpu } from "../device/webgpu/shared.ts";
import { expectBeyondFloat32 } from "./changed-model.ts";
import { tinyModel } from "./tiny-model.ts";

/** Of the logits' spread: kernels for one row and for more of them round otherwise. */
const TOLERANCE = 0.1;

const onGpu = async () => webgpuDevice(await sharedGpu());

describeGpu("two texts", () => {
  it("go on together as each does alone", async () => {
    const model = await loadEngineModel(await ggufCheckpoint(bufferSource("tiny.gguf", tinyModel())), onGpu, {
      context: 128,
      chunk: 16,
      parallel: 2,
    });
    const prompts = [5, 40].map((tokens, t) => ({
      ids: Array.from({ length: tokens }, (_, i) => 259 + ((i * (t + 2)) % 5)),
    }));
    const options = { ignoreEnd: true, temperature: 0 };
    // One begins alone, has the other's rows in its steps, and is alone again.
    const first = model.generate(prompts[0], { ...options, maxTokens: 12 });
    await first[Symbol.asyncIterator]().next();
    const all = await Promise.all([
      first.result(),
      model.generate(prompts[1], { ...options, maxTokens: 5 }).result(),
    ]);
    expect(all.map(({ generatedTokens }) => generatedTokens)).toEqual([12, 5]);
    for (const [t, { ids }] of all.entries()) {
      const text = model.open(prompts[t]);
      for (const id of ids) {
        const logits = await text.logits();
        const spread = Math.max(...logits) - Math.min(...logits);
        expect(Math.max(...logits) - logits[id]).toBeLessThan(TOLERANCE * spread);
        text.append({ ids: [id] });
      }
    }
    const again = await model.generate(prompts[1], { ...options, maxTokens: 1 }).result();
    expect(again.reusedTokens).toBe(39);
    expect(model.cache.used).toBe(0);
    await model.close();
  });
});

describeGpu("a text that repeats itself", () => {
  it("is guessed, and the device chooses after each guessed row what it would choose after one", async () => {
    const model = await loadEngineModel(await ggufCheckpoint(bufferSource("tiny.gguf", tinyModel())), onGpu, {
      context: 128,
      chunk: 16,
    });
    const ids = Array.from({ length: 24 }, (_, i) => 259 + (i % 4));
    const found = await model.generate({ ids }, { ignoreEnd: true, maxTokens: 48 }).result();
    expect(found.draftedTokens).toBeGreaterThan(0);
    const text = model.open({ ids });
    for (const id of found.ids) {
      const logits = await text.logits();
      const spread = Math.max(...logits) - Math.min(...logits);
      expect(Math.max(...logits) - logits[id]).toBeLessThan(TOLERANCE * spread);
      text.append({ ids: [id] });
    }
    expect(model.cache.used).toBe(0);
    await model.close();
  });
});

describeGpu("a model whose logits are beyond float32", () => {
  it("ends with the error that names one, as on every device (not-numbers.test.ts)", () =>
    expectBeyondFloat32(onGpu));
});
