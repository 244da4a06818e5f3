/** The planner: its sums, its refusals, and that what it says fits does. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Allocation, Device } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { MEMORY_BYTES } from "../../src/device/wasm/program.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import {
  limitsOf,
  type Plan,
  type PlanOptions,
  planContext,
  planMemory,
  shortfallOf,
} from "../../src/engine/plan.ts";
import type { Checkpoint } from "../../src/format/checkpoint.ts";
import { ArgumentError, MemoryError, UnsupportedError } from "../../src/format/errors.ts";
import type { Tensor, TensorType } from "../../src/format/tensor.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { goldenModel } from "../model/golden.ts";

const GIB = 2 ** 30;

interface Shape {
  layers: number;
  hidden: number;
  heads: number;
  kvHeads: number;
  ffn: number;
  tied?: boolean;
}

const SHAPES = {
  "Llama 3.2 3B": { layers: 28, hidden: 3072, heads: 24, kvHeads: 8, ffn: 8192, tied: true },
  "Llama 3.1 8B": { layers: 32, hidden: 4096, heads: 32, kvHeads: 8, ffn: 14_336 },
  "Llama 3.1 70B": { layers: 80, hidden: 8192, heads: 64, kvHeads: 8, ffn: 28_672 },
} satisfies Record<string, Shape>;
const VOCAB = 128_256;
const CONTEXT = 131_072;

/** A checkpoint whose tensors have shapes and types but cannot be read: planning must not try. */
function shapeOnly(name: keyof typeof SHAPES, type: TensorType = "q4_0"): Promise<Model> {
  const { layers, hidden, heads, kvHeads, ffn, tied } = SHAPES[name] as Shape;
  const tensors = new Map<string, Tensor>();
  const add = (name: string, rows: number, cols: number, type: TensorType) =>
    tensors.set(name, { name, type, rows, cols, readRows: () => Promise.reject(new Error("was read")) });
  add("token_embd.weight", VOCAB, hidden, type);
  add("output_norm.weight", 1, hidden, "f32");
  if (!tied) add("output.weight", VOCAB, hidden, type);
  for (let i = 0; i < layers; i++) {
    const of = (part: string, rows: number, cols: number) => add(`blk.${i}.${part}.weight`, rows, cols, type);
    add(`blk.${i}.attn_norm.weight`, 1, hidden, "f32");
    add(`blk.${i}.ffn_norm.weight`, 1, hidden, "f32");
    of("attn_q", hidden, hidden);
    of("attn_k", kvHeads * 128, hidden);
    of("attn_v", kvHeads * 128, hidden);
    of("attn_output", hidden, hidden);
    of("ffn_gate", ffn, hidden);
    of("ffn_up", ffn, hidden);
    of("ffn_down", hidden, ffn);
  }
  const none = () => Promise.reject(new Error("was asked for"));
  const checkpoint: Checkpoint = {
    kind: "gguf",
    name,
    metadata: {
      "general.architecture": "llama",
      "llama.context_length": CONTEXT,
      "llama.embedding_length": hidden,
      "llama.block_count": layers,
      "llama.feed_forward_length": ffn,
      "llama.attention.head_count": heads,
      "llama.attention.head_count_kv": kvHeads,
      "llama.attention.layer_norm_rms_epsilon": 1e-5,
    },
    tensors,
    tokenizer: none,
    chatTemplate: none,
    close: async () => {},
  };
  return openModel(checkpoint);
}

function memoryError(plan: () => Plan): MemoryError {
  try {
    plan();
  } catch (error) {
    expect(error).toBeInstanceOf(MemoryError);
    return error as MemoryError;
  }
  throw new Error("it fits");
}

let wasm: Device;
let small: Model;
beforeAll(async () => {
  // As much as one memory of WebAssembly holds, so that small models do not fit.
  wasm = { ...(await wasmDevice({ threads: 2 })), memoryBytes: MEMORY_BYTES };
  small = await goldenModel("gemma3");
});
afterAll(() => small.checkpoint.close());

function expectSums({ footprint, ...plan }: Plan): void {
  const { weights, caches, activations, workspace, total } = footprint;
  const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
  expect(sum(weights) + sum(caches) + activations + workspace).toBe(total);
  expect(workspace).toBeGreaterThanOrEqual(0);
  expect(plan.totalBytes).toBe(total);
  expect(plan.weightBytes).toBe(sum(weights));
  expect(plan.cacheBytes).toBe(sum(caches));
}

