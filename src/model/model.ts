/**
 * A checkpoint as a model: its config, its forward pass as a graph, and the tensor for each of the graph's weights. The
 * same graph runs on any device.
 */
import { kvCodec } from "../cache/codecs.ts";
import { blocksOf, packingOf, poolPages, recentPages } from "../cache/layers.ts";
import type { Cache, Graph, KvCodec, Pool, Rope, Weight } from "../device/contract.ts";
import { Recorder } from "../device/recorder.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { FormatError } from "../format/errors.ts";
import type { Tensor } from "../format/tensor.ts";
import { attentionIn, type ModelConfig, type RopeConfig, turnedDims } from "./config.ts";
import type { Family } from "./families/family.ts";
import type { Parts } from "./layers.ts";
import { type FoundTensor, findTensor } from "./names.ts";
import { readConfig } from "./read-config.ts";
import { sliceRows } from "./tensors.ts";
import { refuseUnread } from "./unread.ts";

interface GraphOptions {
  /** Positions that a text may reach; sizes the page tables. */
  context: number;
  /** Token slots of all texts together; sizes the pools. Default: the context. */
  cacheTokens?: number;
  /** Maximum tokens of one step. */
  maxTokens: number;
  /** Maximum rows of logits of one step. */
  maxOutputs: number;
  /** One codec for all layers, or one for each layer. */
  codec: KvCodec | ((layer: number) => KvCodec);
  /**
   * In layers whose values are their keys, hold one vector for both (Cache.turned) if the shape allows it. Default:
   * both.
   */
  oneVector?: boolean;
  /** Texts at a time. Default 1. */
  texts?: number;
  /** Slots of recurrent states, for models that have them. Default: two for each text. */
  stateSlots?: number;
  /** Keep the values `hidden.N` readable after a step: all of them, or the listed ones. */
  keepLabels?: boolean | readonly string[];
}

/** An open checkpoint with its config and its forward pass. */
export interface Model {
  readonly family: Family;
  readonly config: ModelConfig;
  readonly checkpoint: Checkpoint;
  record(options: GraphOptions): Graph;
  /** The tensor of a weight, for a graph that `record` made. */
  tensor(weight: Weight): Tensor;
  /** The names in the file of the tensors that make up this weight: one, or one for each expert. */
  sourceNames(weight: Weight): readonly string[];
  /** The tensors that the graph uses, by our names. */
  readonly taken: readonly { readonly name: string; readonly layer?: number }[];
}

/** Throws FormatError if a tensor is missing, and UnsupportedError if there is one that the graph does not use. */
export async function openModel(checkpoint: Checkpoint): Promise<Model> {
  const read = await readConfig(checkpoint);
  const { family, config } = read;
  const sources: Sources = new Map();
  const made = { checkpoint, family, config, sources, found: new Map() };
  // Even the smallest graph declares all weights.
  record(made, { context: 1, maxTokens: 1, maxOutputs: 1, codec: kvCodec("f32") });
  refuseUnread(checkpoint, read, new Set([...sources.values()].flatMap(({ names }) => names)));
  return modelOf(made);
}

/** A tensor with our name for it. */
type Found = FoundTensor & { readonly name: string; readonly layer?: number };
type Sources = Map<string, Found>;

interface Made {
  readonly checkpoint: Checkpoint;
  readonly family: Family;
  readonly config: ModelConfig;
  /** By the name of the weight. */
  readonly sources: Sources;
  /** The same by our name and layer: looking for a tensor is a third of recording a graph. */
  readonly found: Map<string, Found>;
  /** Rows of the embedding in the file. Default: the vocabulary's. */
  readonly rows?: number;
}

function modelOf(made: Made): Model {
  const { checkpoint, family, config, sources } = made;
  return {
    ...{ checkpoint, family, config },
    record: (options) => record(made, options),
    tensor: (weight) => sources.get(weight.name)!.tensor,
    sourceNames: (weight) => sources.get(weight.name)!.names,
    get taken() {
      return [...sources.values()].map(({ name, layer }) => ({ name, layer }));
    },
  };
}

/**
 * The model restricted to its first `vocab` ids: rows of the embedding and the output beyond them are not read.
 * Published matrices are often padded with rows that have no token: Qwen 2.5's has 271.
 */
export function withIds(model: Model, vocab: number): Model {
  const { checkpoint, family, config } = model;
  if (vocab >= config.vocab) return model;
  const sources: Sources = new Map();
  return modelOf({
    ...{ checkpoint, family, sources, found: new Map() },
    config: { ...config, vocab },
    rows: config.vocab,
  });
}

