/**
 * A checkpoint that is no file: a shape's GGUF metadata, and weights that are random but valid blocks. It goes through
 * the same reading, planning and loading as a file, so what is measured on it is what a model of that shape costs.
 * One idea: rows are copied out of a small pool of blocks whose count is prime, so that no two rows start alike and
 * gigabytes come at the speed of memory. It says nothing: there is no tokenizer.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { ArgumentError, UnsupportedError } from "../format/errors.ts";
import { f32ToF16 } from "../format/float16.ts";
import { BLOCKS, rowBytes, type Tensor, type TensorType } from "../format/tensor.ts";
import { llama3Scaled, ropeFrequencies } from "./rope.ts";
import { SHAPES, type Shape } from "./shapes.ts";

export interface SyntheticOptions {
  /** Type of the matrices, or "q4_k_m", llama.cpp's mixture. Default q4_0. */
  type?: string;
  layers?: number;
  vocab?: number;
  /** The model pretends to be trained for at least so many positions: on random weights there is nothing to lose. */
  context?: number;
}

/**
 * Byte offsets of a random block's f16 scales, and by how much the standard deviation of its values exceeds a scale
 * of 1 (random codes are uniform: b bits have deviation 2^b / sqrt(12)). q4_k: 6-bit scales times codes, and a minimum
 * that takes their mean away; q5_k alike.
 */
const RANDOM_TYPES: Partial<Record<TensorType, readonly (readonly [offset: number, deviation: number])[]>> = {
  q4_0: [[0, 4.61]],
  q8_0: [[0, 73.9]],
  q4_k: [
    [0, 258],
    [2, 258 / 7.5],
  ],
  f16: [],
  q5_k: [
    [0, 530],
    [2, 530 / 15.5],
  ],
  q5_0: [[0, 9.24]],
  // 8-bit scales times codes around 0.
  q6_k: [[208, 1366]],
};

/** What a person may name. */
const TYPES = ["q4_0", "q8_0", "q4_k", "f16", "q4_k_m"];

/** Primes, by elements of a block: a pool is 1 to 2 MiB. */
const POOL_BLOCKS: Readonly<Record<number, number>> = { 1: 1_048_583, 32: 65_537, 256: 8209 };

/** The shape under a name that a person types. ArgumentError for an unknown one. */
export function namedShape(name: string): Shape {
  if (Object.hasOwn(SHAPES, name)) return SHAPES[name];
  throw new ArgumentError("shape", name, Object.keys(SHAPES).join(", "));
}

/** `shape`: a name of shapes.ts or a shape. ArgumentError for a type without random blocks or a wrong count. */
export function syntheticCheckpoint(shape: string | Shape, options: SyntheticOptions = {}): Checkpoint {
  const base = typeof shape === "string" ? namedShape(shape) : shape;
  const { type = "q4_0", layers = base.layers, vocab = base.vocab, context = 0 } = options;
  for (const [name, found] of Object.entries({ layers, vocab }))
    if (!(Number.isInteger(found) && found >= 1)) throw new ArgumentError(name, found, "integers from 1 on");
  if (!TYPES.includes(type)) throw new ArgumentError("type", type, TYPES.join(", "));
  const trainedContext = Math.max(base.trainedContext, context);
  const made: Shape = { ...base, layers, vocab, trainedContext };
  const name = typeof shape === "string" ? shape : made.family;
  return {
    kind: "gguf",
    name,
    metadata: metadataOf(name, made),
    tensors: new Map(tensorsOf(made, type).map((tensor) => [tensor.name, tensor])),
    async tokenizer() {
      throw new UnsupportedError("Text with random weights");
    },
    chatTemplate: async () => null,
    close: async () => {},
  };
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
  };
  return {
    "general.architecture": family,
    "general.name": name,
    ...Object.fromEntries(Object.entries(own).map(([key, value]) => [`${family}.${key}`, value])),
  };
}

/**
 * The type of a matrix in a file of this type. llama.cpp's Q4_K_M (llama-quant.cpp) gives more bits to the output, and in
 * the first and last eighth of the layers and every third between to what adds to the residual most.
 */
function typeOf(type: string, shape: Shape, name: string, cols: number): TensorType {
  if (type !== "q4_k_m") return type as TensorType;
  const kind = mixedType(shape, name);
  // Rows of no whole 256 become the next larger type of 32.
  return cols % 256 === 0 ? kind : kind === "q4_k" ? "q5_0" : "q8_0";
}

function mixedType(shape: Shape, name: string): TensorType {
  const { layers, tied, heads, kvHeads } = shape;
  if (name === (tied ? "token_embd.weight" : "output.weight")) return "q6_k";
  const [, number, part] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name) ?? [];
  if (part !== "attn_v" && part !== "ffn_down") return "q4_k";
  const layer = Number(number);
  const eighth = Math.floor(layers / 8);
  const more = layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
  if (more) return "q6_k";
  // Its rule for the 70B of Llama and what is built alike.
  return part === "attn_v" && layers === 80 && heads !== kvHeads ? "q5_k" : "q4_k";
}

