/**
 * A checkpoint that is no file: the GGUF metadata and the tensors of a shape. It goes through the same reading and planning
 * as a file, so what is planned for it is what a model of that shape takes. It says nothing: there is no tokenizer. Its
 * matrices have the rows that the caller makes.
 */
import type { Checkpoint } from "../format/checkpoint.ts";
import { ArgumentError, UnsupportedError } from "../format/errors.ts";
import { BLOCKS, type Tensor, type TensorType } from "../format/tensor.ts";
import { llama3Scaled, ropeFrequencies } from "./rope.ts";
import { SHAPES, type Shape } from "./shapes.ts";

export interface ShapeOptions {
  /** Type of the matrices, or "q4_k_m", llama.cpp's mixture. Default q4_0. */
  type?: string;
  layers?: number;
  vocab?: number;
  /** The model pretends to be trained for at least so many positions: on random weights there is nothing to lose. */
  context?: number;
}

/** What a person may name. */
const TYPES = ["q4_0", "q8_0", "q4_k", "f16", "q4_k_m"];

/** The rows of a matrix of this type; `place`: how many tensors are before it. */
export type RowsOf = (type: TensorType, cols: number, place: number) => Tensor["readRows"];

const noRows: RowsOf = () => async () => {
  throw new UnsupportedError("Reading weights of a planned model");
};

/** The shape under a name that a person types. ArgumentError for an unknown one. */
export function namedShape(name: string): Shape {
  if (Object.hasOwn(SHAPES, name)) return SHAPES[name];
  throw new ArgumentError("shape", name, Object.keys(SHAPES).join(", "));
}

/** `shape`: a name of shapes.ts or a shape. ArgumentError for a type that is none of them or a wrong count. */
export function shapedCheckpoint(
  shape: string | Shape,
  options: ShapeOptions = {},
  rowsOf: RowsOf = noRows,
): Checkpoint {
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
    tensors: new Map(tensorsOf(made, type, rowsOf).map((tensor) => [tensor.name, tensor])),
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
function tensorsOf(shape: Shape, ofType: string, rowsOf: RowsOf): Tensor[] {
  const { family, layers, hidden, heads, kvHeads, headDim, ffn, vocab, tied, ropeBase, ropeScaling } = shape;
  const tensors: Tensor[] = [];
  const matrix = (name: string, rows: number, cols: number) => {
    const type = typeOf(ofType, shape, name, cols);
    if (cols % BLOCKS[type].elements !== 0)
      throw new ArgumentError(`columns of ${name} in ${type}`, cols, `multiples of ${BLOCKS[type].elements}`);
    tensors.push({ name, type, rows, cols, readRows: rowsOf(type, cols, tensors.length) });
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
