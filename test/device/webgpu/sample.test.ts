/**
 * Sampling on the GPU against the host's: the same ids from the same logits and seed, but for ties within rounding; for
 * many rows of a step at once as for each alone.
 */
import { beforeAll, describe, expect, it } from "vitest";
import type { Sampling } from "../../../src/device/contract.ts";
import { batchBytes, batchOf, candidatesBatch, STEP_BYTES } from "../../../src/device/webgpu/batch.ts";
import type { Dispatch, PlannedBuffer, StepShape } from "../../../src/device/webgpu/dispatch.ts";
import type { Gpu } from "../../../src/device/webgpu/gpu.ts";
import { encodePass, makeReady, type Ready } from "../../../src/device/webgpu/ready.ts";
import { MOST_KEPT, NOT_PROVEN, planSampling, unpackCandidates } from "../../../src/device/webgpu/sample.ts";
import { wrongLogits } from "../../../src/engine/finite.ts";
import { sampler } from "../../../src/engine/sample.ts";
import { gaussian, random } from "../random-tensor.ts";
import { ALL_TRAITS, describeGpu, nullDevice, softwareDevice } from "./gpu.ts";
import { IS_POISONED } from "./poison.ts";

const STORAGE = 128 | 8 | 4;
const UNIFORM = 64 | 8;

/** A row of logits: whose it is, and how its id is chosen. */
interface Row {
  text: number;
  sampling?: Sampling;
}

/** A vocabulary's samplers on a device, for steps of `rows` rows at most; as many texts, and one more. */
async function openSampler(gpu: Gpu, vocab: number, rows = 1) {
  const { device } = gpu;
  const made: GPUBuffer[] = [];
  const make = (label: string, bytes: number): PlannedBuffer => {
    made.push(device.createBuffer({ label, size: Math.ceil(bytes / 16) * 16, usage: STORAGE }));
    return { id: made.length - 1, label, bytes };
  };
  const texts = rows + 1;
  const graph = { maxTokens: rows, maxOutputs: rows, texts, blocks: 1, pools: [] };
  const logits = make("logits", rows * vocab * 4);
  const batch = make("batch", batchBytes(graph));
  const plan = planSampling({ logits, vocab, texts, rows, batch, make });
  const step = device.createBuffer({ size: STEP_BYTES, usage: UNIFORM });
  const bufferOf = ({ id }: PlannedBuffer) => made[id];
  const all = await makeReady(gpu, plan.all, { bufferOf, step });
  const ready = new Map<Dispatch, Ready>(plan.all.map((dispatch, i) => [dispatch, all[i]]));
  const sizes = { chosen: (texts + 1 + rows) * 4, candidates: rows * MOST_KEPT * 8 };
  const back = device.createBuffer({ size: sizes.chosen + sizes.candidates, usage: 1 | 8 });

  const run = async (
    dispatches: readonly Dispatch[],
    packed: { shape: StepShape; uniform: Uint32Array<ArrayBuffer>; lists: Uint32Array<ArrayBuffer> },
  ) => {
    device.queue.writeBuffer(step, 0, packed.uniform);
    device.queue.writeBuffer(made[batch.id], 0, packed.lists);
    const encoder = device.createCommandEncoder();
    const list = dispatches.map((dispatch) => ready.get(dispatch)!);
    encodePass(encoder, list, packed.shape);
    encoder.copyBufferToBuffer(made[plan.chosen.id], 0, back, 0, sizes.chosen);
    encoder.copyBufferToBuffer(made[plan.candidates.id], 0, back, sizes.chosen, sizes.candidates);
    device.queue.submit([encoder.finish()]);
    await back.mapAsync(1);
    const bytes = back.getMappedRange().slice(0);
    back.unmap();
    gpu.check();
    const words = [...new Uint32Array(bytes, 0, sizes.chosen / 4)];
    return {
      /** By text: where its next row finds the id. */
      ids: words.slice(0, texts),
      /** By row that is sampled: what the host is told. */
      chosen: words.slice(texts + 1),
      candidates: bytes.slice(sizes.chosen),
    };
  };
  /** One token of each row's text, whose logits are those that lie there. */
  const choose = async (list: readonly Row[]) => {
    const ids = Uint32Array.of(0);
    const runs = list.map(({ text, sampling }) => ({ text, position: 0, ids, outputs: 1, sampling }));
    const samplings = list.flatMap(({ sampling }) => sampling ?? []);
    return run(plan.dispatchesFor(samplings)!, batchOf(graph, { runs }, { few: 32, several: 32, batch: 32 }));
  };
  return {
    plan,
    choose,
    setLogits(values: Float32Array<ArrayBuffer>, row = 0) {
      device.queue.writeBuffer(made[logits.id], row * vocab * 4, values);
    },
    async sample(sampling: Sampling) {
      const { ids, chosen } = await choose([{ text: 1, sampling }]);
      return { id: ids[1], chosen: chosen[0] };
    },
    async candidates(count: number, row = 0) {
      const { candidates } = await run(plan.candidatesFor(count), candidatesBatch(graph, row));
      const found = unpackCandidates(candidates, count);
      return [...found.ids].map((id, i) => ({ id, logit: found.logits[i] }));
    },
  };
}

