/**
 * Steps that take the ids which the device chose in the steps before, submitted without a wait for any: what comes back is what
 * steps with known ids give, for several texts with options of their own, some of which pause.
 */
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { kvCodec } from "../../../src/cache/codecs.ts";
import { CHOSEN, type Graph, type Sampling } from "../../../src/device/contract.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { argmax, sampler } from "../../../src/engine/sample.ts";
import { openModel } from "../../../src/model/model.ts";
import type { Shape } from "../../../src/model/shapes.ts";
import { syntheticCheckpoint } from "../../../src/model/synthetic.ts";
import { type More, PagedTexts } from "../paged.ts";
import { describeGpu } from "./gpu.ts";
import { sharedGpu } from "./shared.ts";

/** More words than are sorted without top-k. */
const TINY: Shape = {
  family: "llama",
  ...{ layers: 1, hidden: 64, heads: 2, kvHeads: 1, headDim: 32, ffn: 96, vocab: 400 },
  ...{ trainedContext: 128, normEpsilon: 1e-6, ropeBase: 10_000, tied: false },
};

const GREEDY: Sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0, draw: 0 };
const DRAWN: Sampling = { temperature: 2, topK: 40, topP: 0.95, minP: 0.01, seed: 11, draw: 0 };

/** A tiny model of four texts, of which 0 and 2 begin alike, and 1 and 3. */
async function open(): Promise<PagedTexts> {
  const model = await openModel(await syntheticCheckpoint(TINY));
  const options = { context: 64, texts: 4, cacheTokens: 256, maxTokens: 16, maxOutputs: 4 };
  const graph: Graph = model.record({ ...options, codec: kvCodec("int4") });
  const device = await webgpuDevice(await sharedGpu(), { traits: { few: 2 } });
  const allocation = await device.allocate(graph);
  for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
  return new PagedTexts(allocation, graph);
}

const PROMPTS = [
  [5, 6, 7, 8, 9],
  [17, 300, 2],
];

/** Text 1 pauses in every third step. */
const runs = (step: number, text: number) => text === 0 || step % 3 !== 2;

describeGpu("ids that the device chose", () => {
  let texts: PagedTexts;
  beforeAll(async () => {
    texts = await open();
  }, 60_000);
  afterAll(() => texts.allocation.close());
  afterEach(() => {
    for (let text = 0; text < 4; text++) texts.end(text);
  });

  it("feed the next steps, twenty of which are submitted without a wait for any", async () => {
    const { allocation, graph } = texts;
    const draws = [0, 0];
    const more = (text: number, ids: readonly number[]): More => {
      const sampling = text % 2 === 0 ? GREEDY : { ...DRAWN, draw: draws[text % 2] };
      return { text, ids, sampling };
    };
    const under = [(await texts.run([more(0, PROMPTS[0]), more(1, PROMPTS[1])])).chosen];
    for (let step = 1; step <= 20; step++) {
      draws[1] += runs(step - 1, 1) ? 1 : 0;
      const which = [0, 1].filter((text) => runs(step, text));
      under.push((await texts.run(which.map((text) => more(text, [CHOSEN])))).chosen);
    }
    const chosen = await Promise.all(under);

    draws[1] = 0;
    const last: number[] = [];
    for (const [step, found] of chosen.entries()) {
      if (step > 0) draws[1] += runs(step - 1, 1) ? 1 : 0;
      const which = [0, 1].filter((text) => runs(step, text));
      const ids = (text: number) => (step === 0 ? PROMPTS[text] : [last[text]]);
      const ran = await texts.run(which.map((text) => more(2 + text, ids(text))));
      expect(found, `step ${step}`).toEqual(await ran.chosen);
      for (const [row, text] of which.entries()) {
        const logits = await allocation.read(graph.logits, row, 1);
        const host = sampler(DRAWN);
        expect(found[row], `step ${step}, text ${text}`).toBe(
          text === 0 ? argmax(logits) : host.next(logits, [], draws[1]),
        );
        last[text] = found[row]!;
      }
    }
    // Otherwise one id would do for all.
    expect(new Set(chosen.flat()).size).toBeGreaterThan(10);
  });

  it("may stand in a run beside others, and in a step with a prompt", async () => {
    const { allocation, graph } = texts;
    await texts.run([{ text: 0, ids: PROMPTS[0], sampling: GREEDY }]);
    const prompt = Array.from({ length: 9 }, (_, i) => 30 + i);
    await texts.run([
      { text: 1, ids: prompt, outputs: 0 },
      { text: 0, ids: [CHOSEN, 44, 45], outputs: 3 },
    ]);
    const found = await allocation.read(graph.logits, 0, 3);

    const { chosen } = await texts.run([{ text: 2, ids: PROMPTS[0], sampling: GREEDY }]);
    const [id] = await chosen;
    await texts.run([
      { text: 3, ids: prompt, outputs: 0 },
      { text: 2, ids: [id!, 44, 45], outputs: 3 },
    ]);
    expect(found).toEqual(await allocation.read(graph.logits, 0, 3));
  });

  it("are null where the kept words are more than it sorts; what it cannot sort at all is refused", async () => {
    const { allocation } = texts;
    const all = { ...DRAWN, temperature: 1, topK: 0, topP: 1, minP: 0 };
    const run = (text: number, sampling: Sampling) => ({ text, ids: PROMPTS[0], sampling });
    const ran = await texts.run([run(0, all), run(1, GREEDY)]);
    expect(await ran.chosen).toEqual([null, expect.any(Number)]);
    expect((await (await texts.run([{ text: 2, ids: [1] }])).chosen).length).toBe(0);

    const many = { ...all, topK: 257 };
    expect([all, GREEDY, many].map((sampling) => allocation.canChoose!(sampling))).toEqual([
      true,
      true,
      false,
    ]);
    await expect(texts.run([run(3, many)])).rejects.toThrow("sampling");
    await expect(texts.run([{ ...run(3, GREEDY), outputs: 0 }])).rejects.toThrow("no outputs");
  });

  it("come after each output of a run, and the next row finds the last", async () => {
    const { allocation, graph } = texts;
    const drawn = { ...DRAWN, draw: 5 };
    const ran = await texts.run([
      { text: 0, ids: PROMPTS[0], sampling: GREEDY },
      { text: 1, ids: [...PROMPTS[1], 40, 41], outputs: 3, sampling: drawn },
    ]);
    const found = (await ran.chosen) as number[];
    expect(found.length).toBe(4);
    const rows = await Promise.all([0, 1, 2, 3].map((row) => allocation.read(graph.logits, row, 1)));
    expect(found[0]).toBe(argmax(rows[0]));
    const host = sampler(DRAWN);
    expect(found.slice(1)).toEqual(rows.slice(1).map((logits, i) => host.next(logits, [], 5 + i)));
    // A text that was told the last id says the same as one that takes it on the device.
    await texts.run([{ text: 1, ids: [CHOSEN] }]);
    const taken = await allocation.read(graph.logits, 0, 1);
    await texts.run([{ text: 2, ids: [...PROMPTS[1], 40, 41], outputs: 0 }]);
    await texts.run([{ text: 2, ids: [found[3]] }]);
    expect(taken).toEqual(await allocation.read(graph.logits, 0, 1));
  });
});
