/**
 * Sampling on the GPU, planned: a tree of top-k reductions over the logits and a last dispatch that draws. Defines the
 * tree's shape and the layout of the options. There are three trees (KEEP 1, 64 and 256), so that greedy sampling and
 * the usual top-k of 40 take two dispatches.
 */
import type { Sampling } from "../contract.ts";
import type { Dispatch, PlannedBuffer } from "./dispatch.ts";
import { packParams } from "./params.ts";

/** lib/top.wgsl: lanes of a workgroup, and pairs that one workgroup can sort. */
const LANES = 256;
const PLACES = 1024;
/** How many of the largest a tree keeps: one; topK up to 64; topK up to 256, or all tokens. */
const KEEPS = [1, 64, 256] as const;
type Keep = (typeof KEEPS)[number];

/** The largest topK and number of candidates. */
export const MOST_KEPT = 256;
/** `chosen` if tokens beyond the largest MOST_KEPT may count, or logits are not finite: the host has to decide. */
export const NOT_PROVEN = 0xffffffff;
/** Words in `batch` for a row for which an id is chosen: the row of logits, the text, and the options. */
export const SAMPLED_WORDS = 8;

export interface SamplingPlan {
  /** [texts] u32: the id chosen last for each, plus one for rows of no text; then [rows]: the ids, or NOT_PROVEN. */
  readonly chosen: PlannedBuffer;
  /** [rows, MOST_KEPT] (bits of an f32 logit, id), largest first, as many as the tree keeps; past the end -Infinity. */
  readonly candidates: PlannedBuffer;
  readonly buffers: readonly PlannedBuffer[];
  /** The dispatches that choose an id for each of a step's rows; null: some of the options need the host. */
  dispatchesFor(samplings: readonly Sampling[]): readonly Dispatch[] | null;
  /** The dispatches after which `candidates` holds the `count` largest, at most MOST_KEPT. */
  candidatesFor(count: number): readonly Dispatch[];
  /** All dispatches, for compiling and binding once. */
  readonly all: readonly Dispatch[];
}

/** logits: [outputs, vocab] f32. rows: maximum sampled in a step. make: plans a buffer. */
export function planSampling(options: {
  logits: PlannedBuffer;
  vocab: number;
  texts: number;
  rows: number;
  batch: PlannedBuffer;
  make(label: string, bytes: number): PlannedBuffer;
}): SamplingPlan {
  const { vocab, texts, rows, batch, make } = options;
  const trees = new Map(KEEPS.map((keep) => [keep, levels(vocab, keep)]));
  const all = [...trees.values()];
  const pairsOf = (parity: number) =>
    Math.max(
      1,
      ...KEEPS.flatMap((keep) =>
        trees.get(keep)!.flatMap(({ chunks }, i) => (i % 2 === parity ? [chunks * keep] : [])),
      ),
    );
  // Levels write to two buffers in turn.
  const kept = [0, 1].map((parity) => make("kept pairs", rows * pairsOf(parity) * 8));
  const sums = make("sums of chunks", rows * Math.max(...all.map(([{ chunks }]) => chunks)) * 8);
  const chosen = make("chosen ids", (texts + 1 + rows) * 4);
  const candidates = make("candidates", rows * MOST_KEPT * 8);

  const programOf = (keep: Keep): Dispatch[] => {
    const tree = trees.get(keep)!;
    const tops = tree.map(({ count, perThread, chunks }, i): Dispatch => {
      const before = i === 0 ? options.logits : kept[(i - 1) % 2];
      return {
        label: "sampleTop",
        kernel: { kernel: "sampleTop", values: { KEEP: keep, FIRST: i === 0 } },
        params: packParams("sampleTop", { count, perThread }),
        // One of `logits` and `before` is unused, and bound to the same buffer as the other.
        buffers: { logits: before, before, kept: kept[i % 2], sums, batch },
        workgroups: ({ sampled }) => (sampled === 0 ? null : [chunks, sampled, 1]),
      };
    });
    const last = tree.length - 1;
    const count = tree[last].chunks * keep;
    const draw: Dispatch = {
      label: "sampleDraw",
      kernel: { kernel: "sampleDraw", values: { KEEP: keep } },
      params: packParams("sampleDraw", {
        count,
        perThread: Math.ceil(count / LANES),
        chunks: tree[0].chunks,
        texts,
      }),
      buffers: { batch, before: kept[last % 2], sums, candidates, chosen },
      workgroups: ({ sampled }) => (sampled === 0 ? null : [sampled, 1, 1]),
    };
    return [...tops, draw];
  };
  const programs = new Map(KEEPS.map((keep) => [keep, programOf(keep)]));
  const enough = (count: number) => programs.get(KEEPS.find((keep) => keep >= count)!)!;
  return {
    chosen,
    candidates,
    buffers: [...kept, sums, chosen, candidates],
    dispatchesFor(samplings) {
      const keeps = samplings.map(keepFor);
      return keeps.includes(null) ? null : enough(Math.max(...(keeps as number[])));
    },
    candidatesFor: enough,
    all: [...programs.values()].flat(),
  };
}

/** How many of the largest these options need; null: more than any tree keeps. */
export function keepFor({ temperature, topK }: Sampling): number | null {
  if (temperature === 0) return 1;
  return topK <= MOST_KEPT ? (topK === 0 ? MOST_KEPT : topK) : null;
}

/** The option words of a row in `batch`. */
export function packChoice({ temperature, topK, topP, minP, seed, draw }: Sampling): number[] {
  const floats = new Float32Array(3);
  // An f32 cannot represent a temperature below 1e-38, and the draw divides by it; at 1e-30 only equal logits share the
  // probability.
  floats[0] = temperature === 0 ? 0 : Math.max(temperature, 1e-30);
  // In f32 the sum could reach the total before the last tokens, so a topP of 1 or more is encoded as no limit.
  floats[1] = topP >= 1 ? 2 : topP;
  floats[2] = minP;
  return [...new Uint32Array(floats.buffer), topK, seed, draw];
}

/** The first `count` of the candidates' bytes, NaN first, then largest first; fewer if fewer are above -Infinity. */
export function unpackCandidates(
  bytes: ArrayBuffer,
  count: number,
): { ids: Uint32Array; logits: Float32Array } {
  const words = new Uint32Array(bytes);
  const floats = new Float32Array(bytes);
  const pairs = Array.from({ length: count }, (_, i) => i).filter(
    (i) => floats[2 * i] !== Number.NEGATIVE_INFINITY,
  );
  return {
    ids: Uint32Array.from(pairs, (i) => words[2 * i + 1]),
    logits: Float32Array.from(pairs, (i) => floats[2 * i]),
  };
}

interface Level {
  /** The number of elements it reads. */
  count: number;
  perThread: number;
  chunks: number;
}

/**
 * Levels of sampleTop until one workgroup of sampleDraw can handle what is left. At least one: it makes pairs of
 * logits.
 */
function levels(vocab: number, keep: Keep): Level[] {
  // A workgroup can sort what keepTop leaves of this many elements of each lane.
  const most = Math.floor(PLACES / keep);
  const list: Level[] = [];
  let count = vocab;
  while (list.length === 0 || count > LANES * most) {
    // 64 workgroups fill most of a GPU; later levels are small, and fewer of them is better.
    const aim = list.length === 0 ? Math.ceil(count / (64 * LANES)) : most;
    const perThread = Math.min(most, aim);
    const chunks = Math.ceil(count / (LANES * perThread));
    list.push({ count, perThread, chunks });
    count = chunks * keep;
  }
  return list;
}
