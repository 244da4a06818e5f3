/**
 * Statistics of a model's queries and keys: the spread of scores, the share of the softmax on the first token, and the
 * error that a method's rounding of the keys adds to scores. They test the claim that the attention scale decides.
 */
import type { Cache, Graph, Value } from "../device/contract.ts";
import { readable } from "../device/readable.ts";
import type { Place } from "./holding.ts";

/** An attention of a graph. */
export interface Watched {
  /** [tokens, heads, headDim], after RoPE. */
  readonly queries: Value;
  readonly cache: Cache;
  readonly heads: number;
  readonly scale: number;
  readonly softcap: number;
}

export function attentionsIn(graph: Graph): Watched[] {
  return graph.ops.flatMap((op) => (op.op === "attend" ? [op] : []));
}

/** The graph with all queries readable after a step. */
export function watched(graph: Graph): Graph {
  return readable(graph, new Map(attentionsIn(graph).map(({ queries }, i) => [`queries.${i}`, queries])));
}

/** A query row that was kept. */
export interface Sample {
  readonly position: number;
  /** [heads, headDim] */
  readonly query: Float32Array;
}

export interface ScoreFacts {
  /** Standard deviation of a query's scores over its keys, mean over queries. */
  readonly spread: number;
  /** Share of the softmax that falls on the first token. */
  readonly sinkMass: number;
  /** Standard deviation of what the method adds to scores, less what it adds to all keys alike. */
  readonly error: number;
}

/**
 * Of one attention. keys [tokens, headDim] by KV head; `rounded`: the keys after a method, in place. A sliding layer's
 * queries see its window only; learned sinks are not in the softmax.
 */
export function scoreFacts(
  { cache, heads, scale, softcap }: Watched,
  samples: readonly Sample[],
  keys: readonly Float32Array[],
  round: (vectors: Float32Array, place: Place) => void,
): ScoreFacts {
  const { headDim, kvHeads, layer } = cache;
  const window = cache.pool.window ?? Number.POSITIVE_INFINITY;
  const rounded = keys.map((own, kvHead) => {
    const copy = own.slice();
    round(copy, { layer, kvHead });
    return copy;
  });
  let [spread, sinkMass, error, count] = [0, 0, 0, 0];
  for (const { position, query } of samples) {
    const first = Math.max(0, position + 1 - window);
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor((head * kvHeads) / heads);
      const own = query.subarray(head * headDim, (head + 1) * headDim);
      const capped = (score: number) => (softcap > 0 ? softcap * Math.tanh(score / softcap) : score);
      const scores: number[] = [];
      const errors: number[] = [];
      for (let key = first; key <= position; key++) {
        const score = capped(scale * dot(own, keys[kvHead], key * headDim));
        scores.push(score);
        errors.push(capped(scale * dot(own, rounded[kvHead], key * headDim)) - score);
      }
      const largest = Math.max(...scores);
      const sum = scores.reduce((all, score) => all + Math.exp(score - largest), 0);
      spread += deviation(scores);
      // In a window without the first token no query sees it.
      sinkMass += first === 0 ? Math.exp(scores[0] - largest) / sum : 0;
      error += deviation(errors) ** 2;
      count++;
    }
  }
  return { spread: spread / count, sinkMass: sinkMass / count, error: Math.sqrt(error / count) };
}

function dot(query: Float32Array, keys: Float32Array, at: number): number {
  let sum = 0;
  for (let i = 0; i < query.length; i++) sum += query[i] * keys[at + i];
  return sum;
}

function deviation(list: readonly number[]): number {
  const mean = list.reduce((all, x) => all + x, 0) / list.length;
  return Math.sqrt(list.reduce((all, x) => all + (x - mean) ** 2, 0) / list.length);
}
