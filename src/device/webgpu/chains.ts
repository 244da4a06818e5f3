/**
 * Products of one token that are joined with the operation that reads them, in one dispatch (matmul-vector.ts): a
 * projection with the addition and the norm after it; gate and up with the gate; queries, keys and values with RoPE and
 * the append to the cache. A small model's step is bound by its number of dispatches: some 6 us each on an H200,
 * whatever they do (lab/LOG.md, 2026-11-28). Pure.
 */
import type { Value } from "../contract.ts";
import type { Form } from "./forms.ts";
import { type OpOf, readsOf, type Stage, type StageOf } from "./stages.ts";

type Matmul = StageOf<"matmul">;

export type Follower =
  | {
      readonly kind: "norm";
      readonly stage: StageOf<"norm"> & { readonly norm: OpOf<"rmsNorm">; readonly sum: Value };
    }
  | { readonly kind: "gate"; readonly op: OpOf<"gate"> }
  | { readonly kind: "append"; readonly stage: PlainAppend };

/** An append that a workgroup can compute for a part of a head, or with norms for a whole head. */
export type PlainAppend = StageOf<"append"> & { readonly queries: NonNullable<StageOf<"append">["queries"]> };

export interface Chains {
  /** The operation that products are joined with, by the products' stage. */
  readonly followers: ReadonlyMap<Stage, Follower>;
  /** Stages that need no dispatch of their own, because products are joined with them. */
  readonly done: ReadonlySet<Stage>;
  /** Epsilons of norms whose q8 result is not yet divided by its root mean square, by the result's id. */
  readonly unscaled: ReadonlyMap<number, number>;
}

/** For modes whose kernels join nothing. */
export const NO_CHAINS: Chains = { followers: new Map(), done: new Set(), unscaled: new Map() };

export interface ChainOptions {
  readonly stages: readonly Stage[];
  /** Whether the value is read from outside after a step. */
  isKept(value: Value): boolean;
  readers(value: Value): readonly Stage[];
  /** Whether the products are in one buffer and have a kernel that joins. */
  goesOn(stage: Matmul): boolean;
  /** The forms that a value's readers need. */
  wanted(value: Value): ReadonlySet<Form> | undefined;
}

/**
 * Joins products with the stage after them if only that stage reads them. Its result must be needed only as q8, unless
 * it is an append.
 */
export function chainsOf(options: ChainOptions): Chains {
  const { stages, goesOn, readers } = options;
  const followers = new Map<Stage, Follower>();
  const done = new Set<Stage>();
  const unscaled = new Map<number, number>();
  for (const [i, stage] of stages.entries()) {
    const next = stages[i + 1];
    if (stage.kind !== "matmul" || !next || !goesOn(stage)) continue;
    const isOnlyForNext = ({ out }: { out: Value }) =>
      !options.isKept(out) && readers(out).length === 1 && readers(out)[0] === next;
    if (!stage.ops.every(isOnlyForNext)) continue;
    const follower = followerOf(stage, next);
    if (!follower) continue;
    if (follower.kind === "append") {
      followers.set(stage, follower);
      done.add(next);
      continue;
    }
    const out = follower.kind === "norm" ? follower.stage.norm.out : follower.op.out;
    const forms = options.wanted(out);
    if (options.isKept(out) || out.cols % 32 !== 0 || forms?.size !== 1 || !forms.has("q8")) continue;
    if (follower.kind === "norm") {
      // Every reader has to divide, and only kernels of products can.
      const all = readers(out);
      if (!all.every((reader) => reader.kind === "matmul" && reader.ops[0].x === out)) continue;
      unscaled.set(out.id, follower.stage.norm.epsilon);
    }
    followers.set(stage, follower);
    done.add(next);
  }
  return { followers, done, unscaled };
}

function followerOf({ ops }: Matmul, next: Stage): Follower | null {
  if (next.kind === "norm" && ops.length === 1) {
    const { x, added, combine, addedNorm, sum, norm } = next;
    const isPlain = added === ops[0].out && x !== added && !combine && !addedNorm;
    return isPlain && sum && norm?.groups === 1 ? { kind: "norm", stage: { ...next, sum, norm } } : null;
  }
  if (next.kind === "single" && next.op.op === "gate" && ops.length === 2) {
    const { gate, up } = next.op;
    return gate !== up && gate.cols === up.cols ? { kind: "gate", op: next.op } : null;
  }
  if (next.kind === "append" && canAppend(ops, next)) return { kind: "append", stage: next };
  return null;
}

/**
 * With more rows of queries, keys and values together, an append of its own is faster: 6,144 (Llama 3.1 8B) gain 4 % of a
 * step, 10,240 (70B) lose 1.3 % (H200, 2026-11-29). The biases of fewer fit a uniform binding by WebGPU's default limits.
 */
const MOST_ROWS = 8192;

function canAppend(ops: Matmul["ops"], stage: StageOf<"append">): stage is PlainAppend {
  const { keys, values, queries, op } = stage;
  const { codec, headDim, turned } = op.cache;
  const [q, k, v] = ops;
  const isInOrder = ops.length === 3 && q.out === queries?.x && k.out === keys.x && v.out === values.x;
  const norms = [keys.norm, queries?.norm];
  // A norm needs a weight, and a whole head in each workgroup.
  const areNormed = norms.every((norm) => norm?.weight) && headDim <= 128;
  const isPlain = (areNormed || !norms.some(Boolean)) && values.epsilon === null && turned === 0;
  // rq4 rotates whole heads, so it is excluded. A packed cache takes new vectors as f16.
  const isGroups = codec.packed !== null || codec.name === "int4" || codec.name === "f16";
  const isWhole = keys.rope?.frequencies.length === headDim / 2 && headDim % 64 === 0;
  const rows = ops.reduce((sum, { out }) => sum + out.cols, 0);
  return isInOrder && isPlain && isGroups && isWhole && rows <= MOST_ROWS;
}

/**
 * Whether all readers of the products can add up splits: norms that add one product, gates, and appends of all
 * products.
 */
export function addsSplits(
  ops: Matmul["ops"],
  isKept: ChainOptions["isKept"],
  readers: ChainOptions["readers"],
): boolean {
  const isOurs = (value: Value) => ops.some(({ out }) => out.id === value.id);
  const adds = (stage: Stage, out: Value) => {
    if (stage.kind === "norm")
      return ops.length === 1 && stage.added?.id === out.id && stage.x.id !== out.id && !stage.combine;
    if (stage.kind === "append")
      return isOurs(stage.keys.x) && isOurs(stage.values.x) && (!stage.queries || isOurs(stage.queries.x));
    return stage.kind === "single" && stage.op.op === "gate";
  };
  return ops.every(({ out }) => !isKept(out) && readers(out).every((stage) => adds(stage, out)));
}

/** The stages that read a value. */
export function readersOf(stages: readonly Stage[]): (value: Value) => readonly Stage[] {
  const found = new Map<number, Set<Stage>>();
  for (const { stage, value } of readsOf(stages, () => "f32"))
    found.set(value.id, new Set(found.get(value.id)).add(stage));
  return ({ id }) => [...(found.get(id) ?? [])];
}
