/** What a dispatch, or a few, do together: the operations of a graph as fusion.ts has joined them. */
import type { Op, Rope, Value } from "../contract.ts";
import { inputsOf } from "../facts.ts";
import type { Form } from "./forms.ts";

export type OpOf<Name extends Op["op"]> = Extract<Op, { op: Name }>;

/** Keys or queries on their way from a projection: norm of each head, then RoPE, then what takeTurned takes, each optional. */
export interface HeadChain {
  readonly x: Value;
  readonly norm: OpOf<"rmsNorm"> | null;
  readonly rope: Rope | null;
  readonly takes: boolean;
}

export type Stage =
  /** sum = (x + added) * factor, or (x + norm(added)) * factor; out = norm(sum), or none. Without `added`: norm(x). */
  | {
      readonly kind: "norm";
      readonly x: Value;
      readonly added: Value | null;
      /** Makes `added` on the way. */
      readonly combine: OpOf<"combine"> | null;
      readonly addedNorm: OpOf<"rmsNorm"> | null;
      readonly factor: number;
      readonly sum: Value | null;
      readonly norm: OpOf<"rmsNorm"> | null;
    }
  /** Matrices of one input, stored as one block of rows. */
  | { readonly kind: "matmul"; readonly ops: readonly OpOf<"matmul">[] }
  /** Experts' matrices of one input and the same picks, stored as one block: of each expert the rows of all of them. */
  | { readonly kind: "experts"; readonly ops: readonly OpOf<"expertMatmul">[] }
  | {
      readonly kind: "append";
      readonly op: OpOf<"appendKv">;
      readonly keys: HeadChain;
      /** epsilon: of a norm of each head without a weight; null: they are stored as they come. */
      readonly values: { readonly x: Value; readonly epsilon: number | null };
      /** The queries of the attend that follows, turned in the same dispatch; null: they are ready. */
      readonly queries: (HeadChain & { readonly attend: OpOf<"attend"> }) | null;
    }
  | {
      readonly kind: "single";
      readonly op: Exclude<Op, OpOf<"matmul"> | OpOf<"expertMatmul"> | OpOf<"appendKv">>;
    };

export type StageOf<Kind extends Stage["kind"]> = Extract<Stage, { kind: Kind }>;

/** An operation that reads a matrix. */
export type MatrixOp = OpOf<"matmul"> | OpOf<"embed"> | OpOf<"expertMatmul">;

export function weightOf(op: MatrixOp) {
  return op.op === "embed" ? op.table : op.weight;
}

/** Values that a stage reads as f32; the input of its products, if it has any, comes in the form that their kernels want. */
function plainReads(stage: Stage): readonly Value[] {
  switch (stage.kind) {
    case "norm": {
      const { x, added, combine } = stage;
      return [x, ...(combine ? inputsOf(combine) : added ? [added] : [])];
    }
    case "matmul":
      return [];
    case "experts":
      return [stage.ops[0].picks];
    case "append":
      return [stage.keys.x, stage.values.x, ...(stage.queries ? [stage.queries.x] : [])];
    case "single":
      return inputsOf(stage.op);
  }
}

/** All that stages read, each with the form that it is wanted in. formOf: of the input of a stage's products. */
export function* readsOf(
  stages: readonly Stage[],
  formOf: (stage: StageOf<"matmul"> | StageOf<"experts">) => Form,
): Generator<{ readonly stage: Stage; readonly value: Value; readonly form: Form }> {
  for (const stage of stages) {
    if (stage.kind === "matmul" || stage.kind === "experts")
      yield { stage, value: stage.ops[0].x, form: formOf(stage) };
    for (const value of plainReads(stage)) yield { stage, value, form: "f32" };
  }
}