describe("parts", () => {
  it.each([
    { context: 160, chunk: 7, kv: "int4" },
    { context: 1, chunk: 128, kv: "f16" },
    { context: 33, chunk: 33, kv: "int4", outputs: 33 },
    { context: 160, chunk: 64, kv: "f16", keepLabels: true },
  ])("%o add up to the total, which is what is allocated", async (options: PlanOptions) => {
    const plan = planMemory(small, wasm, options);
    expectSums(plan);
    const allocation = (await wasm.allocate(plan.graph)) as Allocation & { memories: WebAssembly.Memory[] };
    try {
      expect(allocation.memories[0].buffer.byteLength).toBe(plan.totalBytes);
      expect(allocation.footprint).toEqual(plan.footprint);
    } finally {
      await allocation.close();
    }
  });

  it("add up on the reference device", () => {
    const reference = referenceDevice();
    for (const kv of ["f32", "f16", "int4"]) expectSums(planMemory(small, reference, { kv }));
  });

  it("of Llama 3.1 70B with 131,072 tokens are those of the published table", async () => {
    const model = await shapeOnly("Llama 3.1 70B");
    const large = { ...wasm, memoryBytes: 64 * GIB };
    const plan = planMemory(model, large, { context: CONTEXT, kv: "int4" });
    expectSums(plan);
    // 80 layers x 8 heads x 128 values x 2 x 131,072 tokens at 5 bits.
    expect(plan.cacheBytes).toBe(12.5 * GIB);
    expect(plan.weightBytes / GIB).toBeGreaterThan(36);
    expect(plan.weightBytes / GIB).toBeLessThan(38);
    expect(planMemory(model, { ...wasm, memoryBytes: 128 * GIB }, { kv: "f16" }).cacheBytes).toBe(40 * GIB);
  });
});

