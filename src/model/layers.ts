/**
 * The two halves that every family here shares: grouped-query attention over the KV cache, and the gated feed-forward.
 * Biases act where the config names them, norms on q and k where the family has them.
 */
import type { Cache, Rope, Value, Weight } from "../device/contract.ts";
import type { Recorder } from "../device/recorder.ts";
import type { BiasName, ModelConfig } from "./config.ts";

/** What a family's forward pass is given. Names are those of names.ts; a missing tensor is an error. */
export interface Parts {
  readonly config: ModelConfig;
  matrix(name: string, rows: number, cols: number, layer?: number): Weight;
  vector(name: string, size: number, layer?: number): Weight;
  /** The bias of a projection; null where the config says that there is none. */
  bias(name: BiasName, size: number, layer?: number): Weight | null;
  /** Norms on q and k, by head. */
  readonly headNorms: boolean;
  /** The output matrix, or the embedding when they are tied. */
  output(): Weight;
  cache(layer: number): Cache;
  rope(layer: number): Rope;
}

/** x [tokens, hidden], already normed -> [tokens, hidden]. Heads share keys in groups (GQA, arXiv 2305.13245). */
export function attention(op: Recorder, parts: Parts, layer: number, x: Value): Value {
  const { heads, kvHeads, headDim, hidden, attentionScale } = parts.config;
  const project = (name: BiasName, count: number) => linear(op, parts, layer, x, name, count * headDim);
  const normed = (y: Value, name: string, count: number) =>
    parts.headNorms ? op.rmsNorm(y, parts.vector(name, headDim, layer), parts.config.normEpsilon, count) : y;
  const rope = parts.rope(layer);
  const queries = op.rope(normed(project("query", heads), "queryNorm", heads), heads, rope);
  const keys = op.rope(normed(project("key", kvHeads), "keyNorm", kvHeads), kvHeads, rope);
  const values = project("value", kvHeads);
  const cache = parts.cache(layer);
  op.appendKv(cache, keys, values);
  const attended = op.attend(cache, queries, { heads, scale: attentionScale });
  return linear(op, parts, layer, attended, "attended", hidden);
}

/** x [tokens, hidden], already normed -> [tokens, hidden]. (GLU variants, arXiv 2002.05202) */
export function feedForward(op: Recorder, parts: Parts, layer: number, x: Value): Value {
  const { hidden, ffn, activation } = parts.config;
  const gate = linear(op, parts, layer, x, "gate", ffn);
  const up = linear(op, parts, layer, x, "up", ffn);
  return linear(op, parts, layer, op.gate(gate, up, activation), "down", hidden);
}

/** The last normed rows -> logits. */
export function logits(op: Recorder, parts: Parts, x: Value): Value {
  const { vocab, logitSoftcap } = parts.config;
  const plain = op.matmul(x, parts.output(), parts.bias("output", vocab));
  return logitSoftcap > 0 ? op.softcap(plain, logitSoftcap) : plain;
}

function linear(op: Recorder, parts: Parts, layer: number, x: Value, name: BiasName, rows: number): Value {
  return op.matmul(x, parts.matrix(name, rows, x.cols, layer), parts.bias(name, rows, layer));
}
