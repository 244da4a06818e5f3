/**
 * A model's life on a GPU that fails, or whose owner has changed his mind: one error, and nothing stays open behind it. On
 * Dawn's null backend, which computes nothing: the device chooses the same token again and again.
 */
import { expect, it } from "vitest";
import { webgpuDevice } from "../../src/device/webgpu/webgpu.ts";
import type { EngineModel } from "../../src/engine/language-model.ts";
import { type LoadCheckpointOptions, loadEngineModel } from "../../src/engine/load-checkpoint.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { ggufCheckpoint } from "../../src/format/checkpoints.ts";
import { AbortedError, FormatError } from "../../src/format/errors.ts";
import { describeGpu } from "../device/webgpu/gpu.ts";
import { expectLost, losable, rejection } from "../device/webgpu/losable.ts";
import { pretended } from "../device/webgpu/wrapped.ts";
import { type KeyValue, T } from "../format/write-gguf.ts";
import { tinyModel } from "./tiny-model.ts";

const TINY = tinyModel();
/** "b", the token that the GPU chooses. */
const CHOSEN = { word: 260 };
/** Five chunks. */
const PROMPT = { ids: Array.from({ length: 40 }, (_, i) => 259 + (i % 5)) };
const PLAN = { context: 128, chunk: 8 };
const LONG = { maxTokens: 60, ignoreEnd: true };

interface Loading extends LoadCheckpointOptions {
  file?: Uint8Array;
  /** Bytes that the file has; it shrinks to them once it is open. */
  bytes?: number;
}

/** Loads the tiny model; `closed` counts how often its file was closed. */
function loading(gpu: GPU, { bytes, file = TINY, ...options }: Loading = {}) {
  const counts = { closed: 0 };
  let source = bufferSource("tiny.gguf", file);
  const close = async () => {
    counts.closed++;
  };
  const opening = ggufCheckpoint({ ...source, read: (offset, into) => source.read(offset, into), close });
  const model = opening.then((checkpoint) => {
    source = bufferSource("tiny.gguf", file.subarray(0, bytes));
    return loadEngineModel(checkpoint, () => webgpuDevice(gpu), { ...PLAN, ...options });
  });
  return { model, counts };
}

const answer = (model: EngineModel) => model.generate(PROMPT, LONG).result();

async function expectDestroyed({ devices }: { devices: GPUDevice[] }): Promise<void> {
  expect(devices.length).toBe(1);
  expect((await devices[0].lost).reason).toBe("destroyed");
}

describeGpu("loading", () => {
  it("works, and closes once however often it is asked to", async () => {
    const made = await pretended(CHOSEN);
    const { model, counts } = loading(made.gpu);
    const loaded = await model;
    expect((await answer(loaded)).ids).toEqual(new Array(60).fill(CHOSEN.word));
    await Promise.all([loaded.close(), loaded.close()]);
    expect(counts.closed).toBe(1);
    await expectDestroyed(made);
  });

  it("onto a device that is lost on the way", async () => {
    const { gpu, lose } = await losable("unknown", CHOSEN);
    const { model, counts } = loading(gpu, {
      onProgress: ({ bytes, totalBytes }) => bytes > totalBytes / 2 && lose(),
    });
    // The rest of so small a file may be faster than the news.
    await expectLost("unknown", () => model.then((loaded) => answer(loaded).finally(() => loaded.close())));
    expect(counts.closed).toBe(1);
  });

  it("is stopped by its signal", async () => {
    const made = await pretended(CHOSEN);
    const controller = new AbortController();
    const { model, counts } = loading(made.gpu, {
      signal: controller.signal,
      onProgress: ({ bytes, totalBytes }) => bytes > totalBytes / 2 && controller.abort(),
    });
    expect(await rejection(model)).toBeInstanceOf(AbortedError);
    expect(counts.closed).toBe(1);
    await expectDestroyed(made);
  });

  it("from a file that ends too early", async () => {
    const made = await pretended(CHOSEN);
    const { model, counts } = loading(made.gpu, { bytes: TINY.length - 20_000 });
    expect(await rejection(model)).toBeInstanceOf(FormatError);
    expect(counts.closed).toBe(1);
    await expectDestroyed(made);
  });
});

describeGpu("a cache larger than the GPU's memory", () => {
  it("is one error, and nothing stays allocated", async () => {
    const made = await pretended();
    const context = 2 ** 21;
    const keys = (all: KeyValue[]) =>
      all.map(
        (entry): KeyValue => (entry[0] === "llama.context_length" ? [entry[0], T.u32, context] : entry),
      );
    // Four buffers of 128 MiB; Dawn's null backend has 512 MiB in all.
    const { model, counts } = loading(made.gpu, { file: tinyModel({ keys }), context, kv: "f16" });
    const error = await rejection(model);
    expect(error).toMatchObject({ code: "memory" });
    expect(error.message).toMatch(/^pretence cannot hold the 0\.50 GiB [^\n]* a shorter context [^\n]*$/);
    expect(counts.closed).toBe(1);
    await expectDestroyed(made);
  });
});

describeGpu("generation", () => {
  it("on a device that is lost while the prompt is read", async () => {
    const { gpu, lose } = await losable("unknown", CHOSEN);
    const model = await loading(gpu).model;
    const onPrompt = (tokens: number) => tokens === 16 && lose();
    await expectLost(
      "unknown",
      () => model.generate(PROMPT, { ...LONG, onPrompt }).result(),
      () => answer(model),
      () => answer(model),
    );
    await model.close();
  });

  it.each([
    ["which runs ahead", {}],
    ["which the host samples from candidates", { repeatPenalty: 1.1 }],
    [
      "which the host samples from all logits",
      { temperature: 1, topK: 0, topP: 1, minP: 0, repeatPenalty: 1.1 },
    ],
  ])("on a device that is lost amid the answer, %s", async (_, options) => {
    const { gpu, lose } = await losable("unknown", CHOSEN);
    const model = await loading(gpu).model;
    let pieces = 0;
    const lost = async () => {
      for await (const _ of model.generate(PROMPT, { ...LONG, ...options, seed: 1 }))
        if (++pieces === 3) lose();
    };
    await expectLost("unknown", lost, () => answer(model));
    expect(pieces).toBeLessThan(60);
    await model.close();
  });

  it("ends when the model is closed under it", async () => {
    const made = await pretended(CHOSEN);
    const { model, counts } = loading(made.gpu);
    const loaded = await model;
    let pieces = 0;
    const reading = async () => {
      for await (const _ of loaded.generate(PROMPT, LONG)) if (++pieces === 2) void loaded.close();
    };
    expect((await rejection(reading())).message).toBe("gpu: the device is closed");
    expect((await rejection(answer(loaded))).message).toBe("the model is closed");
    await loaded.close();
    expect(counts.closed).toBe(1);
    await expectDestroyed(made);
  });

  it("is stopped by its signal while the prompt is read; the next one goes on", async () => {
    const model = await loading((await pretended(CHOSEN)).gpu).model;
    const controller = new AbortController();
    const onPrompt = (tokens: number) => tokens === 16 && controller.abort();
    const stopped = model.generate(PROMPT, { ...LONG, onPrompt, signal: controller.signal }).result();
    expect(await rejection(stopped)).toBeInstanceOf(AbortedError);
    const { ids, reusedTokens } = await answer(model);
    expect([ids.length, reusedTokens]).toEqual([60, 16]);
    await model.close();
  });
});
