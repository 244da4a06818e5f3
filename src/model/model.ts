/**
 * A checkpoint as a model: its config, its forward pass as a graph, and the tensor behind each of the graph's weights.
 * Owns the table of families. Refuses to know devices and sessions: the same graph runs anywhere.
 */
import { kvCodec } from "../cache/codecs.ts";
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
import { type FoundTensor, findTensor } from "./names.ts";
import { sliceRows } from "./tensors.ts";
import { refuseUnread } from "./unread.ts";

interface Family {
  readonly forward: (op: Recorder, parts: Parts) => Value;
  /** Norms on q and k, by head. */
  readonly headNorms: boolean;
}

const FAMILIES: Readonly<Record<string, Family>> = {
  llama: { forward: llama, headNorms: false },
  qwen2: { forward: llama, headNorms: false },
  qwen3: { forward: llama, headNorms: true },
  gemma3: { forward: gemma3, headNorms: true },
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

/** Throws FormatError when a tensor is missing, and UnsupportedError when there is one that the graph would not take. */
export async function openModel(checkpoint: Checkpoint): Promise<Model> {
  const config =
    checkpoint.kind === "gguf" ? await configFromGguf(checkpoint) : configFromSafetensors(checkpoint);
  const sources = new Map<string, FoundTensor>();
  // The smallest graph has all the weights.
  record(checkpoint, config, { context: 1, maxTokens: 1, maxOutputs: 1, codec: kvCodec("f32") }, sources);
  refuseUnread(checkpoint, config.family, new Set([...sources.values()].map(({ name }) => name)));
  return {
    config,
    checkpoint,
    record: (options) => record(checkpoint, config, options, sources),
    tensor: (weight) => sources.get(weight.name)!.tensor,
  };
}

/**
 * The model with the first `vocab` of its ids: rows of the embedding and the output beyond them are not read. Published
 * matrices may have more rows than there are tokens, up to a round number: Qwen 2.5's has 271.
 */
export function withIds(model: Model, vocab: number): Model {
  if (vocab >= model.config.vocab) return model;
  const { checkpoint } = model;
  const config = { ...model.config, vocab };
  const sources = new Map<string, FoundTensor>();
  return {
    ...model,
    config,
    record: (options) => record(checkpoint, config, options, sources, model.config.vocab),
    tensor: (weight) => sources.get(weight.name)!.tensor,
  };
}

/** What has a row, or a value, for each id. */
const BY_ID = ["embedding", "output", "outputBias"];

function record(
  checkpoint: Checkpoint,
  config: ModelConfig,
  options: GraphOptions,
  sources: Map<string, FoundTensor>,
  rows = config.vocab,
): Graph {
  const family = FAMILIES[config.family];
  const op = new Recorder(options.maxTokens, options.maxOutputs);
  const { kvHeads, headDim, layerKinds } = config;

  const declare = (role: Weight["role"], found: FoundTensor, rows: number, cols: number) => {
    const { tensor } = found;
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
    sources.set(tensor.name, found);
    return op.weight(tensor.name, role, tensor.type, rows, cols);
  };
  const find = (name: string, layer?: number): FoundTensor => {
    const found = findTensor(checkpoint, config, name, layer);
    const where = layer === undefined ? name : `${name} of layer ${layer}`;
    if (!found)
      throw new FormatError(checkpoint.name, `no tensor for ${where}, which ${config.family} needs`);
    if (config.vocab === rows || !BY_ID.includes(name)) return found;
    return { ...found, tensor: sliceRows(found.tensor, 0, config.vocab, `the first of ${rows} rows`) };
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
    bias: (name, size, layer) =>
      config.biases.includes(name) ? declare("vector", find(`${name}Bias`, layer), 1, size) : null,
    headNorms: family.headNorms,
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
