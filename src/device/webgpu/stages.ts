/**
 * A stage: what one dispatch, or a few, compute together. It is one operation of a graph, or several that fusion.ts has
 * joined.
 */
import type { Op, Rope, Value } from "../contract.ts";
import { inputsOf } from "../facts.ts";
import type { Form } from "./forms.ts";

export type OpOf<Name extends Op["op"]> = Extract<Op, { op: Name }>;

/** Keys or queries after their projection: norm of each head, then RoPE, then takeTurned, each optional. */
export interface HeadChain {
  readonly x: Value;
  readonly norm: OpOf<"rmsNorm"> | null;
  readonly rope: Rope | null;
  readonly takes: boolean;
}

export type Stage =
  /**
   * sum = (x + added) * factor, or (x + norm(added)) * factor; out = norm(sum), if there is a norm. Without `added`:
   * out = norm(x).
   */
  | {
      readonly kind: "norm";
      readonly x: Value;
      readonly added: Value | null;
      /** The sum of a mixture that computes `added` in this stage; null: there is none. */
      readonly combine: OpOf<"combine"> | null;
      readonly addedNorm: OpOf<"rmsNorm"> | null;
      readonly factor: number;
      readonly sum: Value | null;
      readonly norm: OpOf<"rmsNorm"> | null;
    }
  /** Matrices with the same input, stored as one. */
  | { readonly kind: "matmul"; readonly ops: readonly OpOf<"matmul">[] }
  /** Experts' matrices with the same input and picks, stored as one: for each expert the rows of all matrices. */
  | { readonly kind: "experts"; readonly ops: readonly OpOf<"expertMatmul">[] }
  | {
      readonly kind: "append";
      readonly op: OpOf<"appendKv">;
      readonly keys: HeadChain;
      /** epsilon: for a norm of each head without a weight; null: values are stored as they are. */
      readonly values: { readonly x: Value; readonly epsilon: number | null };
      /** The queries of the attend that follows, turned in the same dispatch; null: another dispatch prepares them. */
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

/**
 * Values that a stage reads as f32. The input of its products is not among them: it has the form that their kernels
 * need.
 */
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

/**
 * All values that stages read, each with the form that is needed. formOf: the form for the input of a stage's products.
 */
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
