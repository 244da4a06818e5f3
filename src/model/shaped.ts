/**
 * A checkpoint without a file: GGUF metadata and tensors made from a shape. It is read and planned like a file, so its
 * plan is that of a real model of this shape. It has no tokenizer. The caller supplies the rows of its matrices.
 */
import { kvCodec } from "../cache/codecs.ts";
import type { Cache, Pool, Weight } from "../device/contract.ts";
import { Recorder } from "../device/recorder.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { ArgumentError, UnsupportedError } from "../format/errors.ts";
import { BLOCKS, type Tensor, type TensorType } from "../format/tensor.ts";
import { attentionIn } from "./config.ts";
import { ROPE_DIVISORS } from "./gguf-file.ts";
import { readConfig } from "./read-config.ts";
import { llama3Scaled, ropeFrequencies } from "./rope.ts";
import { SHAPES, type Shape } from "./shapes.ts";

export interface ShapeOptions {
  /** Type of the matrices, or "q4_k_m", llama.cpp's mixture. Default q4_0. */
  type?: string;
  layers?: number;
  vocab?: number;
  /**
   * Raises the model's training length to at least this many positions; with random weights the quality does not
   * matter.
   */
  context?: number;
}

/** Types that a person may name. */
const TYPES = ["q4_0", "q8_0", "q4_k", "f16", "q4_k_m", "iq3_s", "iq2_s", "iq2_xxs"];

/** The rows of a matrix of this type; `place`: the number of tensors before it. */
export type RowsOf = (type: TensorType, cols: number, place: number) => Tensor["readRows"];

const noRows: RowsOf = () => async () => {
  throw new UnsupportedError("Reading weights of a planned model");
};

/** Finds a shape by the name that a person types. Throws ArgumentError for an unknown one. */
function namedShape(name: string): Shape {
  if (Object.hasOwn(SHAPES, name)) return SHAPES[name];
  throw new ArgumentError("shape", name, Object.keys(SHAPES).join(", "));
}

/** `shape`: a name of shapes.ts or a shape. Throws ArgumentError for an unknown type or a wrong count. */
export async function shapedCheckpoint(
  shape: string | Shape,
  options: ShapeOptions = {},
  rowsOf: RowsOf = noRows,
): Promise<Checkpoint> {
  const base = typeof shape === "string" ? namedShape(shape) : shape;
  const { type = "q4_0", layers = base.layers, vocab = base.vocab, context = 0 } = options;
  for (const [name, found] of Object.entries({ layers, vocab }))
    if (!(Number.isInteger(found) && found >= 1)) throw new ArgumentError(name, found, "integers from 1");
  if (!TYPES.includes(type)) throw new ArgumentError("type", type, TYPES.join(", "));
  const trainedContext = Math.max(base.trainedContext, context);
  const made: Shape = { ...base, layers, vocab, trainedContext };
  const name = typeof shape === "string" ? shape : made.family;
  const checkpoint: Checkpoint = {
    kind: "gguf",
    name,
    metadata: metadataOf(name, made),
    tensors: new Map(),
    async tokenizer() {
      throw new UnsupportedError("Text with random weights");
    },
    chatTemplate: async () => null,
    close: async () => {},
  };
  return { ...checkpoint, tensors: await tensorsOf(checkpoint, made, type, rowsOf) };
}

function metadataOf(name: string, shape: Shape): Record<string, unknown> {
  const { family, heads, kvHeads, headDim, ropeScaling, window } = shape;
  const linear = ropeScaling && "linear" in ropeScaling ? ropeScaling.linear : null;
  const own = {
    block_count: shape.layers,
    context_length: shape.trainedContext,
    embedding_length: shape.hidden,
    feed_forward_length: shape.ffn,
    "attention.head_count": heads,
    "attention.head_count_kv": kvHeads,
    "attention.key_length": headDim,
    "attention.value_length": headDim,
    "attention.layer_norm_rms_epsilon": shape.normEpsilon,
    "rope.freq_base": shape.ropeBase,
    ...(linear && { "rope.scaling.type": "linear", "rope.scaling.factor": linear }),
    ...(window && { "attention.sliding_window": window }),
    ...(typeof shape.keys === "function" ? shape.keys(shape.layers) : shape.keys),
  };
  return {
    "general.architecture": family,
    "general.name": name,
    ...Object.fromEntries(Object.entries(own).map(([key, value]) => [`${family}.${key}`, value])),
  };
}

/**
 * The type of a matrix in a file of this type. llama.cpp's Q4_K_M (llama-quant.cpp) gives more bits to the output and,
 * in the first and last eighth of the layers and every third between, to the matrices that matter most for the
 * residual.
 */
function typeOf(type: string, shape: Shape, name: string, cols: number): TensorType {
  // llama.cpp leaves routers unchanged.
  if (/ffn_gate_inp/.test(name)) return "f32";
  if (type !== "q4_k_m") return type as TensorType;
  const kind = mixedType(shape, name);
  // Rows that are not whole blocks of 256 get the next larger type with blocks of 32.
  return cols % 256 === 0 ? kind : kind === "q4_k" ? "q5_0" : "q8_0";
}

