/**
 * The components of a layer that families share: grouped-query attention over the KV cache, the gated feed-forward, and
 * the mixture of experts. A layer's spec selects among them; biases apply where the config lists them.
 */
import type { Cache, Rope, Value, Weight } from "../device/contract.ts";
import type { Recorder } from "../device/recorder.ts";
import { attentionIn, type BiasName, type ModelConfig } from "./config.ts";

/**
 * What a family's forward pass gets its weights and caches from. Names are those of names.ts; a missing tensor is an
 * error.
 */
export interface Parts {
  readonly config: ModelConfig;
  matrix(name: string, rows: number, cols: number, layer?: number): Weight;
  /** A matrix of which a step reads single rows by id. */
  table(name: string, rows: number, cols: number): Weight;
  vector(name: string, size: number, layer?: number): Weight;
  /** The bias of a projection; null if the config has none. */
  bias(name: BiasName, size: number, layer?: number): Weight | null;
  /** The output matrix, or the embedding if they are tied. */
  output(): Weight;
  /** The layer's own cache, or the one that it shares. */
  cache(layer: number): Cache;
  /** null: the layer has no position encoding. */
  rope(layer: number): Rope | null;
}

/** RMSNorm with the weight of that name: x [tokens, hidden] -> [tokens, hidden]. */
export function norm(op: Recorder, parts: Parts, x: Value, name: string, layer?: number): Value {
  return op.rmsNorm(x, parts.vector(name, x.cols, layer), parts.config.normEpsilon);
}

/** x [tokens, hidden], already normed -> [tokens, hidden]. Heads share keys in groups (GQA, arXiv 2305.13245). */
export function attention(op: Recorder, parts: Parts, layer: number, x: Value): Value {
  const { hidden, normEpsilon, layers } = parts.config;
  const { heads, kvHeads, headDim, scale, softcap, headNorms, valueNorm, ...spec } = attentionIn(
    layers[layer],
  );
  const project = (name: BiasName, count: number) => linear(op, parts, layer, x, name, count * headDim);
  const normed = (y: Value, name: string, count: number) => {
    if (headNorms === null) return y;
    if (headNorms === "all") return norm(op, parts, y, name, layer);
    return op.rmsNorm(y, parts.vector(name, headDim, layer), normEpsilon, count);
  };
  const rope = parts.rope(layer);
  const turned = (y: Value, count: number) => (rope ? op.rope(y, count, rope) : y);
  const cache = parts.cache(layer);
  // A cache with one vector for key and value holds only the rotary dims of a key. Since key = weight * value, the
  // query is multiplied by that weight.
  const isOne = cache.turned > 0;
  const held = (y: Value, count: number, weight: Weight | null) =>
    isOne ? op.takeTurned(y, count, rope!, weight) : y;
  const keyNorm = isOne ? parts.vector("keyNorm", headDim, spec.cacheOf) : null;
  const queries = held(turned(normed(project("query", heads), "queryNorm", heads), heads), heads, keyNorm);
  if (spec.cacheOf === layer) {
    const key = project("key", kvHeads);
    const keys = held(turned(normed(key, "keyNorm", kvHeads), kvHeads), kvHeads, null);
    const value = spec.values === "keys" ? key : project("value", kvHeads);
    op.appendKv(cache, keys, valueNorm ? op.rmsNorm(value, null, normEpsilon, kvHeads) : value);
  }
  const sinks = spec.sinks ? parts.vector("sinks", heads, layer) : null;
  const attended = op.attend(cache, queries, { heads, scale, softcap, sinks });
  const gated = spec.outputGate ? op.gate(project("queryGate", heads), attended, "sigmoid") : attended;
  return linear(op, parts, layer, gated, "attended", hidden);
}

/** x [tokens, hidden], already normed -> [tokens, hidden]. (GLU variants, arXiv 2002.05202) */
export function feedForward(op: Recorder, parts: Parts, layer: number, x: Value): Value {
  const { hidden, activation, activationLimit, layers } = parts.config;
  const { width } = layers[layer].feedForward;
  const gate = linear(op, parts, layer, x, "gate", width);
  const up = linear(op, parts, layer, x, "up", width);
  return linear(op, parts, layer, op.gate(gate, up, activation, activationLimit), "down", hidden);
}

