/** The planner's tables: the published figures, other engines' formulas, all limits, and that a border is the border. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { type PlannedDevice, planContext, planMemory } from "../../src/engine/plan.ts";
import { ArgumentError, UnsupportedError } from "../../src/format/errors.ts";
import { rowBytes } from "../../src/format/tensor.ts";
import type { Model } from "../../src/model/model.ts";
import { PEERS } from "../../src/study/plan/peers.ts";
import { type PlanTable, planTable } from "../../src/study/plan/plan-table.ts";
import { plannedCpu, plannedGpu, plannedModel } from "../../src/study/plan/planned.ts";

const GIB = 2 ** 30;
const MIB = 2 ** 20;

/** Two formats, of the five whose plans take a tenth of a second each with 80 layers. */
const withTwo = (device: PlannedDevice): PlannedDevice => ({
  ...device,
  ...{ kvFormats: ["f16", "int4"], kvParts: undefined, defaultKv: "int4" },
});
/** One for all: plans are kept by model and device. */
const gpu = withTwo(plannedGpu());
const cpu = plannedCpu(2);

let llama70: Model;
let gemma: Model;
let small: Model;
beforeAll(async () => {
  llama70 = await plannedModel("llama-3.1-70b");
  gemma = await plannedModel("gemma-3-4b");
  small = await plannedModel("qwen-3-0.6b", "q8_0");
});

const format = (table: PlanTable, name: string) => {
  const found = [...table.formats, ...table.peers].find((one) => one.name === name);
  if (!found) throw new Error(`no ${name}`);
  return found;
};
const at = (table: PlanTable, name: string, context: number) =>
  format(table, name).rows.find((row) => row.context === context)!;
const rounded = (bytes: number, unit = GIB) => Math.round((bytes / unit) * 10) / 10;

describe("Llama 3.1 70B as published with Open-TQ-Metal (arXiv 2604.16957)", () => {
  const K = 1024;
  // In billions of bytes, while the cache's figures beside it are GiB: 4.5 bits a weight, one of the two matrices of the
  // vocabulary not counted. No 4-bit type gives 39.1 GiB.
  const WEIGHTS = 39.1;

  it("has weights of 39.1 GB without the embedding, 37.0 GiB with all", () => {
    const plan = planContext(llama70, gpu, { context: 16 * K });
    const embedding = llama70.checkpoint.tensors.get("token_embd.weight")!;
    expect(rounded(plan.weightBytes)).toBe(37);
    expect(rounded(plan.weightBytes - embedding.rows * rowBytes(embedding.type, embedding.cols), 1e9)).toBe(
      WEIGHTS,
    );
  });

  it.each([
    [16 * K, 5, 1.6, 40.7],
    [64 * K, 20, 6.3, 45.4],
    [128 * K, 40, 12.5, 51.6],
  ])(
    "has caches of %i tokens: %d GiB in f16, %d in int4, %d with the weights",
    (context, f16, int4, total) => {
      const table = planTable(llama70, gpu, { memoryBytes: 64e9 });
      expect(rounded(at(table, "f16", context).cacheBytes)).toBe(f16);
      expect(rounded(at(table, "int4", context).cacheBytes)).toBe(int4);
      expect(rounded((WEIGHTS + int4) * GIB)).toBe(total);
      // Ours together with everything else is below that.
      expect(at(table, "int4", context).totalBytes).toBeLessThan(total * GIB);
    },
  );

  it("fits 64 GB with int4 in full, with f16 up to 72K", () => {
    const table = planTable(llama70, gpu, { memoryBytes: 64e9 });
    expect(format(table, "int4").longestContext).toBe(128 * K);
    expect(format(table, "f16").longestContext).toBeGreaterThan(70 * K);
    expect(format(table, "f16").longestContext).toBeLessThan(72 * K);
    // Published for mlx-lm: about 73K.
    expect(format(table, "MLX f16").longestContext).toBeGreaterThan(72 * K);
    expect(format(table, "MLX f16").longestContext).toBeLessThan(75 * K);
    expect(table.shortfall).toBeNull();
    expect(table.plan).toMatchObject({ context: 128 * K, kv: "int4", fits: true });
  });
});

