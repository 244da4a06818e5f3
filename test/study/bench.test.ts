/** What a bench does, on scripted texts; and that it runs on real ones. No test looks at a time. */
import { describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Device, Step, StepProfile } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { loadCheckpoint } from "../../src/engine/load-checkpoint.ts";
import { Text } from "../../src/engine/text.ts";
import { AbortedError, ArgumentError, UnsupportedError } from "../../src/format/errors.ts";
import { attentionIn } from "../../src/model/config.ts";
import type { Shape } from "../../src/model/shapes.ts";
import { syntheticCheckpoint } from "../../src/model/synthetic.ts";
import {
  type BenchFinding,
  type BenchOptions,
  type BenchProgress,
  bench,
  benchTail,
  benchTests,
} from "../../src/study/bench/bench.ts";
import { batchPlan } from "../../src/study/bench/bench-batch.ts";
import { scripted } from "../engine/scripted.ts";

async function all(found: AsyncGenerator<BenchFinding>) {
  const rows: BenchFinding[] = [];
  for await (const row of found) rows.push(row);
  return rows;
}

/** First position and count of each step. */
const places = (steps: readonly Step[]) =>
  steps.map(({ runs: [{ position, ids }] }) => [position, ids.length]);

describe("a bench", () => {
  it("warms up, fills each depth once, and repeats behind it", async () => {
    const { scheduler, steps } = scripted((position) => position % 50, { vocab: 50, chunk: 8 });
    const rows = await all(
      bench(scheduler, { prompt: [10], generate: [3], depth: [20, 0, 12], repetitions: 2 }),
    );
    expect(rows.map((row) => row.kind === "row" && row.test)).toEqual([
      ...["pp10", "tg3", "pp10 @ d12", "tg3 @ d12", "pp10 @ d20", "tg3 @ d20"],
    ]);
    const [pp, tg] = [
      [
        [0, 8],
        [8, 2],
      ],
      [
        [0, 1],
        [1, 1],
        [2, 1],
      ],
    ];
    const deeper = (steps: number[][], depth: number) =>
      steps.map(([position, count]) => [position + depth, count]);
    const at = (depth: number) => [pp, pp, tg, tg].flatMap((step) => deeper(step, depth));
    expect(places(steps)).toEqual([
      ...[...pp, ...tg],
      ...[...pp, ...pp, ...tg, ...tg],
      // A filled depth ends with the logits of its last token: the device has run all of it.
      ...[[0, 8], [8, 4], [11, 1], ...at(12)],
      ...[[12, 8], [19, 1], ...at(20)],
    ]);
  });

  it("gives llama-bench's figures: tokens over time, with the spread", async () => {
    const { scheduler } = scripted(() => 1, { vocab: 50 });
    const [row] = await all(bench(scheduler, { prompt: [20], generate: [], repetitions: 4 }));
    if (row.kind !== "row") throw new Error("a profile");
    expect(row).toMatchObject({ test: "pp20", tokens: 20, depth: 0 });
    expect(row.ms).toHaveLength(4);
    const { median, min, max } = row.tokensPerSecond;
    expect(max).toBeCloseTo(20_000 / Math.min(...row.ms));
    expect(min).toBeCloseTo(20_000 / Math.max(...row.ms));
    expect(median).toBeGreaterThanOrEqual(min);
    expect(median).toBeLessThanOrEqual(max);
  });

  it("generates what is most likely, behind a new random token each time", async () => {
    const { scheduler, steps } = scripted((position) => position + 30, { vocab: 50 });
    await all(bench(scheduler, { prompt: [], generate: [4], repetitions: 3 }));
    const runs = Array.from({ length: 4 }, (_, i) =>
      steps.slice(4 * i, 4 * i + 4).map(({ runs }) => runs[0].ids[0]),
    );
    for (const run of runs) expect(run.slice(1)).toEqual([31, 32, 33]);
    for (let i = 1; i < 4; i++) expect(runs[i][0]).not.toBe(runs[i - 1][0]);
  });

  it("tells how far it is", async () => {
    const { scheduler } = scripted(() => 1, { vocab: 50 });
    const seen: BenchProgress[] = [];
    const onProgress = (progress: BenchProgress) => seen.push(progress);
    await all(bench(scheduler, { prompt: [16], generate: [4], depth: [24], repetitions: 2, onProgress }));
    expect([...new Set(seen.map(({ doing }) => doing))]).toEqual([
      ...["warming up", "filling 24 tokens", "pp16 @ d24", "tg4 @ d24"],
    ]);
    for (const { done, total } of seen) expect(done).toBeLessThanOrEqual(total);
  });

  it("stops when it is told to", async () => {
    const controller = new AbortController();
    const { scheduler } = scripted(() => 1, { vocab: 50 });
    const rows = bench(scheduler, { prompt: [8], generate: [9], signal: controller.signal });
    expect((await rows.next()).value).toMatchObject({ test: "pp8" });
    controller.abort();
    await expect(rows.next()).rejects.toThrow(AbortedError);
  });

  it.each<[BenchOptions, RegExp]>([
    [{ prompt: [0] }, /prompt is 0; allowed: integers from 1/],
    [{ generate: [1.5] }, /generate is 1.5/],
    [{ depth: [-1] }, /depth is -1/],
    [{ depth: [] }, /depth is empty/],
    [{ repetitions: 0 }, /repetitions is 0/],
    [{ parallel: [0] }, /parallel is 0/],
    [{ parallel: [2], profile: true }, /profile is asked for, and so is parallel/],
    [{ prompt: [], generate: [] }, /generate is empty, and so is prompt/],
  ])("refuses %j", async (options, message) => {
    const { scheduler } = scripted(() => 1, { vocab: 50 });
    await expect(bench(scheduler, options).next()).rejects.toThrow(message);
    await expect(bench(scheduler, options).next()).rejects.toThrow(ArgumentError);
  });
});