const GREEDY: Sampling = { temperature: 0, topK: 40, topP: 1, minP: 0, seed: 1, draw: 0 };

/** What the host may choose: of cuts within 2e-5 of an edge either side is right. */
function right(logits: Float32Array, sampling: Sampling): Set<number> {
  const ids = new Set<number>();
  for (const by of [-2e-5, 0, 2e-5]) {
    const { seed, temperature, topK } = sampling;
    const sample = sampler({
      seed,
      temperature,
      topK,
      topP: Math.min(1, sampling.topP * (1 + by)),
      minP: Math.min(1, sampling.minP * (1 + by)),
    });
    ids.add(sample.next(logits.slice(), [], sampling.draw));
  }
  return ids;
}

/** The largest first, of equals the lowest id. */
function largest(logits: Float32Array, count: number): { id: number; logit: number }[] {
  const finite = [...logits.keys()].filter((id) => logits[id] > Number.NEGATIVE_INFINITY);
  const sorted = finite.sort((a, b) => logits[b] - logits[a] || a - b);
  return sorted.slice(0, count).map((id) => ({ id, logit: logits[id] + 0 }));
}

const KINDS: Record<string, (next: () => number, i: number) => number> = {
  random: (next) => 3 * gaussian(next),
  // Eighths: many equals.
  coarse: (next) => Math.round(8 * gaussian(next)) / 8,
  equal: () => 1.5,
  peaked: (next, i) => (i % 97 === 5 ? 20 : 0) + gaussian(next),
  rising: (_, i) => i / 64,
  odd: (next) => [Number.NEGATIVE_INFINITY, -0, 0, -3e38, 1, gaussian(next)][Math.floor(6 * next())],
  wrong: (next, i) => (i % 500 === 499 ? Number.NaN : gaussian(next)),
  infinite: (next) => (next() < 0.01 ? Number.POSITIVE_INFINITY : gaussian(next)),
  nothing: () => Number.NEGATIVE_INFINITY,
};