/** Tensors with a row, or a value, for each id. */
const BY_ID = ["embedding", "output", "outputBias", "inputEmbedding"];

function record(made: Made, options: GraphOptions): Graph {
  const { checkpoint, family, config, sources, rows = config.vocab } = made;
  const op = new Recorder(options.maxTokens, options.maxOutputs);

  const declare = (role: Weight["role"], found: Found, rows: number, cols: number) => {
    const { tensor } = found;
    // A vector may be stored as a matrix with one column; only its length counts.
    const fits =
      role === "vector"
        ? tensor.rows * tensor.cols === rows * cols
        : tensor.rows === rows && tensor.cols === cols;
    if (!fits)
      throw new FormatError(
        `${checkpoint.name}: ${tensor.name}`,
        `shape ${tensor.rows} x ${tensor.cols}`,
        `${rows} x ${cols}`,
      );
    sources.set(tensor.name, found);
    return op.weight(tensor.name, role, tensor.type, rows, cols);
  };
  const find = (name: string, layer?: number): Found => {
    const key = `${layer} ${name}`;
    const known = made.found.get(key) ?? look(name, layer);
    made.found.set(key, known);
    return known;
  };
  const look = (name: string, layer?: number): Found => {
    const found = findTensor(checkpoint, family.names, config, name, layer);
    const where = layer === undefined ? name : `${name} of layer ${layer}`;
    if (!found)
      throw new FormatError(checkpoint.name, `no tensor for ${where}, which ${config.family} needs`);
    const { kind, tensors } = checkpoint;
    const of = { kind, tensors, name, config, layer: config.layers[layer ?? 0] };
    const tensor = family.view?.(found.tensor, of) ?? found.tensor;
    if (config.vocab === rows || !BY_ID.includes(name)) return { ...found, tensor, name, layer };
    return { ...found, name, tensor: sliceRows(tensor, 0, config.vocab, `the first of ${rows} rows`) };
  };

  const ropes = new Map<RopeConfig, Rope>();
  /** By the layer that owns it. */
  const caches = new Map<number, Cache>();
  /** By window. */
  const pools = new Map<number | null, Pool>();
  const { context, texts = 1, maxTokens, keepLabels, stateSlots } = options;
  const { cacheTokens = context } = options;
  const parts: Parts = {
    config,
    matrix: (name, rows, cols, layer) => declare("matrix", find(name, layer), rows, cols),
    table: (name, rows, cols) => declare("table", find(name), rows, cols),
    vector: (name, size, layer) => declare("vector", find(name, layer), 1, size),
    bias: (name, size, layer) =>
      config.biases.includes(name) ? declare("vector", find(`${name}Bias`, layer), 1, size) : null,
    output: () => declare("matrix", find(config.tied ? "embedding" : "output"), config.vocab, config.hidden),
    rope(layer) {
      const { rope } = attentionIn(config.layers[layer]);
      if (rope && !ropes.has(rope))
        ropes.set(rope, op.ropeTable(frequenciesFor(rope, context), rope.magnitude));
      return rope && ropes.get(rope)!;
    },
    cache(layer) {
      const { cacheOf } = attentionIn(config.layers[layer]);
      const spec = attentionIn(config.layers[cacheOf]);
      const { window, kvHeads, headDim } = spec;
      const turned = options.oneVector ? turnedDims(spec) : 0;
      if (!pools.has(window))
        pools.set(window, op.pool(window, poolPages(window, { cacheTokens, texts, maxTokens })));
      const pool = pools.get(window)!;
      const codec = typeof options.codec === "function" ? options.codec(cacheOf) : options.codec;
      if (!caches.has(cacheOf))
        caches.set(cacheOf, op.cache({ layer: cacheOf, codec, kvHeads, headDim, turned, pool }));
      return caches.get(cacheOf)!;
    },
  };
  const logits = family.forward(op, parts);
  const packing = packingOf([...caches.values()].map(({ codec }) => codec));
  if (packing) op.recentPool(recentPages(packing, { cacheTokens, texts, maxTokens }));
  return op.finish(logits, { keepLabels, texts, blocks: blocksOf(context), stateSlots });
}

/**
 * LongRoPE has two sets of frequencies. transformers changes to the long ones when a text exceeds the original training
 * length, and leaves earlier keys as they were. Here the planned context decides for the whole text.
 */
function frequenciesFor({ frequencies, long }: RopeConfig, context: number): Float64Array {
  return long && context > long.beyond ? long.frequencies : frequencies;
}
