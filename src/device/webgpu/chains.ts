/**
 * Products of one token that go on with what reads them, in one dispatch (matmul-vector.ts): a projection with the addition and the
 * norm after it, gate and up with the gate, queries, keys and values with RoPE and their way into the cache. A small model's step is bound by its dispatches: some 6 us each on an H200, whatever
 * they do (lab/LOG.md, 2026-11-28). Pure.
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

/** What a workgroup can do that has a part of a head, or with norms a head. */
export type PlainAppend = StageOf<"append"> & { readonly queries: NonNullable<StageOf<"append">["queries"]> };

export interface Chains {
  /** By the stage of the products: what they go on with. */
  readonly followers: ReadonlyMap<Stage, Follower>;
  /** The stages that are done then. */
  readonly done: ReadonlySet<Stage>;
  /** Epsilons of norms whose result, q8, is not yet divided by its root mean square, by its id. */
  readonly unscaled: ReadonlyMap<number, number>;
}

/** Of modes whose kernels do not go on. */
export const NO_CHAINS: Chains = { followers: new Map(), done: new Set(), unscaled: new Map() };

export interface ChainOptions {
  readonly stages: readonly Stage[];
  /** Read from outside after a step. */
  isKept(value: Value): boolean;
  readers(value: Value): readonly Stage[];
  /** Products in one buffer by the kernel that goes on. */
  goesOn(stage: Matmul): boolean;
  /** The forms that a value's readers ask for. */
  wanted(value: Value): ReadonlySet<Form> | undefined;
}

/** What follows its products at once, and is read as q8 by products alone. */
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
      // A kernel that reads it has to divide.
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

/** The most rows whose biases fit a uniform binding by WebGPU's default limits. */
const MOST_BIASES = 65_536 / 4;

function canAppend(ops: Matmul["ops"], stage: StageOf<"append">): stage is PlainAppend {
  const { keys, values, queries, op } = stage;
  const { codec, headDim, turned } = op.cache;
  const [q, k, v] = ops;
  const isInOrder = ops.length === 3 && q.out === queries?.x && k.out === keys.x && v.out === values.x;
  const norms = [keys.norm, queries?.norm];
  // A norm needs the whole head in a workgroup, one with a weight.
  const areNormed = norms.every((norm) => norm?.weight) && headDim <= 128;
  const isPlain = (areNormed || !norms.some(Boolean)) && values.epsilon === null && turned === 0;
  // rq4 rotates whole heads. A packed cache takes vectors as f16.
  const isGroups = codec.packed !== null || codec.name === "int4" || codec.name === "f16";
  const isWhole = keys.rope?.frequencies.length === headDim / 2 && headDim % 64 === 0;
  const rows = ops.reduce((sum, { out }) => sum + out.cols, 0);
  const fits = rows <= MOST_BIASES || ops.every(({ bias }) => bias === null);
  return isInOrder && isPlain && isGroups && isWhole && fits;
}

/** Whether all that reads the products can add up their splits: norms that add one product, gates, and what appends all of them. */
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