describeGpu("sampling on the GPU", () => {
  let gpu: Gpu;
  beforeAll(async () => {
    gpu = await softwareDevice({ subgroups: false });
  }, 60_000);

  // SwiftShader takes 10 ms for a tree: barriers are slow there.
  describe.each([
    { vocab: 1, draws: 1, kinds: ["random", "odd", "nothing"] },
    { vocab: 40, draws: 2, kinds: ["random", "coarse", "equal", "odd"] },
    { vocab: 256, draws: 2, kinds: ["random", "coarse", "equal", "odd"] },
    { vocab: 1000, draws: 2, kinds: Object.keys(KINDS) },
    { vocab: 4097, draws: 1, kinds: ["coarse", "peaked", "odd"] },
    { vocab: 262_144, draws: 1, kinds: ["coarse"], cuts: 1 },
  ])("$vocab words", ({ vocab, draws, kinds, cuts = 5 }) => {
    let device: Awaited<ReturnType<typeof openSampler>>;
    beforeAll(async () => {
      device = await openSampler(gpu, vocab);
    }, 60_000);

    it.each(kinds)("%s logits: the host's ids", async (kind) => {
      const next = random(vocab);
      const logits = Float32Array.from({ length: vocab }, (_, i) => KINDS[kind](next, i));
      device.setLogits(logits);
      if (wrongLogits(logits, 0)) {
        for (const topK of [0, 40, 256])
          for (const temperature of [0, 1]) {
            const { chosen, id } = await device.sample({ ...GREEDY, temperature, topK });
            expect([chosen, id]).toEqual([NOT_PROVEN, 0]);
          }
        // The host finds the same fault in what it reads of them.
        const [first] = await device.candidates(1);
        expect(first?.logit).toEqual(
          logits.some(Number.isNaN) ? Number.NaN : first && Number.POSITIVE_INFINITY,
        );
        return;
      }
      expect((await device.sample(GREEDY)).chosen).toBe(sampler().next(logits, [], 0));
      for (const [at, cut] of [
        { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05 },
        { temperature: 100, topK: 256, topP: 0.9, minP: 0 },
        { temperature: 1e-9, topK: 1, topP: 0.5, minP: 1 },
        { temperature: 1.5, topK: 64, topP: 1, minP: 0 },
        { temperature: 1, topK: 0, topP: 0.7, minP: 0.1 },
      ]
        .slice(0, cuts)
        .entries()) {
        for (let draw = 0; draw < draws; draw++) {
          const sampling = { ...cut, seed: 7919 * at + draw, draw: 3 + draw };
          const { chosen, id } = await device.sample(sampling);
          if (chosen === NOT_PROVEN) {
            expect(cut.topK).toBe(0);
            expect(logits[id]).toBeGreaterThan(Number.NEGATIVE_INFINITY);
            continue;
          }
          expect(right(logits, sampling)).toContain(chosen);
          expect(id).toBe(chosen);
        }
      }
      for (const count of [60, 256]) expect(await device.candidates(count)).toEqual(largest(logits, count));
    });
  });

  it("without top-k is proven where the cut lies within the largest, and said to be unproven elsewhere", async () => {
    const device = await openSampler(gpu, 2000);
    const cut = { temperature: 1, topK: 0, seed: 5, draw: 0 };
    // 300 words of equal weight, the others beneath notice.
    device.setLogits(Float32Array.from({ length: 2000 }, (_, i) => (i < 300 ? 5 : -50)));
    expect((await device.sample({ ...cut, topP: 0.8, minP: 0 })).chosen).toBeLessThan(240);
    expect((await device.sample({ ...cut, topP: 0.9, minP: 0 })).chosen).toBe(NOT_PROVEN);
    expect((await device.sample({ ...cut, topP: 1, minP: 0.5 })).chosen).toBe(NOT_PROVEN);
    device.setLogits(Float32Array.from({ length: 2000 }, (_, i) => (i < 200 ? 5 : Number.NEGATIVE_INFINITY)));
    expect((await device.sample({ ...cut, topP: 1, minP: 0 })).chosen).toBeLessThan(200);
  });

  it("follows the probabilities", async () => {
    const device = await openSampler(gpu, 4);
    device.setLogits(Float32Array.of(Math.log(0.1), Math.log(0.6), Math.log(0.2), Math.log(0.1)));
    const counts = [0, 0, 0, 0];
    const sampling = { temperature: 1, topK: 4, topP: 1, minP: 0, seed: 42 };
    for (let draw = 0; draw < 100; draw++) counts[(await device.sample({ ...sampling, draw })).chosen]++;
    [10, 60, 20, 10].forEach((wanted, id) => {
      expect(Math.abs(counts[id] - wanted)).toBeLessThan(4 * Math.sqrt(wanted));
    });
  });

  describe("of several rows at once", () => {
    const VOCAB = 1000;
    /** 300 words of equal weight: unproven without top-k. */
    const flat = Float32Array.from({ length: VOCAB }, (_, i) => (i % 3 === 0 ? 5 : -50));
    const cut = { temperature: 1, topK: 0, topP: 0.7, minP: 0.1, seed: 3, draw: 9 };
    const samplings: (Sampling | undefined)[] = [
      { ...cut, topK: 40, topP: 0.95, draw: 2 },
      GREEDY,
      // Its logits are the host's.
      undefined,
      { ...cut, topP: 1, minP: 0 },
      cut,
      { ...cut, topK: 200, temperature: 1.5, seed: 8 },
      { ...cut, topK: 1, draw: 1 },
    ];
    const rows = samplings.map((sampling, i): Row => ({ text: (3 * i + 1) % samplings.length, sampling }));
    const logits = rows.map((_, row) => {
      const next = random(row);
      return row === 3 ? flat : Float32Array.from({ length: VOCAB }, () => 3 * gaussian(next));
    });
    let device: Awaited<ReturnType<typeof openSampler>>;
    beforeAll(async () => {
      device = await openSampler(gpu, VOCAB, rows.length);
      for (const [row, values] of logits.entries()) device.setLogits(values, row);
    }, 60_000);

    it("each has the id that its options give alone, and only texts that are sampled get one", async () => {
      const together = await device.choose(rows);
      const sampled = rows.filter(({ sampling }) => sampling);
      for (const [i, { text, sampling }] of sampled.entries()) {
        const row = rows.findIndex((other) => other.text === text);
        const { chosen, ids } = await device.choose(
          rows.map((other) => (other.text === text ? other : { text: other.text })),
        );
        expect(together.chosen[i], `row ${row}`).toBe(chosen[0]);
        expect(together.ids[text]).toBe(ids[text]);
        // Others keep what was chosen for them.
        expect(ids).toEqual(together.ids);
        if (row === 3) {
          expect(chosen[0]).toBe(NOT_PROVEN);
          expect(flat[ids[text]]).toBe(5);
        } else {
          expect(right(logits[row], sampling!)).toContain(chosen[0]);
          expect(ids[text]).toBe(chosen[0]);
        }
      }
      // Neither the row without options nor the text without a row was chosen for.
      const untouched = IS_POISONED ? 0xffffffff : 0;
      expect([together.ids[rows[2].text], together.ids[rows.length]]).toEqual([untouched, untouched]);
    });

    it("candidates of any row, which change no text's id", async () => {
      const { ids } = await device.choose(rows);
      for (const row of [0, 3, rows.length - 1])
        for (const count of [1, 40, 256])
          expect(await device.candidates(count, row)).toEqual(largest(logits[row], count));
      const other = { text: 0, sampling: GREEDY };
      const after = (await device.choose([other])).ids;
      expect(after.slice(1)).toEqual(ids.slice(1));
    });
  });

  it("leaves more than 256 to the host", async () => {
    const { plan } = await openSampler(gpu, 1000);
    const many = { ...GREEDY, temperature: 1, topK: 257 };
    expect(plan.dispatchesFor([many])).toBeNull();
    expect(plan.dispatchesFor([GREEDY, many])).toBeNull();
    expect(plan.dispatchesFor([GREEDY])!.length).toBe(2);
  });

  it("compiles with every feature on", async () => {
    await openSampler(await nullDevice(ALL_TRAITS), 128_256);
  });
});