describe("a bench of several texts", () => {
  it("reads all prompts, then generates with a row of each, at each depth", async () => {
    const { scheduler, steps } = scripted((_, ids) => (ids[0] + ids.length) % 50, {
      ...{ vocab: 50, texts: 3, chunk: 32, cacheTokens: 3 * 160, context: 128 },
    });
    const tests = { prompt: [20], generate: [4], depth: [0, 40], repetitions: 2, parallel: [1, 3] };
    const rows = await all(bench(scheduler, tests));
    expect(rows).toMatchObject([
      { kind: "batch", test: "pp20 tg4 x 1", pp: 20, tg: 4, texts: 1, depth: 0, tokens: 24 },
      { kind: "batch", test: "pp20 tg4 x 3", texts: 3, tokens: 72 },
      { kind: "batch", test: "pp20 tg4 x 1 @ d40", depth: 40, tokens: 64 },
      { kind: "batch", test: "pp20 tg4 x 3 @ d40", tokens: 192 },
    ]);
    for (const row of rows) {
      if (row.kind !== "batch") throw new Error("another row");
      const { prompt, generate, all: both } = row;
      expect([prompt.ms.length, generate.ms.length, both.ms.length]).toEqual([2, 2, 2]);
      expect(prompt.tokensPerSecond).toBeCloseTo((row.texts * 20_000) / prompt.medianMs);
      expect(generate.tokensPerSecond).toBeCloseTo((row.texts * 4000) / generate.medianMs);
    }
    // Four steps of three rows, twice at each depth; after the warm up.
    const together = steps.filter(
      ({ runs }) => runs.length === 3 && runs.every(({ ids }) => ids.length === 1),
    );
    expect(together.length).toBe(2 * 2 * 4);
    expect(scheduler.pages.used).toBe(0);
  });

  it("needs room for all of them", () => {
    const tests = benchTests({ prompt: [100], generate: [50], depth: [10], parallel: [1, 8] });
    expect(benchTail(tests)).toBe(150);
    expect(batchPlan(tests, 160)).toEqual({ parallel: 8, cacheTokens: 8 * 192 });
    expect(batchPlan(benchTests({}), 160)).toEqual({});
  });
});

describe("a profile", () => {
  const found: StepProfile = {
    us: 50,
    dispatches: [
      { label: "matmul", us: 20, bytes: 3000 },
      { label: "add", us: 25, bytes: 0 },
      { label: "matmul", us: 40, bytes: 9000 },
      { label: "matmul", us: 15, bytes: 3000 },
    ],
    readBytesPerSecond: 1e12,
    copyBytesPerSecond: 8e11,
  };

  it("is of steps at each depth, by operation and size, longest first", async () => {
    const { scheduler, allocation } = scripted(() => 1, { vocab: 50, chunk: 8 });
    const asked: Step[] = [];
    allocation.profile = async (step) => {
      asked.push(step);
      return found;
    };
    const rows = await all(
      bench(scheduler, { prompt: [20], generate: [2], depth: [0, 12], repetitions: 1, profile: true }),
    );
    expect(places(asked)).toEqual([
      [0, 1],
      [0, 8],
      [12, 1],
      [12, 8],
    ]);
    const profiles = rows.filter((row) => row.kind === "profile");
    expect(profiles.map(({ step }) => step)).toEqual([
      ...["decode", "prompt chunk of 8", "decode @ d12", "prompt chunk of 8 @ d12"],
    ]);
    expect(profiles[0]).toMatchObject({ us: 50, readBytesPerSecond: 1e12, copyBytesPerSecond: 8e11 });
    expect(profiles[0].operations).toEqual([
      { label: "matmul", dispatches: 1, us: 40, bytes: 9000, share: 40 / 100 },
      { label: "matmul", dispatches: 2, us: 35, bytes: 6000, share: 35 / 100 },
      { label: "add", dispatches: 1, us: 25, bytes: 0, share: 25 / 100 },
    ]);
  });

  it("needs a device that has a clock", async () => {
    const { scheduler } = scripted(() => 1, { vocab: 50 });
    await expect(bench(scheduler, { profile: true }).next()).rejects.toThrow(UnsupportedError);
  });
});

const TINY: Shape = {
  family: "gemma3",
  ...{ layers: 6, hidden: 64, heads: 4, kvHeads: 2, headDim: 32, ffn: 96, vocab: 300, window: 16 },
  ...{ trainedContext: 256, normEpsilon: 1e-6, ropeBase: 10_000, tied: true },
};

describe.each<[string, () => Device | Promise<Device>]>([
  ["the CPU", () => wasmDevice({ threads: 1 })],
  ["the reference", referenceDevice],
])("a tiny shape with random weights, on %s", (_name, device) => {
  it.each(["int4", "f16", "rq4"])("runs every test, over %s", async (kv) => {
    const checkpoint = await syntheticCheckpoint(TINY);
    const { scheduler, allocation, model } = await loadCheckpoint(
      checkpoint,
      device,
      { kv, chunk: 8 },
      async () => ({}),
    );
    try {
      const { logits } = await new Text(scheduler).sync([5, 6, 7]);
      expect(logits.every(Number.isFinite)).toBe(true);
      expect(attentionIn(model.config.layers[0]).window).toBe(16);
      expect(scheduler.graph.caches[0].codec).toBe(kvCodec(kv));
      const rows = await all(
        bench(scheduler, { prompt: [20], generate: [5], depth: [0, 40, 100], repetitions: 2 }),
      );
      expect(rows).toHaveLength(6);
    } finally {
      await allocation.close();
    }
  });
});