/** Names and shapes: what names.ts looks for in a GGUF of the family. */
function tensorsOf(shape: Shape, ofType: string): Tensor[] {
  const { family, layers, hidden, heads, kvHeads, headDim, ffn, vocab, tied, ropeBase, ropeScaling } = shape;
  const tensors: Tensor[] = [];
  const pools = new Map<string, Uint8Array>();
  const matrix = (name: string, rows: number, cols: number) => {
    const type = typeOf(ofType, shape, name, cols);
    if (cols % BLOCKS[type].elements !== 0)
      throw new ArgumentError(`columns of ${name} in ${type}`, cols, `multiples of ${BLOCKS[type].elements}`);
    const key = `${type} ${cols}`;
    const pool = pools.get(key) ?? randomPool(type, cols);
    pools.set(key, pool);
    // Each tensor begins elsewhere in the pool.
    tensors.push(pooledTensor(name, type, rows, cols, pool, tensors.length * 7919));
  };
  const vector = (name: string, values: Float32Array) => tensors.push(vectorTensor(name, values));
  const ones = (name: string, size: number) => vector(name, new Float32Array(size).fill(1));

  matrix("token_embd.weight", vocab, hidden);
  for (let layer = 0; layer < layers; layer++) {
    const of = (name: string) => `blk.${layer}.${name}`;
    ones(of("attn_norm.weight"), hidden);
    for (const [letter, count] of Object.entries({ q: heads, k: kvHeads, v: kvHeads })) {
      matrix(of(`attn_${letter}.weight`), count * headDim, hidden);
      if (family === "qwen2") ones(of(`attn_${letter}.bias`), count * headDim);
      if ((family === "qwen3" || family === "gemma3") && letter !== "v")
        ones(of(`attn_${letter}_norm.weight`), headDim);
    }
    matrix(of("attn_output.weight"), hidden, heads * headDim);
    ones(of("ffn_norm.weight"), hidden);
    if (family === "gemma3")
      for (const name of ["post_attention_norm", "post_ffw_norm"]) ones(of(`${name}.weight`), hidden);
    matrix(of("ffn_gate.weight"), ffn, hidden);
    matrix(of("ffn_up.weight"), ffn, hidden);
    matrix(of("ffn_down.weight"), hidden, ffn);
  }
  ones("output_norm.weight", hidden);
  if (!tied) matrix("output.weight", vocab, hidden);
  if (ropeScaling && !("linear" in ropeScaling)) {
    const plain = ropeFrequencies(ropeBase, headDim);
    const scaled = llama3Scaled(plain, ropeScaling);
    vector(
      "rope_freqs.weight",
      Float32Array.from(plain, (frequency, i) => frequency / scaled[i]),
    );
  }
  return tensors;
}

/** Blocks whose values have about deviation 1 / sqrt(cols): a normed input leaves the matrix as large as it came. */
function randomPool(type: TensorType, cols: number): Uint8Array {
  const { elements, bytes: blockBytes } = BLOCKS[type];
  const blocks = POOL_BLOCKS[elements];
  const words = new Uint32Array(Math.ceil((blocks * blockBytes) / 4));
  // xorshift32 (Marsaglia, 2003): fast, and good enough for codes.
  let state = 2_463_534_242 ^ cols;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  const pool = new Uint8Array(words.buffer, 0, blocks * blockBytes);
  const deviation = 1 / Math.sqrt(cols);
  const half = (at: number, value: number) => {
    const bits = f32ToF16(value);
    pool[at] = bits & 255;
    pool[at + 1] = bits >> 8;
  };
  for (let block = 0; block < blocks; block++) {
    const at = block * blockBytes;
    // Uniform in -1..1 has deviation 1 / sqrt(3).
    if (type === "f16") half(at, ((pool[at] | (pool[at + 1] << 8)) / 32_768 - 1) * Math.sqrt(3) * deviation);
    for (const [offset, codes] of RANDOM_TYPES[type] ?? []) half(at + offset, deviation / codes);
  }
  return pool;
}

/** Row r is the pool from block `start` + r * blocks a row on, around its end. */
function pooledTensor(
  name: string,
  type: TensorType,
  rows: number,
  cols: number,
  pool: Uint8Array,
  start: number,
): Tensor {
  const { elements, bytes: blockBytes } = BLOCKS[type];
  const blocks = pool.length / blockBytes;
  return {
    name,
    type,
    rows,
    cols,
    async readRows(first, count, into) {
      const end = count * rowBytes(type, cols);
      let from = ((start + first * (cols / elements)) % blocks) * blockBytes;
      for (let at = 0; at < end; from = 0) {
        const bytes = Math.min(end - at, pool.length - from);
        into.set(pool.subarray(from, from + bytes), at);
        at += bytes;
      }
    },
  };
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
