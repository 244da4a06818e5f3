/**
 * The default cache format of a model. Usually it is the device's. In some layers a bias shifts keys so far that
 * rounding would hide the differences between tokens; these get kv4, or float16 if kv4 would not be exact enough,
 * either. Known cases: Qwen 2 and 2.5, first and last layers; gpt-oss. It is computed from the weights before anything
 * runs. A format that the user names is not changed.
 *
 * A key's channel c has mean b (its bias) and, for normed inputs, a deviation of about sqrt(sum of (W[c, j] g[j])^2).
 * The step of a code is a fraction of a range, and the range of a format decides what a bias costs:
 * by channel 4.2 deviations of 32 Gaussian numbers, plus what a page sees of the mean: a rotary pair with frequency f
 *               rotates its mean by 32 f radians, so min(2, 32 f) of its length. A zero of eight bits reaches 128 steps.
 * int4 32 dims of one token: the deviations of all, and the farthest mean.
 * rotated all dims of one token share a step, as wide as their root mean square.
 * Mean squares of steps relative to those without the bias predict how much more a layer costs (measured: lab/LOG.md,
 * 2026-11-29).
 */
import { DEFAULT_KV, kvCodec } from "../cache/codecs.ts";
import { hasFormat } from "../device/check.ts";
import {
  type Device,
  type Graph,
  type KvCodec,
  type Op,
  PAGE_SLOTS,
  type Value,
  type Weight,
} from "../device/contract.ts";
import { INT4_GROUP } from "../device/int4.ts";
import { dequantize } from "../format/blocks.ts";
import { rowBytes } from "../format/tensor.ts";
import type { Model } from "../model/model.ts";
import { defaultKv } from "./kv-names.ts";
import { codecsOf } from "./plan.ts";

/** Range of 32 Gaussian numbers, in deviations. */
const RANGE = 4.2;
const INT4_STEPS = 15;
const ZERO_REACH = 128;
/** Weights need not be read if no bias is larger: keys have a size of about 1. */
const SMALL_BIAS = 4;
/** For a layer that the default does not suit; float16 after them. */
const INSTEAD = ["kv4"];

/** A format as `layerFormats` reads it. */
export async function chooseKv(
  model: Model,
  device: Pick<Device, "defaultKv" | "kvFormats" | "kvParts">,
): Promise<string> {
  const name = defaultKv(device);
  const codecOf = codecsOf(model, name);
  const graph = model.record({ context: 1, maxTokens: 1, maxOutputs: 1, codec: kvCodec(DEFAULT_KV) });
  // A layer that alone costs more than all layers without biases.
  const most = model.config.layers.length;
  const exceptions: string[] = [];
  for (const found of biasedKeys(graph)) {
    const channels = await channelsOf(model, found);
    const holds = (codec: KvCodec) => channels === null || noiseOf(codec, found, channels) <= most;
    if (holds(codecOf(found.layer))) continue;
    const instead = INSTEAD.find((other) => hasFormat(kvCodec(other), device) && holds(kvCodec(other)));
    exceptions.push(`+${instead ?? "f16"}@${found.layer}`);
  }
  return name + exceptions.join("");
}

/** What is said of a choice, for people; null: it is the device's default. */
export function choiceNote(chosen: string, device: Pick<Device, "defaultKv">): string | null {
  const plain = defaultKv(device);
  if (chosen === plain) return null;
  return `the keys of some layers have biases that ${plain} would not hold, so the cache is ${chosen}; --kv (kv) sets another format`;
}

interface BiasedKeys {
  readonly layer: number;
  readonly headDim: number;
  readonly weight: Weight;
  readonly bias: Weight;
  /** Weights of the norm before the product. */
  readonly norm: Weight | null;
  /** Radians per position, for pairs (i, i + count). */
  readonly frequencies: Float64Array | null;
}