describe("parts", () => {
  it("add up, and are those of the plan that the engine makes", () => {
    for (const [model, device] of [
      [gemma, gpu],
      [small, plannedCpu(4)],
    ] as const) {
      const { plan } = planTable(model, device, { context: 8192, kv: "f16", memoryBytes: 32e9 });
      const made = planMemory(model, device, { context: 8192, kv: "f16" });
      const { weights, caches, overheadBytes, totalBytes } = plan;
      const sum = (list: readonly { bytes: number }[]) => list.reduce((all, { bytes }) => all + bytes, 0);
      expect(sum(weights)).toBe(plan.weightBytes);
      expect(sum(caches)).toBe(plan.cacheBytes);
      const { weightBytes, cacheBytes, activationBytes, workspaceBytes } = plan;
      expect(weightBytes + cacheBytes + activationBytes + workspaceBytes + overheadBytes).toBe(totalBytes);
      expect(totalBytes - overheadBytes).toBe(made.totalBytes);
      expect([weightBytes, cacheBytes]).toEqual([made.weightBytes, made.cacheBytes]);
    }
  });

  it("tell experts, per-layer inputs and layers that share a cache", async () => {
    const e2b = planTable(await plannedModel("gemma-4-e2b"), gpu, { context: 4096 }).plan;
    expect(e2b.caches.map(({ kind, layers, sharing }) => [kind, layers, sharing])).toEqual([
      ["full", 3, 4],
      ["sliding", 12, 16],
    ]);
    const inputs = e2b.weights.find(({ of }) => of === "per-layer inputs");
    // The rows of a step; the table stays in the file.
    const own = { parameters: 262_144 * 35 * 256, bytes: 512 * 35 * 256 * 4 };
    expect(inputs).toMatchObject({ type: "q4_0", count: 1, ...own });
    const mixture = planTable(await plannedModel("qwen-3-30b-a3b"), gpu, { context: 4096 }).plan;
    const experts = mixture.weights.find(({ of }) => of === "experts");
    expect(experts).toMatchObject({ type: "q4_0", count: 3 * 48, parameters: 48 * 128 * 3 * 768 * 2048 });
  });

  // Full layers and their KV heads; a head of 512 is 258 bytes in rq4, its 128 turned dims 66, or 72 by channel.
  it.each([
    ["gemma-4-12b", 8, 1, 0.32],
    ["gemma-4-26b-a4b", 5, 2, 0.4],
    ["gemma-4-31b", 10, 4, 1.58],
  ])("%s after 128K tokens: one vector on the CPU and on a GPU", async (shape, layers, kvHeads, gib) => {
    const model = await plannedModel(shape);
    const context = 128 * 1024;
    const full = (device: PlannedDevice, kv: string) => {
      const { graph, footprint } = planContext(model, device, { context, kv });
      const own = graph.caches.filter(({ pool }) => pool.window === null);
      expect(own.length).toBe(layers);
      return own.reduce((sum, { id }) => sum + footprint.caches[id], 0);
    };
    const heads = context * layers * kvHeads;
    expect(full(cpu, "rq4")).toBe(heads * (258 + 66));
    expect(full(cpu, "rq4") / GIB).toBeCloseTo(gib, 2);
    expect(full(plannedGpu(), "rq4")).toBe(heads * (258 + 66));
    expect(full(plannedGpu(), "rq4+apart")).toBe(heads * 2 * 258);
    // The CPU's default, with the first and newest tokens in float16.
    for (const device of [cpu, plannedGpu()]) {
      const packed = full(device, "kv4") / (heads * (258 + 72));
      expect(packed).toBeGreaterThan(1);
      expect(packed).toBeLessThan(1.05);
    }
  });

  it("tell how values that are keys are held", async () => {
    const model = await plannedModel("gemma-4-12b");
    const held = (device: PlannedDevice, kv: string) =>
      planTable(model, device, { context: 4096, kv }).plan.caches.map(({ oneVector }) => oneVector);
    expect(held(withTwo(cpu), "int4")).toEqual(["held", null]);
    expect(held(withTwo(cpu), "int4+apart")).toEqual(["apart", null]);
    expect(held(gpu, "int4")).toEqual(["held", null]);
  });

  it("tell full from sliding layers", () => {
    const { plan, model, chunk } = planTable(gemma, gpu, { context: 65_536, kv: "f16" });
    // Keys and values of 4 heads of 256 in 2 bytes; a ring of the window, a chunk and one block of 32 more.
    const tokenBytes = 2 * 4 * 256 * 2;
    // Two windows, of which one stays for a text that ended, and a chunk; each may begin and end within a page.
    const ring = 32 * (2 * 33 + chunk / 32 + 1);
    const alone = { sharing: 0, oneVector: null };
    expect(plan.caches).toEqual([
      { kind: "full", layers: 5, ...alone, tokens: 65_536, bytes: 5 * 65_536 * tokenBytes },
      { kind: "sliding", layers: 29, ...alone, tokens: ring, bytes: 29 * ring * tokenBytes },
    ]);
    expect(model).toMatchObject({ family: "gemma3", layers: 34, slidingLayers: 29, window: 1024 });
  });

  it("give weights by type, here and in the file", async () => {
    const model = await plannedModel("qwen-3-0.6b", "q4_k");
    const [matrices, vectors] = planTable(model, gpu).plan.weights;
    expect(matrices).toMatchObject({ type: "q4_k", count: 7 * 28 + 1 });
    expect((matrices.fileBytes * 8) / matrices.parameters).toBe(4.5);
    expect((matrices.bytes * 8) / matrices.parameters).toBe(4.625);
    expect(vectors).toMatchObject({ type: "vectors", bytes: vectors.fileBytes });
  });

  it("are 41 GiB at most of a 70B in Q4_K_M", async () => {
    const { weights } = planTable(await plannedModel("llama-3.1-70b", "q4_k_m"), gpu, { context: 4096 }).plan;
    expect(rounded(weights.reduce((sum, { bytes }) => sum + bytes, 0))).toBe(40.5);
    expect(rounded(weights.reduce((sum, { fileBytes }) => sum + fileBytes, 0))).toBe(39.6);
  });
});