describe("what does not fit", () => {
  it("names need, limit and the largest context, which fits while 32 tokens more do not", async () => {
    const model = await shapeOnly("Llama 3.2 3B");
    for (const kv of ["int4", "f16", "rq4"]) {
      const error = memoryError(() => planMemory(model, wasm, { context: CONTEXT, kv }));
      const { needBytes, limitBytes, context, largestContext } = error;
      expect(context).toBe(CONTEXT);
      expect(limitBytes).toBe(wasm.memoryBytes);
      expect(needBytes).toBeGreaterThan(limitBytes);
      expect(largestContext).toBeGreaterThan(10_000);
      expect(error.message).toContain(`${CONTEXT} tokens of ${kv}`);
      expect(error.message).toContain(`Longest context that fits: ${largestContext}`);
      const fits = planMemory(model, wasm, { context: largestContext, kv });
      expect(fits.totalBytes).toBeLessThanOrEqual(limitBytes);
      expect(
        memoryError(() => planMemory(model, wasm, { context: largestContext + 32, kv })).largestContext,
      ).toBe(largestContext);
    }
  });

  it("of several texts counts the cache that they share", async () => {
    const model = await shapeOnly("Llama 3.2 3B");
    const plan = (options: PlanOptions) => planMemory(model, wasm, { kv: "int4", ...options });
    const one = plan({ context: 4096 });
    // Asked for a context, each of four has one.
    const four = plan({ context: 4096, parallel: 4 });
    expect([four.cacheTokens, four.weightBytes]).toEqual([4 * 4096, one.weightBytes]);
    expect([four.cacheBytes, one.cacheBytes]).toEqual([4 * one.cacheBytes, four.cacheBytes / 4]);
    expectSums(four);
    expect([four.graph.texts, four.graph.blocks]).toEqual([4, 4096 / 32]);
    // As far as they fit, and one at least.
    const most = memoryError(() => plan({ context: CONTEXT })).largestContext;
    const many = plan({ context: 8192, parallel: 64 });
    expect(many.cacheTokens).toBeGreaterThan(8192);
    expect(many.cacheTokens).toBeLessThanOrEqual(most);
    expect(many.totalBytes).toBeLessThanOrEqual(wasm.memoryBytes);
    expect(plan({ context: most - 1024, parallel: 2 }).cacheTokens).toBeGreaterThanOrEqual(most - 1024);
    // What is asked for is what there is.
    const shared = plan({ context: 4096, cacheTokens: 10_000, parallel: 8 });
    expect(shared).toMatchObject({ context: 4096, cacheTokens: 10_000, parallel: 8 });
    expect(plan({ cacheTokens: 10_000, parallel: 8 }).context).toBe(10_000);
    const error = memoryError(() => plan({ context: 4096, cacheTokens: 10 * most }));
    expect(error.message).toMatch(new RegExp(`^${10 * most} tokens of int4 cache with `));
    expect(error.message).toMatch(/Largest cache that fits: \d+ tokens\.$/);
    expect(plan({ context: 4096, cacheTokens: error.largestContext }).totalBytes).toBeLessThanOrEqual(
      wasm.memoryBytes,
    );
    expect(() => plan({ context: 4096, cacheTokens: error.largestContext + 32 })).toThrow(MemoryError);
  });

  it("gives texts one context together where the memory is not known", async () => {
    const model = await shapeOnly("Llama 3.2 3B");
    const unknown = { ...wasm, memoryBytes: Number.MAX_SAFE_INTEGER };
    expect(planMemory(model, unknown, { parallel: 4 })).toMatchObject({
      context: CONTEXT,
      cacheTokens: CONTEXT,
    });
    expect(planMemory(model, unknown, { parallel: 4, context: 1000 }).cacheTokens).toBe(4000);
  });

  it("unasked, the context is the trained one or the most that fits", async () => {
    const model = await shapeOnly("Llama 3.2 3B");
    const error = memoryError(() => planMemory(model, wasm, { context: CONTEXT }));
    expect(planMemory(model, wasm).context).toBe(error.largestContext);
    expect(planMemory(model, { ...wasm, memoryBytes: 64 * GIB }).context).toBe(CONTEXT);
    expect(planMemory(small, wasm).context).toBe(small.config.trainedContext);
  });

  it("counts the memory that the machine tells, with the process's own part, unless the caller says more", async () => {
    const model = await shapeOnly("Llama 3.2 3B");
    const memory = { bytes: 3 * GIB, source: "nvidia-smi" };
    const here = { ...wasm, name: "gpu", memoryBytes: Number.MAX_SAFE_INTEGER, memory };
    const plan = planMemory(model, here);
    expect(plan).toMatchObject({ memory, limitBytes: 3 * GIB - 256 * 2 ** 20 });
    expect(plan.context).toBeLessThan(CONTEXT);
    expect(plan.totalBytes).toBeLessThanOrEqual(plan.limitBytes);
    const error = memoryError(() => planMemory(model, here, { context: plan.context + 32 }));
    expect(error).toMatchObject({ largestContext: plan.context, limitBytes: 3 * GIB, source: "nvidia-smi" });
    expect(error.message).toMatch(
      /need 3\.\d\d GiB; the memory is 3\.00 GiB \(nvidia-smi\)\. Longest context/,
    );
    expect(planMemory(model, here, { memoryBytes: 64 * GIB }).context).toBe(CONTEXT);
    expect(planMemory(model, { ...here, memory: null })).toMatchObject({ context: CONTEXT, memory: null });
    const asked = memoryError(() => planMemory(model, { ...here, memory: null }, { memoryBytes: GIB }));
    expect(asked).toMatchObject({ source: "", limitBytes: GIB });
    for (const memoryBytes of [-1, Number.NaN])
      expect(() => planMemory(model, here, { memoryBytes })).toThrow(ArgumentError);
  });

  it.each(["Llama 3.1 8B", "Llama 3.1 70B"] as const)("%s: the weights alone", async (name) => {
    const model = await shapeOnly(name);
    for (const options of [{}, { context: CONTEXT }, { context: 32 }, { context: 1 }]) {
      const error = memoryError(() => planMemory(model, wasm, options));
      expect(error.largestContext).toBe(0);
      expect(error.message).toContain("weights alone");
      expect(error.message).toMatch(/need \d+\.\d\d GiB; the wasm device can hold 4\.00 GiB/);
    }
  });

  it("says otherwise when it is not the weights", async () => {
    const plan = planMemory(small, wasm, { context: 32, chunk: 1 });
    const tight = { ...wasm, memoryBytes: plan.weightBytes + 1 };
    const error = memoryError(() => planMemory(small, tight, { context: 32, chunk: 1 }));
    expect(error.largestContext).toBe(0);
    expect(error.message).toContain("No context fits");
  });

  it("may be a cache or a matrix that one memory of WebAssembly cannot hold; allocation refuses it, too", async () => {
    const model = await shapeOnly("Llama 3.1 8B");
    const large = { ...wasm, memoryBytes: 512 * GIB };
    const kv = "f16";
    const { graph } = planContext(model, large, { context: 2 ** 20, kv });
    const { largest } = large.measure(graph);
    // 8 heads x 128 values x 2 x 1,048,576 tokens of 2 bytes.
    expect(largest).toMatchObject({ label: "KV cache of layer 0" });
    expect(largest!.bytes).toBeGreaterThan(4 * GIB);
    const error = shortfallOf(
      planContext(model, large, { context: 2 ** 20, kv }),
      large,
      limitsOf(large, {}),
      0,
    );
    expect(error!.message).toMatch(
      /^"KV cache of layer 0" needs \d+ MiB in one buffer; the wasm device allows 4096 MiB\./,
    );
    await expect(wasm.allocate(graph)).rejects.toThrow(
      /KV cache of layer 0 needs \d+ bytes in one memory, which holds at most 4294901760/,
    );
  });

  it("of one memory of WebAssembly goes into several: Llama 3.1 8B in Q4_0 with 32,768 tokens on 16 GB", async () => {
    const model = await shapeOnly("Llama 3.1 8B");
    const machine = { ...wasm, memoryBytes: 256 * GIB, memory: { bytes: 16e9, source: "" } };
    const plan = planMemory(model, machine, { context: 32_768 });
    expectSums(plan);
    expect(plan.totalBytes).toBeGreaterThan(5.4 * GIB);
    expect(plan.totalBytes).toBeLessThan(6.2 * GIB);
    const f16 = memoryError(() => planMemory(model, machine, { context: CONTEXT, kv: "f16" }));
    expect(f16.message).toMatch(
      /need 2\d\.\d\d GiB; the memory is 14\.90 GiB\. Longest context that fits: \d+/,
    );
  });
});

