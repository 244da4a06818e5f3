/**
 * Chooses the fastest of several sets of kernels for an adapter, by timing them on a small graph, some tens of
 * milliseconds each. kernel-memory.ts stores the result. Web standards only.
 */
import { kvCodec } from "../cache/codecs.ts";
import type { Allocation, Graph } from "../device/contract.ts";
import { Recorder } from "../device/recorder.ts";
import type { TraitOptions, Traits } from "../device/webgpu/gpu.ts";
import type { WebgpuDevice } from "../device/webgpu/webgpu.ts";
import { ArgumentError } from "../format/errors.ts";

/**
 * matrices: subgroup matrices of float16 (NVIDIA), with integer dot products for single rows. dots: integer dot
 * products. floats: float arithmetic. matrices8: the same, with 8x8x8 subgroup matrices for attention and prompts'
 * products (Metal).
 */
export const KERNEL_SETS = {
  matrices: {},
  dots: { matrices: false, matrices8: false, floats: false },
  floats: { matrices: false, matrices8: false, floats: true },
  matrices8: { matrices: false, floats: true },
} as const satisfies Readonly<Record<string, TraitOptions>>;
export type KernelSet = keyof typeof KERNEL_SETS;

export interface KernelChoice {
  readonly set: KernelSet;
  /** The sets to choose from. */
  readonly sets: readonly KernelSet[];
  /**
   * For a token of the small graph, with its share of a prompt if the sets differ for prompts; null: nothing was timed.
   */
  readonly ms: Readonly<Partial<Record<KernelSet, number>>> | null;
}

/** Another set than the default must take less than this share of the default's time. */
const CLEARLY_FASTER = 0.9;

/** The sets of an adapter, the default first. If it has matrices, no other set is as fast for prompts. */
export function kernelSets({ matrices, matrices8 }: Traits, isSoftware: boolean): readonly KernelSet[] {
  if (matrices) return ["matrices"];
  // GPUs with these emulate integer dot products.
  if (matrices8) return ["floats", "matrices8", "dots"];
  return isSoftware ? ["dots"] : ["dots", "floats"];
}

/** Throws ArgumentError for a set that does not exist, or that the adapter does not have. */
export function checkKernels(name: string, traits: Traits): KernelSet {
  const has = (Object.keys(KERNEL_SETS) as KernelSet[]).filter(
    (set) => (set !== "matrices" && set !== "matrices8") || traits[set],
  );
  const set = has.find((known) => known === name);
  if (!set) throw new ArgumentError("kernels", name, `of this GPU: ${has.join(", ")}`);
  return set;
}

/** The fastest, or the first if none is clearly faster. */
export function fastest(
  sets: readonly KernelSet[],
  ms: Readonly<Partial<Record<KernelSet, number>>>,
): KernelSet {
  const [usual, ...others] = sets;
  const best = others.reduce((a, b) => ((ms[b] ?? Number.POSITIVE_INFINITY) < (ms[a] ?? 0) ? b : a), usual);
  return (ms[best] ?? 0) < CLEARLY_FASTER * (ms[usual] ?? 0) ? best : usual;
}

interface TimingSize {
  readonly layers: number;
  readonly cols: number;
  readonly context: number;
  /**
   * Tokens of a chunk of a prompt, timed only if `matrices8` is among the sets: the others have the same kernels for
   * prompts.
   */
  readonly prompt: number;
}

/** An eighth of an 8B model's layers: 75 MB of weights, 10 MB of cache. A chunk is more than a batch (gpu.ts). */
const SIZE: TimingSize = { layers: 4, cols: 4096, context: 4096, prompt: 128 };
/** Tokens generated for each chunk of a prompt: as for a prompt of 512 tokens and an answer of 128. */
const TOKENS_A_CHUNK = 32;
const ROUNDS = 3;
const ROUND_MS = 15;
const MOST_STEPS = 50;

/** KernelChoice.ms of each set, the minimum over interleaved rounds. Throws DeviceError. */
export async function timeKernels(
  open: (traits: TraitOptions) => Promise<Pick<WebgpuDevice, "allocate">>,
  sets: readonly KernelSet[],
  size = SIZE,
): Promise<Partial<Record<KernelSet, number>>> {
  const chunk = sets.includes("matrices8") ? size.prompt : 0;
  const graph = timingGraph(size, Math.max(1, chunk));
  const steps: readonly { tokens: number; share: number }[] = [
    { tokens: 1, share: 1 },
    ...(chunk > 0 ? [{ tokens: chunk, share: 1 / TOKENS_A_CHUNK }] : []),
  ];
  const opened: { set: KernelSet; allocation: Allocation; ms: number[] }[] = [];
  try {
    for (const set of sets) {
      const allocation = await (await open(KERNEL_SETS[set])).allocate(graph);
      opened.push({ set, allocation, ms: steps.map(() => Number.POSITIVE_INFINITY) });
      for (const { tokens } of steps) await timeSteps(allocation, graph, size, tokens, 1);
    }
    for (let round = 0; round < ROUNDS; round++)
      for (const { allocation, ms } of opened)
        for (const [i, { tokens }] of steps.entries()) {
          const once = await timeSteps(allocation, graph, size, tokens, 1);
          const count = Math.max(1, Math.min(MOST_STEPS, Math.ceil(ROUND_MS / once)));
          ms[i] = Math.min(ms[i], await timeSteps(allocation, graph, size, tokens, count));
        }
    const sum = (ms: readonly number[]) => steps.reduce((all, { share }, i) => all + share * ms[i], 0);
    return Object.fromEntries(opened.map(({ set, ms }) => [set, sum(ms)]));
  } finally {
    for (const { allocation } of opened) await allocation.close();
  }
}

/** Milliseconds of one of `steps` pipelined steps with this many tokens. Weights and cache are zeros. */
async function timeSteps(
  allocation: Allocation,
  graph: Graph,
  { context }: TimingSize,
  tokens: number,
  steps: number,
) {
  const ids = new Uint32Array(tokens).fill(1);
  const begun = performance.now();
  for (let i = 0; i < steps; i++)
    await allocation.run({ runs: [{ text: 0, position: context - tokens, ids, outputs: 1 }] });
  await allocation.read(graph.logits, 0, 1);
  return (performance.now() - begun) / steps;
}

/** For each layer, attention with a 4-bit cache and a product with 4-bit weights. */
function timingGraph({ layers, cols, context }: TimingSize, tokens: number): Graph {
  const headDim = 128;
  const heads = cols / headDim;
  const kvHeads = Math.max(1, heads / 4);
  const op = new Recorder(tokens, 1);
  const pool = op.pool(null, Math.ceil(context / 32));
  let x = op.embed(op.weight("embed", "matrix", "f32", 2, cols));
  for (let layer = 0; layer < layers; layer++) {
    const cache = op.cache({ layer, codec: kvCodec("int4"), kvHeads, headDim, pool });
    const weight = (name: string, rows: number) =>
      op.weight(`${name} ${layer}`, "matrix", "q4_0", rows, cols);
    const keys = op.matmul(x, weight("keys", kvHeads * headDim));
    op.appendKv(cache, keys, keys);
    const attended = op.attend(cache, x, { heads, scale: 1 / Math.sqrt(headDim), softcap: 0 });
    x = op.add(x, op.matmul(attended, weight("output", cols)));
    x = op.add(x, op.matmul(x, weight("square", cols)));
  }
  const logits = op.matmul(op.takeOutputs(x), op.weight("logits", "matrix", "q4_0", 256, cols));
  return op.finish(logits, { texts: 1, blocks: Math.ceil(context / 32) });
}
