/** Texts that share a GPU, in software: steps that need not wait for ids say for each what it says alone. */
import { expect, it } from "vitest";
import { webgpuDevice } from "../../src/device/webgpu/webgpu.ts";
import { assemble } from "../../src/engine/assemble.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { ggufCheckpoint } from "../../src/format/checkpoints.ts";
import { describeGpu, softwareGpu } from "../device/webgpu/gpu.ts";
import { tinyModel } from "./tiny-model.ts";

describeGpu("two texts", () => {
  it("say at once what each says alone", async () => {
    const gpu = await softwareGpu();
    const open = async () =>
      assemble(await ggufCheckpoint(bufferSource("tiny.gguf", tinyModel())), () => webgpuDevice(gpu), {
        ...{ context: 128, chunk: 16, parallel: 2 },
      });
    const prompts = [5, 40].map((tokens, t) => ({
      ids: Array.from({ length: tokens }, (_, i) => 259 + ((i * (t + 2)) % 5)),
    }));
    const options = { maxTokens: 25, ignoreEnd: true, temperature: 1, seed: 3 };
    const alone = await open();
    const wanted: (readonly number[])[] = [];
    // The second time all but the prompt's last token is known, which other kernels process.
    for (const prompt of [...prompts, ...prompts])
      wanted.push((await alone.generate(prompt, options).result()).ids);
    await alone.close();

    const model = await open();
    // One begins alone, has the other's rows in its steps, and is alone again.
    const first = model.generate(prompts[0], options);
    const pieces = first[Symbol.asyncIterator]();
    await pieces.next();
    const second = await model.generate(prompts[1], { ...options, maxTokens: 8 }).result();
    expect(second.ids).toEqual(wanted[1].slice(0, 8));
    expect((await first.result()).ids).toEqual(wanted[0]);
    const again = await Promise.all(prompts.map((prompt) => model.generate(prompt, options).result()));
    expect(again.map(({ ids }) => ids)).toEqual(wanted.slice(2));
    expect(again.map(({ reusedTokens }) => reusedTokens)).toEqual([4, 39]);
    await model.close();
  });
});
