/**
 * A checkpoint as a model: its config, its forward pass as a graph, and the tensor behind each of the graph's weights.
 * Owns the table of families. Refuses to know devices and sessions: the same graph runs anywhere.
 */
import { blocksOf, poolPages } from "../cache/layers.ts";
import type { Cache, Graph, KvCodec, Pool, Rope, Value, Weight } from "../device/contract.ts";
import { Recorder } from "../device/recorder.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError } from "../format/errors.ts";
import type { Tensor } from "../format/tensor.ts";
import type { LayerKind, ModelConfig } from "./config.ts";
import { configFromGguf } from "./config-gguf.ts";
import { configFromSafetensors } from "./config-safetensors.ts";
import { gemma3 } from "./gemma3.ts";
import type { Parts } from "./layers.ts";
import { llama } from "./llama.ts";
import { findTensor } from "./names.ts";

interface Family {
  readonly forward: (op: Recorder, parts: Parts) => Value;
  /** Tensors that attention() would do without but this family must have. */
  readonly required: readonly string[];
}

const FAMILIES: Readonly<Record<string, Family>> = {
  llama: { forward: llama, required: [] },
  qwen2: { forward: llama, required: ["queryBias", "keyBias", "valueBias"] },
  qwen3: { forward: llama, required: ["queryNorm", "keyNorm"] },
  gemma3: { forward: gemma3, required: ["queryNorm", "keyNorm"] },
};

export interface GraphOptions {
  /** Positions that a text may reach; sizes the page tables. */
  context: number;
  /** Token slots of all texts together; sizes the pools. Default: the context. */
  cacheTokens?: number;
  /** Most tokens of one step. */
  maxTokens: number;
  /** Most logits rows of one step. */
  maxOutputs: number;
  codec: KvCodec;
  /** Texts at once. Default 1. */
  texts?: number;
  /** Keep `hidden.N` readable after a step. */
  keepLabels?: boolean;
}

export interface Model {
  readonly config: ModelConfig;
  readonly checkpoint: Checkpoint;
  record(options: GraphOptions): Graph;
  /** The tensor behind a weight of a graph that `record` made. */
  tensor(weight: Weight): Tensor;
}

export async function openModel(checkpoint: Checkpoint): Promise<Model> {
  const config =
    checkpoint.kind === "gguf" ? await configFromGguf(checkpoint) : configFromSafetensors(checkpoint);
  const sources = new Map<string, Tensor>();
  return {
    config,
    checkpoint,
    record: (options) => record(checkpoint, config, options, sources),
    tensor: (weight) => sources.get(weight.name)!,
  };
}

function record(
  checkpoint: Checkpoint,
  config: ModelConfig,
  options: GraphOptions,
  sources: Map<string, Tensor>,
): Graph {
  const family = FAMILIES[config.family];
  const op = new Recorder(options.maxTokens, options.maxOutputs);
  const { kvHeads, headDim, layerKinds } = config;

  const declare = (role: Weight["role"], tensor: Tensor, rows: number, cols: number) => {
    // A vector may be stored as a column of one; only its length counts.
    const fits =
      role === "matrix"
        ? tensor.rows === rows && tensor.cols === cols
        : tensor.rows * tensor.cols === rows * cols;
    if (!fits)
      throw new FormatError(
        `${checkpoint.name}: ${tensor.name}`,
        `shape ${tensor.rows} x ${tensor.cols}`,
        `${rows} x ${cols}`,
      );
    sources.set(tensor.name, tensor);
    return op.weight(tensor.name, role, tensor.type, rows, cols);
  };
  const find = (name: string, layer?: number): Tensor => {
    const tensor = findTensor(checkpoint, config, name, layer);
    const where = layer === undefined ? name : `${name} of layer ${layer}`;
    if (!tensor)
      throw new FormatError(checkpoint.name, `no tensor for ${where}, which ${config.family} needs`);
    return tensor;
  };

  const ropes = new Map<LayerKind, Rope>();
  const caches = new Map<number, Cache>();
  /** By window. */
  const pools = new Map<number | null, Pool>();
  const { context, texts = 1, maxTokens } = options;
  const { cacheTokens = context } = options;
  const parts: Parts = {
    config,
    matrix: (name, rows, cols, layer) => declare("matrix", find(name, layer), rows, cols),
    vector: (name, size, layer) => declare("vector", find(name, layer), 1, size),
    optionalVector(name, size, layer) {
      const tensor = family.required.includes(name)
        ? find(name, layer)
        : findTensor(checkpoint, config, name, layer);
      return tensor && declare("vector", tensor, 1, size);
    },
    output: () => declare("matrix", find(config.tied ? "embedding" : "output"), config.vocab, config.hidden),
    rope(layer) {
      const kind = layerKinds[layer];
      if (!ropes.has(kind)) ropes.set(kind, op.ropeTable(config.ropes[kind].frequencies));
      return ropes.get(kind)!;
    },
    cache(layer) {
      const window = layerKinds[layer] === "sliding" ? config.window : null;
      if (!pools.has(window))
        pools.set(window, op.pool(window, poolPages(window, { cacheTokens, texts, maxTokens })));
      const pool = pools.get(window)!;
      if (!caches.has(layer))
        caches.set(layer, op.cache({ layer, codec: options.codec, kvHeads, headDim, pool }));
      return caches.get(layer)!;
    },
  };
  const logits = family.forward(op, parts);
  return op.finish(logits, { keepLabels: options.keepLabels, texts, blocks: blocksOf(context) });
}
