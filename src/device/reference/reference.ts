/**
 * The reference device: runs a graph with the loops of ops.ts. It defines what every other device must compute and
 * is itself checked against other people's golden data. Owns: weights as float32, caches as codec bytes.
 * Refuses to be fast, to share memory between values, and to do anything that ops.ts does not say.
 */
import { dequantize } from "../../format/blocks.ts";
import { rowBytes, type Tensor } from "../../format/tensor.ts";
import { leadingBlocks } from "../cache-blocks.ts";
import { checkCopy, checkRange, checkStep } from "../check.ts";
import type {
  Allocation,
  Cache,
  CacheRange,
  Device,
  Footprint,
  Graph,
  Op,
  Step,
  Value,
  Weight,
} from "../contract.ts";
import * as ops from "./ops.ts";

export function referenceDevice(): Device {
  return {
    name: "reference",
    description: "reference, plain loops in float32",
    memoryBytes: Number.MAX_SAFE_INTEGER,
    chunk: 128,
    kvFormats: null,
    measure,
    allocate: async (graph) => new ReferenceAllocation(graph),
  };
}

function measure(graph: Graph): Footprint {
  const weights = graph.weights.map((w) => w.rows * w.cols * 4);
  const caches = graph.caches.map((c) => graph.timelines * 2 * partBytes(c));
  const activations = graph.values.reduce((sum, v) => sum + valueRows(graph, v) * v.cols * 4, 0);
  const sum = (list: number[]) => list.reduce((a, b) => a + b, 0);
  return { weights, caches, activations, workspace: 0, total: sum(weights) + sum(caches) + activations };
}

/** Of one timeline's keys, or values. */
function partBytes({ kvHeads, capacity, codec, headDim }: Cache): number {
  return kvHeads * capacity * codec.vectorBytes(headDim);
}

function valueRows(graph: Graph, value: Value): number {
  return value.rows === "tokens" ? graph.maxTokens : graph.maxOutputs;
}

class ReferenceAllocation implements Allocation {
  readonly footprint: Footprint;
  readonly #weights: Float32Array[];
  readonly #values: Float32Array[];
  /** By timeline and cache id. */
  readonly #caches: { keys: Uint8Array; values: Uint8Array }[][];

