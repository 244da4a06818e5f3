/**
 * What a model's keys look like, from one text over f16: the mean of each channel, which methods may take off, and the facts
 * by which `contrast` may group models. Keys are those of the cache, after RoPE.
 */
import type { Graph } from "../device/contract.ts";
import { attentionsOf, type ModelConfig } from "../model/config.ts";
import { distribution, surprise } from "../study/verify/divergence.ts";
import type { KeyMeans } from "./holding.ts";
import { type Reader, UNTOUCHED } from "./reader.ts";
import type { ModelEntry } from "./types.ts";

/** Read before the perplexity counts. */
const LEAD = 16;

export interface Calibration {
  readonly means: KeyMeans;
  readonly facts: ModelEntry["facts"];
}

export async function calibrate(
  reader: Reader,
  graph: Graph,
  config: ModelConfig,
  ids: readonly number[],
  signal?: AbortSignal,
): Promise<Calibration> {
  let surprises = 0;
  let position = LEAD;
  for await (const logits of reader.read(ids, LEAD, UNTOUCHED, signal)) {
    const next = ids[++position];
    if (next !== undefined) surprises += surprise(distribution(logits, position), next);
  }
  const means = new Map<string, Float32Array>();
  const layers: { meanOverSpread: number; kurtosis: number; size: number }[] = [];
  for (const cache of graph.caches) {
    const { headDim, kvHeads, layer } = cache;
    const heads = [];
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const keys = await reader.vectors(cache, "keys", kvHead, ids.length);
      const found = profile(keys, headDim);
      means.set(`${layer} ${kvHead}`, found.mean);
      heads.push(found);
    }
    layers.push({
      meanOverSpread: average(heads.map((head) => head.meanOverSpread)),
      kurtosis: average(heads.map((head) => head.kurtosis)),
      size: average(heads.map((head) => head.size)),
    });
  }
  return {
    means: ({ layer, kvHead }) => means.get(`${layer} ${kvHead}`)!,
    facts: {
      ...shapeFacts(config),
      perplexity: digits(Math.exp(surprises / Math.max(1, ids.length - 1 - LEAD))),
      keyMeanOverSpread: digits(median(layers.map((one) => one.meanOverSpread))),
      keyMeanOverSpreadMost: digits(Math.max(...layers.map((one) => one.meanOverSpread))),
      keyKurtosis: digits(median(layers.map((one) => one.kurtosis))),
      keySize: digits(median(layers.map((one) => one.size))),
      keySizeMost: digits(Math.max(...layers.map((one) => one.size))),
    },
  };
}

/** Of the first layer that attends, where layers differ. */
export function shapeFacts(config: ModelConfig): ModelEntry["facts"] {
  const attentions = attentionsOf(config);
  const { heads, kvHeads, headDim, scale, headNorms, softcap } = attentions[0].spec;
  return {
    ...{ family: config.family, layers: config.layers.length, heads, kvHeads, headDim },
    queriesOfKvHead: heads / kvHeads,
    qkNorm: headNorms !== null,
    softcap: softcap > 0,
    keyBias: config.biases.includes("key"),
    windowed: attentions.some(({ spec }) => spec.window !== null),
    /** Times sqrt(headDim): 1 is the usual one. */
    scale: digits(scale * Math.sqrt(headDim)),
    vocab: config.vocab,
  };
}

/** Of keys [tokens, headDim] of one head. */
function profile(keys: Float32Array, headDim: number) {
  const tokens = keys.length / headDim;
  const mean = new Float32Array(headDim);
  for (let dim = 0; dim < headDim; dim++) {
    let sum = 0;
    for (let at = dim; at < keys.length; at += headDim) sum += keys[at];
    mean[dim] = sum / tokens;
  }
  let variance = 0;
  let squares = 0;
  let fourths = 0;
  keys.forEach((x, at) => {
    variance += (x - mean[at % headDim]) ** 2;
    squares += x ** 2;
    fourths += x ** 4;
  });
  const count = keys.length;
  const meanSquares = mean.reduce((sum, x) => sum + x * x, 0) / headDim;
  return {
    mean,
    /** Root mean squares over channels. */
    meanOverSpread: Math.sqrt(meanSquares / (variance / count || 1)),
    /** 3 for a Gaussian. */
    kurtosis: fourths / count / (squares / count) ** 2 || 0,
    size: Math.sqrt(squares / count),
  };
}

const average = (list: readonly number[]) => list.reduce((sum, x) => sum + x, 0) / list.length;

export function median(list: readonly number[]): number {
  const sorted = [...list].sort((a, b) => a - b);
  const at = (sorted.length - 1) / 2;
  return (sorted[Math.floor(at)] + sorted[Math.ceil(at)]) / 2;
}

/** Four significant digits: facts are for people, and the same on machines that round otherwise. */
const digits = (x: number) => Number(x.toPrecision(4));