function mixedType(shape: Shape, name: string): TensorType {
  const { layers, tied, heads, kvHeads } = shape;
  if (name === (tied ? "token_embd.weight" : "output.weight")) return "q6_k";
  const [, number, part] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name) ?? [];
  if (part !== "attn_v" && !part?.startsWith("ffn_down")) return "q4_k";
  const layer = Number(number);
  const eighth = Math.floor(layers / 8);
  const more = layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
  if (more) return "q6_k";
  // llama.cpp's rule for Llama's 70B and models of the same shape.
  return part === "attn_v" && layers === 80 && heads !== kvHeads ? "q5_k" : "q4_k";
}

/**
 * The tensors that the family's forward pass asks for, by their GGUF names. The config is read as it would be from the
 * file; only the metadata that a reader looks at is there.
 */
async function tensorsOf(checkpoint: Checkpoint, shape: Shape, ofType: string, rowsOf: RowsOf) {
  const seen = seedsOf(shape);
  const { family, config } = await readConfig({ ...checkpoint, tensors: seen });
  const tensors = new Map<string, Tensor>();
  const parts = new Set<string>();
  const op = new Recorder(1, 1);
  const nameOf = (name: string, layer?: number): string => {
    const [place] = (layer === undefined ? family.names.model : family.names.layer)[name].gguf;
    const own = typeof place === "string" ? place : place.of;
    return layer === undefined ? own : `blk.${layer}.${own}`;
  };
  const vector = (name: string, cols: number, layer?: number) => {
    // A state that grows with each token is not bounded.
    const value = name === "deltaRates" ? -1 : 1;
    const tensor = vectorTensor(nameOf(name, layer), new Float32Array(cols).fill(value));
    tensors.set(tensor.name, tensor);
    return op.weight(tensor.name, "vector", "f32", 1, cols);
  };
  const matrix = (
    ours: string,
    rows: number,
    cols: number,
    layer?: number,
    role: Weight["role"] = "matrix",
  ) => {
    const name = nameOf(ours, layer);
    const type = typeOf(ofType, shape, name, cols);
    if (cols % BLOCKS[type].elements !== 0)
      throw new ArgumentError(`columns of ${name} in ${type}`, cols, `multiples of ${BLOCKS[type].elements}`);
    // Parts of one tensor add up to it.
    const part = `${name}: ${ours}`;
    const { rows: others = 0, readRows = rowsOf(type, cols, tensors.size) } = tensors.get(name) ?? {};
    if (!parts.has(part)) tensors.set(name, { name, type, rows: others + rows, cols, readRows });
    parts.add(part);
    return op.weight(name, role, type, rows, cols);
  };
  const caches = new Map<number, Cache>();
  const pools = new Map<number | null, Pool>();
  family.forward(op, {
    ...{ config, matrix, vector },
    table: (name, rows, cols) => matrix(name, rows, cols, undefined, "table"),
    bias: (name, size, layer) => (config.biases.includes(name) ? vector(`${name}Bias`, size, layer) : null),
    output: () => matrix(config.tied ? "embedding" : "output", config.vocab, config.hidden),
    rope: (layer) => attentionIn(config.layers[layer]).rope && op.ropeTable(Float64Array.of(1)),
    cache(layer) {
      const { window, cacheOf, kvHeads, headDim } = attentionIn(config.layers[layer]);
      const pool = pools.get(window) ?? op.pool(window, 1);
      const cache = caches.get(cacheOf) ?? op.cache({ layer, codec: kvCodec("f32"), kvHeads, headDim, pool });
      pools.set(window, pool);
      caches.set(cacheOf, cache);
      return cache;
    },
  });
  const divisors = seen.get(ROPE_DIVISORS);
  return divisors ? tensors.set(divisors.name, divisors) : tensors;
}

/** The tensors that a reader of the config looks at: the vocabulary, tied matrices, biases. */
function seedsOf(shape: Shape): Map<string, Tensor> {
  const { vocab, hidden, tied, layers, present } = shape;
  const names = present?.(layers) ?? [];
  const seeds = names.map((name) => vectorTensor(name, Float32Array.of(1)));
  const readRows = noRows("f32", hidden, 0);
  const matrices = ["token_embd.weight", ...(tied ? [] : ["output.weight"])];
  for (const name of matrices) seeds.push({ name, type: "f32", rows: vocab, cols: hidden, readRows });
  const divisors = divisorsOf(shape);
  if (divisors) seeds.push(vectorTensor(ROPE_DIVISORS, divisors));
  return new Map(seeds.map((tensor) => [tensor.name, tensor]));
}

/** A GGUF's tensor of RoPE divisors; null: none. */
function divisorsOf({ headDim, ropeBase, ropeScaling }: Shape): Float32Array | null {
  if (!ropeScaling || "linear" in ropeScaling) return null;
  const plain = ropeFrequencies(ropeBase, headDim);
  // llama.cpp's converter divides pairs that are not rotated by 1e30.
  if ("turning" in ropeScaling)
    return Float32Array.from(plain, (_, i) => (i < ropeScaling.turning ? 1 : 1e30));
  const scaled = llama3Scaled(plain, ropeScaling);
  return Float32Array.from(plain, (frequency, i) => frequency / scaled[i]);
}

function vectorTensor(name: string, values: Float32Array): Tensor {
  const bytes = new Uint8Array(values.buffer);
  return {
    name,
    type: "f32",
    rows: 1,
    cols: values.length,
    readRows: async (_first, _count, into) => into.set(bytes),
  };
}