  constructor(readonly graph: Graph) {
    this.footprint = measure(graph);
    this.#weights = graph.weights.map((w) => new Float32Array(w.rows * w.cols));
    this.#values = graph.values.map((v) => new Float32Array(valueRows(graph, v) * v.cols));
    this.#caches = Array.from({ length: graph.timelines }, () =>
      graph.caches.map((c) => ({
        keys: new Uint8Array(partBytes(c)),
        values: new Uint8Array(partBytes(c)),
      })),
    );
  }

  async load(weight: Weight, tensor: Tensor, onBytes?: (bytes: number) => void): Promise<void> {
    const into = this.#weights[weight.id];
    const { rows, cols } = tensor;
    const row = new Uint8Array(rowBytes(tensor.type, cols));
    // The tensor's rows, not the weight's: a vector may be stored as a column.
    for (let r = 0; r < rows; r++) {
      await tensor.readRows(r, 1, row);
      dequantize(tensor.type, row, into.subarray(r * cols, (r + 1) * cols));
      onBytes?.(row.length);
    }
  }

  async run(step: Step): Promise<void> {
    checkStep(this.graph, step);
    for (const op of this.graph.ops) this.#run(op, step);
  }

  async copyCache(from: number, to: number, tokens: number): Promise<void> {
    checkCopy(this.graph, from, to, tokens);
    for (const cache of this.graph.caches)
      for (const part of ["keys", "values"] as const) {
        const source = this.#caches[from][cache.id][part];
        for (const { at, bytes } of leadingBlocks(cache, source.length, tokens))
          this.#caches[to][cache.id][part].set(source.subarray(at, at + bytes), at);
      }
  }

  async readCache(range: CacheRange): Promise<Uint8Array> {
    return this.#range(range).slice();
  }

  async writeCache(range: CacheRange, bytes: Uint8Array): Promise<void> {
    this.#range(range).set(bytes);
  }

  async read(value: Value, first: number, rows: number): Promise<Float32Array> {
    return this.#values[value.id].slice(first * value.cols, (first + rows) * value.cols);
  }

  async close(): Promise<void> {}

  #range(range: CacheRange): Uint8Array {
    checkRange(this.graph, range);
    const { cache, part, kvHead, first, slots, timeline = 0 } = range;
    const bytes = cache.codec.vectorBytes(cache.headDim);
    const at = (kvHead * cache.capacity + first) * bytes;
    return this.#caches[timeline][cache.id][part].subarray(at, at + slots * bytes);
  }

  #value(value: Value, step: Step): Float32Array {
    const rows = value.rows === "tokens" ? step.ids.length : step.outputs;
    return this.#values[value.id].subarray(0, rows * value.cols);
  }

  #run(op: Op, step: Step): void {
    const tokens = step.ids.length;
    const get = (v: Value) => this.#value(v, step);
    switch (op.op) {
      case "embed": {
        const table = this.#weights[op.table.id];
        const out = get(op.out);
        for (let t = 0; t < tokens; t++)
          for (let i = 0; i < op.table.cols; i++)
            out[t * op.table.cols + i] = table[step.ids[t] * op.table.cols + i] * op.scale;
        return;
      }
      case "rmsNorm": {
        const weight = op.weight && this.#weights[op.weight.id];
        return ops.rmsNorm(get(op.x), weight, op.x.cols / op.groups, op.epsilon, get(op.out));
      }
      case "matmul": {
        const { weight, bias } = op;
        const b = bias && this.#weights[bias.id];
        return ops.matmul(get(op.x), this.#weights[weight.id], b, weight.rows, weight.cols, get(op.out));
      }
      case "rope": {
        const { frequencies, magnitude } = op.rope;
        return ops.rope(get(op.x), op.heads, frequencies, magnitude, step.position, tokens, get(op.out));
      }
      case "appendKv":
        return this.#append(op.cache, get(op.keys), get(op.values), step);
      case "attend": {
        const { kvHeads, headDim, window } = op.cache;
        const { heads, scale, softcap } = op;
        const shape = { tokens, position: step.position, heads, kvHeads, headDim, window, scale, softcap };
        const { keys, values } = this.#caches[step.timeline ?? 0][op.cache.id];
        return ops.attend(
          get(op.queries),
          reader(op.cache, keys),
          reader(op.cache, values),
          shape,
          get(op.out),
        );
      }
      case "gate":
        return ops.gate(get(op.gate), get(op.up), op.activation, get(op.out));
      case "add":
        return ops.add(get(op.a), get(op.b), get(op.out));
      case "softcap":
        return ops.softcap(get(op.x), op.cap, get(op.out));
      case "takeOutputs": {
        const first = (tokens - step.outputs) * op.x.cols;
        return get(op.out).set(get(op.x).subarray(first));
      }
    }
  }

  #append(cache: Cache, keys: Float32Array, values: Float32Array, step: Step): void {
    const { kvHeads, headDim } = cache;
    const into = this.#caches[step.timeline ?? 0][cache.id];
    for (let t = 0; t < step.ids.length; t++) {
      for (let h = 0; h < kvHeads; h++) {
        const at = (t * kvHeads + h) * headDim;
        const place = vectorPlace(cache, h, step.position + t);
        cache.codec.encode(keys.subarray(at, at + headDim), into.keys.subarray(...place), "keys");
        cache.codec.encode(values.subarray(at, at + headDim), into.values.subarray(...place), "values");
      }
    }
  }
}

function vectorPlace(cache: Cache, kvHead: number, position: number): [number, number] {
  const bytes = cache.codec.vectorBytes(cache.headDim);
  const slot = kvHead * cache.capacity + (position % cache.capacity);
  return [slot * bytes, (slot + 1) * bytes];
}

function reader(cache: Cache, bytes: Uint8Array): ops.ReadVector {
  return (kvHead, position, into) =>
    cache.codec.decode(bytes.subarray(...vectorPlace(cache, kvHead, position)), into);
}