describe("contexts", () => {
  const contexts = (table: PlanTable) => table.formats[0].rows.map(({ context }) => context);

  it("double from 4,096 up to the trained one, and contain what was asked for", () => {
    expect(contexts(planTable(small, cpu))).toEqual([4096, 8192, 16_384, 32_768, 40_960]);
    expect(contexts(planTable(small, cpu, { context: 5000 }))).toContain(5000);
    const table = planTable(small, cpu, { context: 5000, kv: "f16" });
    expect(table.plan).toMatchObject({ context: 5000, kv: "f16" });
    for (const { rows } of [...table.formats, ...table.peers])
      expect(rows.map(({ context }) => context)).toEqual(contexts(table));
  });

  it("go on beyond the trained one as far as the memory reaches, to what fits in the first format", () => {
    const table = planTable(llama70, gpu, { memoryBytes: 64 * GIB });
    const beyond = contexts(table).filter((context) => context > 131_072);
    const { longestContext, longestInMemory } = table.formats[0];
    expect(longestContext).toBe(131_072);
    expect(beyond).toEqual([262_144, longestInMemory]);
    expect(at(table, "int4", longestInMemory).fits).toBe(true);
    expect(at(table, "f16", 262_144).fits).toBe(false);
    // A step further is too much.
    const more = planContext(llama70, gpu, { context: longestInMemory + 1024 });
    expect(more.totalBytes + table.plan.overheadBytes).toBeGreaterThan(64 * GIB);
    // Published with 64 GB as 64e9 bytes: 236K in int4, 73K in f16.
    const published = planTable(llama70, gpu, { memoryBytes: 64e9 });
    expect(published.formats[0].longestInMemory / 1024).toBeGreaterThan(220);
    expect(published.formats[0].longestInMemory / 1024).toBeLessThan(240);
    // What was not trained is planned, and not loaded.
    expect(published.plan.context).toBe(131_072);
    expect(() => planTable(llama70, gpu, { context: 262_144, memoryBytes: 64 * GIB })).toThrow(ArgumentError);
  });

  it("end with the trained one where no memory is known, or less fits", () => {
    expect(contexts(planTable(llama70, gpu)).at(-1)).toBe(131_072);
    const small = planTable(llama70, gpu, { memoryBytes: 40 * GIB });
    expect(contexts(small).at(-1)).toBe(131_072);
    for (const { longestContext, longestInMemory } of [...small.formats, ...small.peers])
      expect(longestInMemory).toBe(longestContext);
  });

  it("and the memory are the device's own where the machine tells it", () => {
    const here = { ...gpu, memory: { bytes: GIB, source: "nvidia-smi" } };
    const told = planTable(small, here);
    expect(told.memoryBytes).toBe(GIB);
    expect(told.formats).toEqual(planTable(small, gpu, { memoryBytes: GIB }).formats);
    expect(planTable(small, here, { memoryBytes: 2 * GIB }).memoryBytes).toBe(2 * GIB);
  });

  it("begin with the format that was asked for", () => {
    const all = plannedGpu();
    const names = (kv: string) => planTable(small, all, { kv }).formats.map(({ name }) => name);
    expect(names("int4")).toEqual(["int4", "f16", "rq4", "kv4", "kv3"]);
    expect(names("rq4")).toEqual(["rq4", "f16", "int4", "kv4", "kv3"]);
  });

  it("the longest fits, and 32 tokens more do not", () => {
    const places = { cpu: [small, cpu], gpu: [gemma, gpu] } as const;
    fc.assert(
      fc.property(
        fc.constantFrom("cpu" as const, "gpu" as const),
        fc.constantFrom("int4", "f16"),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (place, kv, share) => {
          const [model, device] = places[place];
          const { trainedContext } = model.config;
          const total = (context: number) => planTable(model, device, { kv, context }).plan.totalBytes;
          const memoryBytes = Math.round(total(32) + share * (total(trainedContext) - total(32)));
          const table = planTable(model, device, { kv, memoryBytes });
          const longest = table.formats[0].longestContext;
          const fits = (context: number) => planTable(model, device, { kv, memoryBytes, context }).plan.fits;
          expect(table.plan.context).toBe(longest);
          expect(fits(longest)).toBe(true);
          if (longest < trainedContext) expect(fits(Math.min(longest + 32, trainedContext))).toBe(false);
        },
      ),
      { numRuns: 12 },
    );
  });
});

