/**
 * The two halves that every family here shares: grouped-query attention over the KV cache, and the gated feed-forward.
 * Optional parts (biases, norms on q and k) act where the checkpoint has them.
 */
import type { Cache, Rope, Value, Weight } from "../device/contract.ts";
import type { Recorder } from "../device/recorder.ts";
import type { ModelConfig } from "./config.ts";

/** What a family's forward pass is given. Names are those of names.ts; a missing tensor is an error or null. */
export interface Parts {
  readonly config: ModelConfig;
  matrix(name: string, rows: number, cols: number, layer?: number): Weight;
  vector(name: string, size: number, layer?: number): Weight;
  optionalVector(name: string, size: number, layer: number): Weight | null;
  /** The output matrix, or the embedding when they are tied. */
  output(): Weight;
  cache(layer: number): Cache;
  rope(layer: number): Rope;
}

/** x [tokens, hidden], already normed -> [tokens, hidden]. Heads share keys in groups (GQA, arXiv 2305.13245). */
export function attention(op: Recorder, parts: Parts, layer: number, x: Value): Value {
  const { heads, kvHeads, headDim, hidden, attentionScale } = parts.config;
  const project = (name: string, count: number) =>
    op.matmul(
      x,
      parts.matrix(name, count * headDim, hidden, layer),
      parts.optionalVector(`${name}Bias`, count * headDim, layer),
    );
  const normed = (y: Value, name: string, count: number) => {
    const weight = parts.optionalVector(name, headDim, layer);
    return weight ? op.rmsNorm(y, weight, parts.config.normEpsilon, count) : y;
  };
  const rope = parts.rope(layer);
  const queries = op.rope(normed(project("query", heads), "queryNorm", heads), heads, rope);
  const keys = op.rope(normed(project("key", kvHeads), "keyNorm", kvHeads), kvHeads, rope);
  const values = project("value", kvHeads);
  const cache = parts.cache(layer);
  op.appendKv(cache, keys, values);
  const attended = op.attend(cache, queries, { heads, scale: attentionScale });
  return op.matmul(attended, parts.matrix("attended", hidden, heads * headDim, layer));
}

/** x [tokens, hidden], already normed -> [tokens, hidden]. (GLU variants, arXiv 2002.05202) */
export function feedForward(op: Recorder, parts: Parts, layer: number, x: Value): Value {
  const { hidden, ffn, activation } = parts.config;
  const gate = op.matmul(x, parts.matrix("gate", ffn, hidden, layer));
  const up = op.matmul(x, parts.matrix("up", ffn, hidden, layer));
  return op.matmul(op.gate(gate, up, activation), parts.matrix("down", hidden, ffn, layer));
}
