/**
 * Which cache format a model gets by default. Most get the default; a layer whose keys a bias carries far out gets
 * float16, so that its rounding does not drown what differs from token to token. Known cases: Qwen 2 and 2.5, first and last
 * layers. Seen in the weights, before anything runs; a format that is named is used.
 *
 * A key's channel c has mean b (its bias) and, over normed inputs, a deviation of about sqrt(sum of (W[c, j] g[j])^2). A
 * rotary pair with frequency f turns its mean by 32 f radians over a page, so that the page's range has to span
 * min(2, 32 f) of the mean's length in addition to the 4.2 deviations of 32 Gaussian numbers; a zero of eight bits reaches 128
 * steps.
 */
import { DEFAULT_KV, kvCodec } from "../cache/codecs.ts";
import { type Device, type Graph, type Op, PAGE_SLOTS, type Value, type Weight } from "../device/contract.ts";
import { dequantize } from "../format/blocks.ts";
import { rowBytes } from "../format/tensor.ts";
import type { Model } from "../model/model.ts";
import { defaultKv } from "./kv-names.ts";

/** Mean squares of steps over those without a bias, from which on a layer stays in float16: three bits are lost. */
const MOST_NOISE = 64;
/** Range of 32 Gaussian numbers, in deviations. */
const RANGE = 4.2;
const STEPS = 15;
const ZERO_REACH = 128;
/** Weights need not be read where no bias is larger: keys are of the size of 1. */
const SMALL_BIAS = 4;

/** A format as `layerFormats` reads it. */
export async function chooseKv(model: Model, device: Pick<Device, "defaultKv">): Promise<string> {
  const graph = model.record({ context: 1, maxTokens: 1, maxOutputs: 1, codec: kvCodec(DEFAULT_KV) });
  const exceptions: string[] = [];
  for (const found of biasedKeys(graph))
    if ((await noiseOf(model, found)) > MOST_NOISE) exceptions.push(`+f16@${found.layer}`);
  return defaultKv(device) + exceptions.join("");
}

interface BiasedKeys {
  readonly layer: number;
  readonly headDim: number;
  readonly weight: Weight;
  readonly bias: Weight;
  /** Weights of the norm before the product. */
  readonly norm: Weight | null;
  /** Radians a position, of pairs (i, i + count). */
  readonly frequencies: Float64Array | null;
}

/** Layers whose keys are a product with a bias, perhaps turned, and not normed after it. */
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

/** Mean square of the channels' steps, over what it would be without the bias. */
async function noiseOf(model: Model, { headDim, frequencies, ...found }: BiasedKeys): Promise<number> {
  const bias = await numbersOf(model, found.bias);
  if (bias.every((b) => Math.abs(b) <= SMALL_BIAS)) return 1;
  const weight = await numbersOf(model, found.weight);
  const norm = found.norm && (await numbersOf(model, found.norm));
  const { rows, cols } = found.weight;
  const variances = Float64Array.from({ length: rows }, (_, row) => {
    let sum = 0;
    for (let j = 0; j < cols; j++) sum += (weight[row * cols + j] * (norm?.[j] ?? 1)) ** 2;
    return sum;
  });
  const pairs = frequencies?.length ?? 0;
  let noise = 0;
  let least = 0;
  for (let row = 0; row < rows; row++) {
    const dim = row % headDim;
    const isTurned = dim < 2 * pairs;
    const other = dim < pairs ? row + pairs : row - pairs;
    const mean = isTurned ? Math.hypot(bias[row], bias[other]) : Math.abs(bias[row]);
    const variance = isTurned ? (variances[row] + variances[other]) / 2 : variances[row];
    const turn = isTurned ? Math.min(2, PAGE_SLOTS * frequencies![dim % pairs]) : 0;
    const range = RANGE * Math.sqrt(variance);
    noise += Math.max((range + turn * mean) / STEPS, mean / ZERO_REACH) ** 2;
    least += (range / STEPS) ** 2;
  }
  return least > 0 ? noise / least : 0;
}

async function numbersOf(model: Model, weight: Weight): Promise<Float32Array> {
  const tensor = model.tensor(weight);
  const bytes = new Uint8Array(tensor.rows * rowBytes(tensor.type, tensor.cols));
  await tensor.readRows(0, tensor.rows, bytes);
  const numbers = new Float32Array(tensor.rows * tensor.cols);
  dequantize(tensor.type, bytes, numbers);
  return numbers;
}