describe("what does not fit", () => {
  it("is said with the shortfall and the way out, and nothing is made smaller", () => {
    const table = planTable(llama70, gpu, { memoryBytes: 48e9, context: 131_072, kv: "f16" });
    expect(table.plan).toMatchObject({ context: 131_072, kv: "f16", fits: false });
    const { shortfall } = table;
    const longest = format(table, "f16").longestContext;
    expect(shortfall).toMatchObject({
      code: "memory",
      context: 131_072,
      limitBytes: 48e9,
      largestContext: longest,
    });
    expect(shortfall!.needBytes).toBe(table.plan.totalBytes);
    expect(shortfall!.message).toMatch(
      /^131072 tokens of f16 cache with 36\.97 GiB of weights need 77\.\d\d GiB; the memory is 44\.70 GiB\. Longest context that fits: \d+ tokens\.$/,
    );
  });

  it("may be the weights alone", () => {
    const table = planTable(llama70, gpu, { memoryBytes: 24e9 });
    expect(table.formats.map(({ longestContext }) => longestContext)).toEqual([0, 0]);
    expect(table.peers.map(({ longestContext }) => longestContext)).toEqual([0, 0, 0, 0]);
    expect(table.formats.flatMap(({ rows }) => rows).some(({ fits }) => fits)).toBe(false);
    expect(table.plan.context).toBe(131_072);
    expect(table.shortfall!.message).toMatch(
      /The weights alone do not fit; choose a smaller model or quantization\.$/,
    );
  });

  it("may be the device, whatever the memory", () => {
    const memoryBytes = 2 ** 32 - 65_536;
    const eight = withTwo(plannedCpu(8));
    const table = planTable(llama70, { ...eight, memoryBytes }, { memoryBytes: 512e9 });
    expect(table).toMatchObject({ deviceLimitBytes: memoryBytes, memoryBytes: 512e9 });
    expect(table.shortfall!.message).toMatch(/the wasm device can hold 4\.00 GiB/);
    expect(planTable(llama70, eight, { memoryBytes: 512e9 }).shortfall).toBe(null);
  });

  it("may be one buffer", () => {
    // A full layer's keys in f16: 4 heads x 256 values x 2 bytes x 131,072 tokens are 256 MiB.
    const device = withTwo(plannedGpu(undefined, 200 * MIB));
    const table = planTable(gemma, device, { kv: "f16", context: 131_072, memoryBytes: 64e9 });
    expect(table.plan.fits).toBe(false);
    expect(format(table, "f16").longestContext).toBe(102_400);
    expect(table.shortfall!.message).toMatch(
      /"(keys|values) of layer 5" needs 256 MiB in one buffer; the gpu device allows 200 MiB/,
    );
    expect(format(table, "int4").longestContext).toBe(131_072);
  });

  it("is not said of a memory that nobody knows", () => {
    const table = planTable(llama70, gpu);
    expect(table).toMatchObject({ memoryBytes: null, deviceLimitBytes: null, shortfall: null });
    expect(table.plan).toMatchObject({ context: 131_072, fits: true });
  });
});

