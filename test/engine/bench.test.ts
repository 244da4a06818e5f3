/** What a bench does, on scripted sessions; and that it runs on real ones. No test looks at a time. */
import { describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Device, Step, StepProfile } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { prepare } from "../../src/engine/assemble.ts";
import {
  type BenchOptions,
  type BenchProfile,
  type BenchProgress,
  type BenchRow,
  bench,
} from "../../src/engine/bench.ts";
import { AbortedError, ArgumentError, UnsupportedError } from "../../src/format/errors.ts";
import type { Shape } from "../../src/model/shapes.ts";
import { syntheticCheckpoint } from "../../src/model/synthetic.ts";
import { scriptedSession } from "./scripted.ts";

async function all(found: AsyncGenerator<BenchRow | BenchProfile>) {
  const rows: (BenchRow | BenchProfile)[] = [];
  for await (const row of found) rows.push(row);
  return rows;
}

/** First position and count of each step. */
const places = (steps: readonly Step[]) => steps.map(({ position, ids }) => [position, ids.length]);

describe("a bench", () => {
  it("warms up, fills each depth once, and repeats behind it", async () => {
    const { session, steps } = scriptedSession((position) => position % 50, { vocab: 50, chunk: 8 });
    const rows = await all(
      bench(session, { prompt: [10], generate: [3], depth: [20, 0, 12], repetitions: 2 }),
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
    // Rewinding to a depth processes its last token again.
    const at = (depth: number) => [
      ...[pp, pp].flatMap((step) => [[depth - 1, 1], ...deeper(step, depth)]),
      ...[tg, tg].flatMap((step) => [[depth - 1, 1], ...deeper(step, depth)]),
    ];
    expect(places(steps)).toEqual([
      ...[...pp, ...tg],
      ...[...pp, ...pp, ...tg, ...tg],
      ...[[0, 8], [8, 4], ...at(12).slice(1)],
      ...[[12, 8], ...at(20).slice(1)],
    ]);
  });

  it("gives llama-bench's figures: tokens over time, with the spread", async () => {
    const { session } = scriptedSession(() => 1, { vocab: 50 });
    const [row] = await all(bench(session, { prompt: [20], generate: [], repetitions: 4 }));
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
    const { session, steps } = scriptedSession((position) => position + 30, { vocab: 50 });
    await all(bench(session, { prompt: [], generate: [4], repetitions: 3 }));
    const runs = Array.from({ length: 4 }, (_, i) => steps.slice(4 * i, 4 * i + 4).map(({ ids }) => ids[0]));
    for (const run of runs) expect(run.slice(1)).toEqual([31, 32, 33]);
    for (let i = 1; i < 4; i++) expect(runs[i][0]).not.toBe(runs[i - 1][0]);
  });

  it("fills again where a sliding layer has lost the prefix", async () => {
    const caches = [{ window: 8, capacity: 64 }];
    const { session, steps } = scriptedSession(() => 1, { vocab: 50, caches });
    await all(bench(session, { prompt: [70], generate: [], depth: [100], repetitions: 2 }));
    expect(steps.filter(({ position }) => position === 0)).toHaveLength(3);
    expect(places(steps).filter(([position]) => position === 100)).toHaveLength(2);
  });

  it("tells how far it is", async () => {
    const { session } = scriptedSession(() => 1, { vocab: 50 });
    const seen: BenchProgress[] = [];
    const onProgress = (progress: BenchProgress) => seen.push(progress);
    await all(bench(session, { prompt: [16], generate: [4], depth: [24], repetitions: 2, onProgress }));
    expect([...new Set(seen.map(({ doing }) => doing))]).toEqual([
      ...["warming up", "filling 24 tokens", "pp16 @ d24", "tg4 @ d24"],
    ]);
    for (const { done, total } of seen) expect(done).toBeLessThanOrEqual(total);
  });

  it("stops when it is told to", async () => {
    const controller = new AbortController();
    const { session } = scriptedSession(() => 1, { vocab: 50 });
    const rows = bench(session, { prompt: [8], generate: [9], signal: controller.signal });
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
    [{ prompt: [], generate: [] }, /generate is empty, and so is prompt/],
  ])("refuses %j", async (options, message) => {
    const { session } = scriptedSession(() => 1, { vocab: 50 });
    await expect(bench(session, options).next()).rejects.toThrow(message);
    await expect(bench(session, options).next()).rejects.toThrow(ArgumentError);
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

  it("is of steps that the session has just done, by operation and size, longest first", async () => {
    const { session, steps } = scriptedSession(() => 1, { vocab: 50, chunk: 8 });
    const asked: Step[] = [];
    session.allocation.profile = async (step) => {
      expect(step.ids).toEqual(steps[steps.length - 1].ids);
      asked.push(step);
      return found;
    };
    const rows = await all(
      bench(session, { prompt: [20], generate: [2], depth: [0, 12], repetitions: 1, profile: true }),
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
    const { session } = scriptedSession(() => 1, { vocab: 50 });
    await expect(bench(session, { profile: true }).next()).rejects.toThrow(UnsupportedError);
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
    const checkpoint = syntheticCheckpoint(TINY);
    const { sessions, allocation, model } = await prepare(
      checkpoint,
      device,
      { kv, chunk: 8 },
      async () => ({}),
    );
    const [session] = sessions;
    try {
      const { logits } = await session.sync([5, 6, 7]);
      expect(logits.every(Number.isFinite)).toBe(true);
      expect(model.config.layerKinds).toContain("sliding");
      expect(session.graph.caches[0].codec).toBe(kvCodec(kv));
      const rows = await all(
        bench(session, { prompt: [20], generate: [5], depth: [0, 40, 100], repetitions: 2 }),
      );
      expect(rows).toHaveLength(6);
    } finally {
      await allocation.close();
    }
  });
});