describe("options", () => {
  const trained = () => small.config.trainedContext;

  it("out of range are refused with the range", () => {
    for (const context of [0, -1, 1.5, Number.NaN, trained() + 1])
      expect(() => planMemory(small, wasm, { context })).toThrow(
        `context is ${context}; allowed: integers 1 to ${trained()}`,
      );
    for (const chunk of [0, 4097, 0.5])
      expect(() => planMemory(small, wasm, { chunk })).toThrow(ArgumentError);
    for (const outputs of [0, 9, 1.5])
      expect(() => planMemory(small, wasm, { chunk: 8, outputs })).toThrow(ArgumentError);
  });

  it("of texts at once and their cache are refused with the range, and the old name with the new one", () => {
    for (const parallel of [0, 1.5, 257, Number.NaN])
      expect(() => planMemory(small, wasm, { parallel })).toThrow(
        `parallel is ${parallel}; allowed: integers 1 to 256`,
      );
    for (const cacheTokens of [0, 99, 0.5])
      expect(() => planMemory(small, wasm, { context: 100, cacheTokens })).toThrow(
        `cacheTokens is ${cacheTokens}; allowed: integers 100, the context, to `,
      );
    expect(() => planMemory(small, wasm, { sessions: 2 } as PlanOptions)).toThrow(
      "sessions is 2; allowed: its new name, parallel",
    );
  });

  it("at their limits are taken", () => {
    expect(planMemory(small, wasm, { context: 1 }).context).toBe(1);
    expect(planMemory(small, wasm, { context: trained() }).context).toBe(trained());
    const { graph } = planMemory(small, wasm, { context: 20, chunk: 4096, outputs: 4096 });
    // A step never has more tokens than the context.
    expect([graph.maxTokens, graph.maxOutputs]).toEqual([20, 20]);
  });

  it("KV formats: unknown ones are an argument error, f32 is one that the CPU device lacks", () => {
    expect(() => planMemory(small, wasm, { kv: "q3" })).toThrow(ArgumentError);
    expect(() => planMemory(small, wasm, { kv: "f32" })).toThrow(UnsupportedError);
    expect(() => planMemory(small, wasm, { kv: "f32" })).toThrow(/f32 on the wasm device.*f16, int4/);

    expect(planMemory(small, referenceDevice(), { kv: "f32" }).kv).toBe("f32");
  });
});