describe("other engines", () => {
  const bytes = (name: string, model: Model, context: number) =>
    PEERS.find((peer) => peer.name === name)!.cacheBytes(model.config, context);

  it("hold what their block sizes say", () => {
    // 80 layers x 8 heads x 128 x 2, at 16, 8.5 and 4.5 bits a value.
    const values = 80 * 8 * 128 * 2 * 131_072;
    expect(bytes("llama.cpp f16", llama70, 131_072)).toBe(values * 2);
    expect(bytes("llama.cpp q8_0", llama70, 131_072)).toBe((values * 8.5) / 8);
    expect(bytes("llama.cpp q4_0", llama70, 131_072)).toBe((values * 4.5) / 8);
    expect(bytes("MLX f16", llama70, 131_072)).toBe(values * 2);
  });

  it("hold windows in sliding layers, and cells in multiples of 256", () => {
    const cell = 2 * 4 * 256 * 2;
    expect(bytes("llama.cpp f16", gemma, 32_768)).toBe((5 * 32_768 + 29 * 1536) * cell);
    expect(bytes("llama.cpp f16", gemma, 1000)).toBe(34 * 1024 * cell);
    expect(bytes("MLX f16", gemma, 32_768)).toBe((5 * 32_768 + 29 * 1024) * cell);
    expect(bytes("MLX f16", gemma, 1)).toBe(34 * 256 * cell);
  });

  it("are left out where they refuse a head size", () => {
    const [{ mixer, ...layer }, ...others] = small.config.layers;
    const odd = { ...small.config, layers: [{ ...layer, mixer: { ...mixer, headDim: 80 } }, ...others] };
    expect(PEERS.filter((peer) => peer.allows(odd)).map(({ name }) => name)).toEqual([
      "llama.cpp f16",
      "MLX f16",
    ]);
  });
});

describe("wrong options are refused:", () => {
  const plan = (options: object) => () => planTable(small, cpu, options);
  it.each([
    ["no memory at all", { memoryBytes: Number.NaN }, ArgumentError, /memoryBytes is NaN/],
    ["less than none", { memoryBytes: -1 }, ArgumentError, /memoryBytes is -1; allowed: bytes from 0 on/],
    [
      "a context beyond the trained",
      { context: 40_961 },
      ArgumentError,
      /context is 40961; allowed: integers 1 to 40960/,
    ],
    ["half a token", { context: 0.5 }, ArgumentError, /context is 0.5/],
    ["an unknown format", { kv: "q3" }, ArgumentError, /format is "q3"/],
    ["a format of the reference", { kv: "f32" }, UnsupportedError, /f32 on the wasm device/],
    ["a chunk of nothing", { chunk: 0 }, ArgumentError, /chunk is 0/],
  ])("%s", (_what, options, kind, message) => {
    expect(plan(options)).toThrow(kind);
    expect(plan(options)).toThrow(message);
  });

  it("unknown shapes and types", async () => {
    await expect(async () => plannedModel("llama-9")).rejects.toThrow(/shape is llama-9/);
    await expect(async () => plannedModel("qwen-3-4b", "q9")).rejects.toThrow(/type is q9/);
  });
});
