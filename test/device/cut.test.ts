/** Graphs in several memories of the CPU device: what goes where, what crosses, and what happens when one fails. */
import { afterEach, describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Graph, Step } from "../../src/device/contract.ts";
import { neededBy } from "../../src/device/facts.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { CONTROL, RECORD_WORDS } from "../../src/device/wasm/abi.js";
import { memorySizes, type Placed, placeGraph, WASM_PAGE_BYTES } from "../../src/device/wasm/program.ts";
import { KIND, WORD } from "../../src/device/wasm/records.ts";
import { type WasmAllocation, type WasmOptions, wasmDevice } from "../../src/device/wasm/wasm.ts";
import { DeviceError } from "../../src/format/errors.ts";
import { loadWeights } from "./slot-cases.ts";

const VOCAB = 64;
const SIZE = 64;
const THREADS = 2;

/**
 * Layers of attention and a product, of which the last attends to the first one's cache again; the embedding is the output
 * matrix, too. Every norm has a vector.
 */
function layers(count: number, size = SIZE): Graph {
  const op = new Recorder(8, 2);
  const vector = (name: string) => op.weight(name, "vector", "f32", 1, size);
  const pool = op.pool(null, 2);
  const embedding = op.weight("embedding", "matrix", "f32", VOCAB, size);
  const head = { codec: kvCodec("f16"), kvHeads: 1, headDim: size, pool };
  let x = op.embed(embedding);
  const caches = Array.from({ length: count - 1 }, (_, layer) => op.cache({ layer, ...head }));
  for (let layer = 0; layer < count; layer++) {
    const normed = op.rmsNorm(x, vector(`norm ${layer}`), 1e-6);
    const q = op.matmul(normed, op.weight(`q ${layer}`, "matrix", "f32", size, size));
    const cache = caches[layer] ?? caches[0];
    if (caches[layer]) op.appendKv(cache, q, normed);
    x = op.add(
      x,
      op.attend(cache, q, { heads: 1, scale: 0.1, sinks: op.weight("sinks", "vector", "f32", 1, 1) }),
    );
  }
  const last = op.takeOutputs(op.rmsNorm(x, vector("norm"), 1e-6));
  return op.finish(op.matmul(last, embedding));
}

/** A limit that leaves a memory room for so much of weights and caches. */
function limitFor(graph: Graph, part: number, threads = THREADS): number {
  const [layout] = placeGraph(graph, threads).layouts;
  const { weights, caches } = layout;
  const held = layout.arena - Math.min(...weights, ...caches);
  return Math.ceil((layout.totalBytes - held + held * part) / WASM_PAGE_BYTES) * WASM_PAGE_BYTES;
}

const holds = (placed: Placed, kind: "weights" | "caches", id: number) =>
  placed.shards.flatMap((shard, i) => (shard[kind].has(id) ? [i] : []));

describe("a graph beyond what one memory may hold", () => {
  const graph = layers(6, 256);
  const bytes = limitFor(graph, 0.4);
  const placed = placeGraph(graph, THREADS, { bytes });

  it("fills one memory after the other, none beyond the limit", () => {
    expect(placed.shards.length).toBeGreaterThanOrEqual(3);
    for (const size of memorySizes(placed)) expect(size).toBeLessThanOrEqual(bytes);
    for (const [i, layout] of placed.layouts.entries())
      expect(layout.totalBytes).toBeLessThanOrEqual(memorySizes(placed)[i]);
  });

  it("has each matrix and cache in one memory, and vectors wherever they are read", () => {
    for (const { id, role } of graph.weights)
      if (role === "matrix") expect(holds(placed, "weights", id)).toHaveLength(1);
    for (const { id } of graph.caches) expect(holds(placed, "caches", id)).toHaveLength(1);
    for (const { shard, ops } of placed.segments)
      for (const op of ops) {
        const { weights, cache } = neededBy(op);
        for (const { id } of weights) expect(holds(placed, "weights", id)).toContain(shard);
        if (cache) expect(holds(placed, "caches", cache.id)).toEqual([shard]);
      }
  });

  it("goes back to the memory of a cache or a matrix that is used again, and a layer crosses once", () => {
    const order = placed.segments.map(({ shard }) => shard);
    const most = placed.shards.length - 1;
    const forward = [...placed.shards.keys()];
    // The last layer attends in the first memory, and the output matrix is the embedding.
    expect(order).toEqual([...forward, 0, most, 0]);
    for (const { crossings } of placed.segments.slice(1, most + 1))
      expect(crossings.length).toBeLessThanOrEqual(3);
    expect(placed.segments.at(-1)!.crossings).toMatchObject([{ value: { rows: "outputs" }, from: most }]);
  });

  it("is one memory where the limit allows it", () => {
    const [{ totalBytes }] = placeGraph(graph, THREADS).layouts;
    const exact = Math.ceil(totalBytes / WASM_PAGE_BYTES) * WASM_PAGE_BYTES;
    expect(placeGraph(graph, THREADS, { bytes: exact }).shards).toHaveLength(1);
    expect(placeGraph(graph, THREADS, { bytes: exact - WASM_PAGE_BYTES }).shards).toHaveLength(2);
  });
});

