/**
 * Statistics of a model's keys, from one text over f16: the mean and spread of each channel, which methods may subtract or see
 * replaced, and the facts by which `contrast` can group models. Keys are those of the cache, after RoPE.
 */
import { type Cache, type Graph, PAGE_SLOTS } from "../device/contract.ts";
import { attentionsOf, type ModelConfig } from "../model/config.ts";
import { distribution, surprise } from "../study/verify/divergence.ts";
import type { KeysOf } from "./holding.ts";
import { type KeyStats, keyStats, profileOf } from "./key-profile.ts";
import { affine } from "./methods/affine.ts";
import { attentionsIn, type Sample, type ScoreFacts, scoreFacts } from "./queries.ts";
import { type Reader, UNTOUCHED } from "./reader.ts";
import type { KeyProfile, ModelEntry } from "./types.ts";

/** Tokens read before the perplexity counts. */
const LEAD = 16;
/** Stride of the queries that are kept of a page. */
const EACH = 8;

export interface Calibration {
  readonly keys: KeysOf;
  readonly profile: KeyProfile;
  readonly facts: ModelEntry["facts"];
}

export async function calibrate(
  reader: Reader,
  graph: Graph,
  config: ModelConfig,
  ids: readonly number[],
  signal?: AbortSignal,
): Promise<Calibration> {
  const attentions = attentionsIn(graph);
  const samples: Sample[][] = attentions.map(() => []);
  let surprises = 0;
  let position = LEAD;
  for await (const logits of reader.read(ids, LEAD, UNTOUCHED, signal)) {
    const next = ids[position + 1];
    if (next !== undefined) surprises += surprise(distribution(logits, position), next);
    // Queries stay until the next page is read.
    if (position % PAGE_SLOTS === PAGE_SLOTS - 1)
      for (const [i, { queries }] of attentions.entries()) {
        const rows = await reader.value(queries, PAGE_SLOTS);
        for (let row = EACH - 1; row < PAGE_SLOTS; row += EACH) {
          const query = rows.slice(row * queries.cols, (row + 1) * queries.cols);
          samples[i].push({ position: position + 1 - PAGE_SLOTS + row, query });
        }
      }
    position++;
  }
  const whole = ids.length - (ids.length % PAGE_SLOTS);
  const heads = new Map<string, KeyStats>();
  const headsInAll = graph.caches.reduce((sum, { kvHeads }) => sum + kvHeads, 0);
  const layers: ReturnType<typeof profile>[] = [];
  const scores: ScoreFacts[] = [];
  for (const cache of graph.caches) {
    const { headDim, kvHeads, layer } = cache;
    const keys: Float32Array[] = [];
    for (let kvHead = 0; kvHead < kvHeads; kvHead++)
      keys.push(await reader.vectors(cache, "keys", kvHead, ids.length));
    for (const [kvHead, own] of keys.entries())
      heads.set(`${layer} ${kvHead}`, {
        ...keyStats(own, headDim, pairsOf(graph, cache)),
        depth: (heads.size + 0.5) / headsInAll,
      });
    const found = keys.map((own, kvHead) => profile(own, heads.get(`${layer} ${kvHead}`)!.mean));
    layers.push({
      meanOverSpread: average(found.map((head) => head.meanOverSpread)),
      kurtosis: average(found.map((head) => head.kurtosis)),
      size: average(found.map((head) => head.size)),
    });
    // A window that no longer has the first keys gives no figure for the first token.
    if (keys[0].length < whole * headDim) continue;
    for (const [i, attention] of attentions.entries())
      if (attention.cache === cache && samples[i].length > 0)
        scores.push(scoreFacts(attention, samples[i], keys, int4Keys(headDim)));
  }
  const of = (key: keyof ScoreFacts) => scores.map((one) => one[key]);
  return {
    keys: ({ layer, kvHead }) => heads.get(`${layer} ${kvHead}`)!,
    profile: profileOf([...heads.values()]),
    facts: {
      ...shapeFacts(config),
      perplexity: digits(Math.exp(surprises / Math.max(1, ids.length - 1 - LEAD))),
      keyMeanOverSpread: digits(median(layers.map((one) => one.meanOverSpread))),
      keyMeanOverSpreadMost: digits(Math.max(...layers.map((one) => one.meanOverSpread))),
      keyKurtosis: digits(median(layers.map((one) => one.kurtosis))),
      keySize: digits(median(layers.map((one) => one.size))),
      keySizeMost: digits(Math.max(...layers.map((one) => one.size))),
      ...(scores.length > 0 && {
        logitSpread: digits(median(of("spread"))),
        logitSpreadMost: digits(Math.max(...of("spread"))),
        sinkMass: digits(average(of("sinkMass"))),
        // The error of int4 in groups of 32. The softmax scale multiplies it, so the scales of two models can be
        // compared.
        logitError: digits(Math.sqrt(average(of("error").map((x) => x * x)))),
      }),
    },
  };
}

/** Rotary pairs of a cache's keys; 0 without RoPE. */
function pairsOf(graph: Graph, cache: Cache): number {
  const append = graph.ops.find((op) => op.op === "appendKv" && op.cache === cache);
  const turned = graph.ops.find(
    (op) => op.op === "rope" && append?.op === "appendKv" && op.out === append.keys,
  );
  return turned?.op === "rope" ? turned.rope.frequencies.length : 0;
}

const int4Keys = (headDim: number) => (vectors: Float32Array) =>
  affine.apply(vectors, { bits: 4, group: 32, headDim, part: "keys", seed: 0 });

/** If layers differ, the facts of the first layer that attends. */
function shapeFacts(config: ModelConfig): ModelEntry["facts"] {
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

/** Statistics of keys [tokens, headDim] of one head with this mean. */
function profile(keys: Float32Array, mean: Float32Array) {
  const headDim = mean.length;
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
    /** Root mean squares over channels. */
    meanOverSpread: Math.sqrt(meanSquares / (variance / count || 1)),
    /** 3 for a Gaussian. */
    kurtosis: fourths / count / (squares / count) ** 2 || 0,
    size: Math.sqrt(squares / count),
  };
}

const average = (list: readonly number[]) => list.reduce((sum, x) => sum + x, 0) / list.length;

function median(list: readonly number[]): number {
  const sorted = [...list].sort((a, b) => a - b);
  const at = (sorted.length - 1) / 2;
  return (sorted[Math.floor(at)] + sorted[Math.ceil(at)]) / 2;
}

/** Four significant digits: facts are for people, and must be equal on machines that round differently. */
const digits = (x: number) => Number(x.toPrecision(4));