/** Layers whose keys are a product with a bias, possibly with RoPE, and without a norm after it. */
function biasedKeys({ ops }: Graph): BiasedKeys[] {
  const made = new Map<Value, Op>(ops.flatMap((op) => ("out" in op ? [[op.out, op]] : [])));
  return ops.flatMap((op) => {
    if (op.op !== "appendKv") return [];
    let from = made.get(op.keys);
    const frequencies = from?.op === "rope" ? from.rope.frequencies : null;
    if (from?.op === "rope") from = made.get(from.x);
    if (from?.op !== "matmul" || !from.bias) return [];
    const before = made.get(from.x);
    const norm = before?.op === "rmsNorm" && before.groups === 1 ? before.weight : null;
    const { layer, headDim } = op.cache;
    return [{ layer, headDim, weight: from.weight, bias: from.bias, norm, frequencies }];
  });
}

/** What is known of a key's channels, [kvHeads, headDim]. */
interface Channels {
  /** The bias; for a rotary pair, its length. */
  readonly means: Float64Array;
  readonly variances: Float64Array;
  /** Radians by which the mean rotates within a page. */
  readonly turns: Float64Array;
}

/** null: the biases are too small to matter. */
async function channelsOf(model: Model, found: BiasedKeys): Promise<Channels | null> {
  const { headDim, frequencies } = found;
  const bias = await numbersOf(model, found.bias);
  if (bias.every((b) => Math.abs(b) <= SMALL_BIAS)) return null;
  const weight = await numbersOf(model, found.weight);
  const norm = found.norm && (await numbersOf(model, found.norm));
  const { rows, cols } = found.weight;
  const own = Float64Array.from({ length: rows }, (_, row) => {
    let sum = 0;
    for (let j = 0; j < cols; j++) sum += (weight[row * cols + j] * (norm?.[j] ?? 1)) ** 2;
    return sum;
  });
  const pairs = frequencies?.length ?? 0;
  const channels = {
    means: Float64Array.from(bias, Math.abs),
    variances: own.slice(),
    turns: new Float64Array(rows),
  };
  for (let row = 0; row < rows; row++) {
    const dim = row % headDim;
    if (dim >= 2 * pairs) continue;
    const other = dim < pairs ? row + pairs : row - pairs;
    channels.means[row] = Math.hypot(bias[row], bias[other]);
    channels.variances[row] = (own[row] + own[other]) / 2;
    channels.turns[row] = PAGE_SLOTS * frequencies![dim % pairs];
  }
  return channels;
}

/** Mean square of the keys' steps relative to that without the bias. */
function noiseOf({ name, packed }: KvCodec, { headDim }: BiasedKeys, channels: Channels): number {
  const { means, variances, turns } = channels;
  if (packed?.keys.scales === "channel") {
    const most = 2 ** packed.keys.bits - 1;
    let noise = 0;
    let least = 0;
    for (const [row, mean] of means.entries()) {
      const range = RANGE * Math.sqrt(variances[row]);
      noise += Math.max((range + Math.min(2, turns[row]) * mean) / most, mean / ZERO_REACH) ** 2;
      least += (range / most) ** 2;
    }
    return over(noise, least);
  }
  if (packed || name === "rq4") {
    const least = sumOf(variances);
    return over(least + sumOf(means.map((mean) => mean * mean)), least);
  }
  if (name !== "int4") return 1;
  let noise = 0;
  let least = 0;
  for (let first = 0; first < means.length; ) {
    const end = Math.min(first + INT4_GROUP, (Math.floor(first / headDim) + 1) * headDim);
    const range = RANGE * Math.sqrt(sumOf(variances.subarray(first, end)) / (end - first));
    const farthest = Math.max(...means.subarray(first, end));
    noise += (end - first) * ((range + farthest) / INT4_STEPS) ** 2;
    least += (end - first) * (range / INT4_STEPS) ** 2;
    first = end;
  }
  return over(noise, least);
}

const sumOf = (numbers: Float64Array) => numbers.reduce((sum, one) => sum + one, 0);
const over = (noise: number, least: number) => (least > 0 ? noise / least : 0);

async function numbersOf(model: Model, weight: Weight): Promise<Float32Array> {
  const tensor = model.tensor(weight);
  const bytes = new Uint8Array(tensor.rows * rowBytes(tensor.type, tensor.cols));
  await tensor.readRows(0, tensor.rows, bytes);
  const numbers = new Float32Array(tensor.rows * tensor.cols);
  dequantize(tensor.type, bytes, numbers);
  return numbers;
}