const open: WasmAllocation[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((allocation) => allocation.close()));
});

async function allocate(graph: Graph, memory: WasmOptions["memory"], threads = THREADS) {
  const allocation = await (await wasmDevice({ threads, memory })).allocate(graph);
  open.push(allocation);
  await loadWeights(allocation, graph);
  allocation.setPages(graph.pools[0], 0, 0, [1, 0]);
  return allocation;
}

const step = (position: number, tokens: number, outputs: number): Step => ({
  runs: [{ text: 0, position, ids: Uint32Array.from({ length: tokens }, (_, i) => position + i), outputs }],
});

describe("several memories", () => {
  it.each([1, 2, 5])("give the same bits as one: %i threads", async (threads) => {
    const graph = layers(4, 128);
    const found: Float32Array[][] = [];
    for (const memory of [{}, { bytes: limitFor(graph, 0.5, threads) }, { dealTo: 2 }, { dealTo: 3 }]) {
      const allocation = await allocate(graph, memory, threads);
      expect(allocation.memories.length > 1).toBe("bytes" in memory || "dealTo" in memory);
      const logits: Float32Array[] = [];
      let position = 0;
      // Prompts without outputs, rows that generate, and a shorter step after a longer one.
      for (const [tokens, outputs] of [
        [8, 0],
        [3, 2],
        [1, 1],
        [1, 1],
        [5, 1],
      ]) {
        await allocation.run(step(position, tokens, outputs));
        position += tokens;
        if (outputs > 0) logits.push(await allocation.read(graph.logits, 0, outputs));
      }
      found.push(logits);
    }
    for (const other of found.slice(1)) expect(other).toEqual(found[0]);
  });

  it("are what the footprint says", async () => {
    const graph = layers(4, 128);
    const bytes = limitFor(graph, 0.5);
    const allocation = await allocate(graph, { bytes });
    const device = await wasmDevice({ threads: THREADS, memory: { bytes } });
    expect(device.measure(graph)).toEqual(allocation.footprint);
    const { weights, caches, activations, workspace, total } = allocation.footprint;
    const sizes = allocation.memories.map(({ buffer }) => buffer.byteLength);
    expect(sizes.reduce((a, b) => a + b)).toBe(total);
    expect([...weights, ...caches, activations, workspace].reduce((a, b) => a + b)).toBe(total);
  });

  it("of which one cannot be had are refused with the number, and leave nothing", async () => {
    const graph = layers(4);
    const real = WebAssembly.Memory;
    let made = 0;
    WebAssembly.Memory = class extends real {
      constructor(descriptor: WebAssembly.MemoryDescriptor) {
        if (made++ === 1) throw new RangeError("could not allocate memory");
        super(descriptor);
      }
    };
    try {
      const device = await wasmDevice({ threads: THREADS, memory: { dealTo: 3 } });
      await expect(device.allocate(graph)).rejects.toThrow(
        /cannot reserve a memory of \d+ bytes \(\d+ bytes in total\)/,
      );
      expect(made).toBe(2);
    } finally {
      WebAssembly.Memory = real;
    }
  });

  it("a trap in the last one fails the step, and threads that wait in another are let go", async () => {
    const graph = layers(4);
    const allocation = await allocate(graph, { dealTo: 3 }, 3);
    const stop = () =>
      allocation.memories.map((memory, i) =>
        Atomics.load(
          new Int32Array(memory.buffer),
          (allocation.placed.layouts[i].control + CONTROL.stop) / 4,
        ),
      );
    expect(stop()).toEqual([0, 0, 0]);
    const words = new Uint32Array(allocation.memories[2].buffer, allocation.placed.layouts[2].operations);
    expect(words[WORD.kind]).toBeGreaterThan(KIND.embed);
    words[RECORD_WORDS + WORD.kind] = 99;
    await expect(allocation.run(step(0, 4, 1))).rejects.toThrow(DeviceError);
    expect(stop()).toEqual([1, 1, 1]);
    await expect(allocation.run(step(0, 4, 1))).rejects.toThrow(DeviceError);
  });

  it("a thread that is woken late, or by anyone, runs no step again", async () => {
    const graph = layers(3);
    const allocation = await allocate(graph, { dealTo: 3 }, 1);
    await allocation.run(step(0, 4, 1));
    const wanted = await allocation.read(graph.logits, 0, 1);
    // What the host writes for the next step, in any memory, must not be read before that step.
    for (const [i, memory] of allocation.memories.entries())
      new Uint32Array(memory.buffer)[allocation.placed.layouts[i].ids / 4] = 9;
    const state = new Int32Array(allocation.memories[0].buffer);
    const word = (allocation.placed.layouts[0].control + CONTROL.step) / 4;
    await expect.poll(() => Atomics.notify(state, word)).toBe(1);
    await expect.poll(() => Atomics.notify(state, word)).toBe(1);
    expect(await allocation.read(graph.logits, 0, 1)).toEqual(wanted);
  });
});