/**
 * A mixture of experts: `router` chooses k experts for each token, whose gated feed-forwards are weighted and added. x
 * [tokens, hidden], already normed -> [tokens, hidden]. (Mixtral of Experts, arXiv 2401.04088)
 */
export function experts(
  op: Recorder,
  parts: Parts,
  layer: number,
  x: Value,
  options: { router?: Value; weights?: Weight | null } = {},
): Value {
  const { hidden, activation, activationLimit, layers } = parts.config;
  const { count, k, width, normalise } = layers[layer].feedForward.experts!;
  const logits = linear(op, parts, layer, options.router ?? x, "router", count);
  const picks = op.route(logits, { k, normalise, weights: options.weights });
  const product = (y: Value, name: BiasName, rows: number, cols: number) =>
    op.expertMatmul(y, picks, parts.matrix(name, count * rows, cols, layer), {
      ...{ experts: count, bias: parts.bias(name, count * rows, layer) },
    });
  const gate = product(x, "expertGate", width, hidden);
  const up = product(x, "expertUp", width, hidden);
  const gated = op.gate(gate, up, activation, activationLimit);
  return op.combine(product(gated, "expertDown", hidden, width), picks);
}

/** The layer's feed-forward: dense, or a mixture of experts. */
function expertsOrDense(op: Recorder, parts: Parts, layer: number, x: Value): Value {
  const mixture = parts.config.layers[layer].feedForward.experts;
  return mixture ? experts(op, parts, layer, x) : feedForward(op, parts, layer, x);
}

/** The last normed rows -> logits. */
function logits(op: Recorder, parts: Parts, x: Value): Value {
  const { vocab, logitScale, logitSoftcap } = parts.config;
  const plain = op.matmul(x, parts.output(), parts.bias("output", vocab));
  const scaled = logitScale === 1 ? plain : op.scale(plain, logitScale);
  return logitSoftcap > 0 ? op.softcap(scaled, logitSoftcap) : scaled;
}

export function linear(
  op: Recorder,
  parts: Parts,
  layer: number,
  x: Value,
  name: BiasName,
  rows: number,
): Value {
  return op.matmul(x, parts.matrix(name, rows, x.cols, layer), parts.bias(name, rows, layer));
}

/**
 * The Llama block: norm, attention, add; norm, feed-forward, add. Outputs are scaled before they are added if the
 * config says so. (Llama 2, arXiv 2307.09288)
 */
export function preNormModel(op: Recorder, parts: Parts): Value {
  const { residualScale } = parts.config;
  const scaled = (x: Value) => (residualScale === 1 ? x : op.scale(x, residualScale));
  return stack(op, parts, embedding(op, parts), (x, i) => {
    const attended = op.add(x, scaled(attention(op, parts, i, norm(op, parts, x, "attentionNorm", i))));
    return op.add(attended, scaled(expertsOrDense(op, parts, i, norm(op, parts, attended, "ffnNorm", i))));
  });
}

/** The Llama block with a second norm after attention and after the feed-forward. (Gemma 2, arXiv 2408.00118) */
export function sandwichModel(op: Recorder, parts: Parts): Value {
  return stack(op, parts, embedding(op, parts), (x, i) => {
    const attended = attention(op, parts, i, norm(op, parts, x, "attentionNorm", i));
    const h = op.add(x, norm(op, parts, attended, "postAttentionNorm", i));
    const fed = feedForward(op, parts, i, norm(op, parts, h, "ffnNorm", i));
    return op.add(h, norm(op, parts, fed, "postFfnNorm", i));
  });
}

/** The step's ids -> [tokens, hidden]. */
export function embedding(op: Recorder, parts: Parts): Value {
  const { hidden, vocab, embeddingScale } = parts.config;
  return op.embed(parts.matrix("embedding", vocab, hidden), embeddingScale);
}

/** Embedded x [tokens, hidden] through all layers and the last norm -> logits. */
export function stack(
  op: Recorder,
  parts: Parts,
  embedded: Value,
  block: (x: Value, layer: number) => Value,
): Value {
  const { layers } = parts.config;
  let x = embedded;
  for (let i = 0; i < layers.length; i++) x = block(op.label(x, `hidden.${i}`), i);
  const last = norm(op, parts, op.takeOutputs(x), "outputNorm");
  return logits(op, parts, op.label(last, `hidden.${layers.length}`));
}
