/**
 * Which weights lie together: matrices of one input as one block of rows, with their biases in one vector, and where a
 * weight's rows are in the blocks' buffers. Pure. Refuses to know how rows are packed (weights.ts, pack.ts).
 */
import type { Graph, Weight } from "../contract.ts";
import type { Buffer } from "./dispatch.ts";
import type { OpOf, Stage } from "./fusion.ts";
import type { WeightBlock } from "./matmul.ts";
import { codesRowBytes, partsOf, scalesRowBytes, weightForm } from "./weights.ts";

/** Rows [from, from + rows) of a matrix go to row `at` of these buffers. */
export interface MatrixPlace {
  readonly codes: Buffer;
  readonly scales: Buffer | null;
  readonly from: number;
  readonly rows: number;
  readonly at: number;
}

/** Where a weight's file rows go. A bias may lie in several blocks' vectors, `at` floats from their beginning. */
export type Placement =
  | { readonly kind: "matrix"; readonly places: readonly MatrixPlace[] }
  | { readonly kind: "vector"; readonly places: readonly { readonly buffer: Buffer; readonly at: number }[] };

type Keep = (label: string, bytes: number) => Buffer;

/** An operation that reads a matrix. */
type MatrixOp = OpOf<"matmul"> | OpOf<"embed"> | OpOf<"expertMatmul">;

export class BlockPlan {
  readonly #blocks = new Map<string, WeightBlock>();
  readonly #matrices = new Map<number, MatrixPlace[]>();
  readonly #vectors = new Map<number, { buffer: Buffer; at: number }[]>();

  /** mostBytes: of one buffer and one binding. */
  constructor(graph: Graph, stages: readonly Stage[], mostBytes: number, keep: Keep) {
    for (const stage of stages) {
      if (stage.kind === "matmul") this.#add(stage.ops, mostBytes, keep);
      else if (stage.kind === "single" && (stage.op.op === "embed" || stage.op.op === "expertMatmul"))
        this.#add([stage.op], mostBytes, keep);
    }
    for (const weight of graph.weights)
      if (weight.role === "vector" && !this.#vectors.has(weight.id))
        this.#vectors.set(weight.id, [{ buffer: keep(weight.name, weight.rows * weight.cols * 4), at: 0 }]);
  }

  /** The block of a matmul stage's operations, of an embedding, or of experts. */
  of(ops: readonly MatrixOp[]): WeightBlock {
    return this.#blocks.get(keyOf(ops))!;
  }

  /** A vector that is read alone, such as a norm's weight. */
  vector(weight: Weight): Buffer {
    return this.#vectors.get(weight.id)![0].buffer;
  }

  placement(weight: Weight): Placement {
    return weight.role === "vector"
      ? { kind: "vector", places: this.#vectors.get(weight.id)! }
      : { kind: "matrix", places: this.#matrices.get(weight.id)! };
  }

  /** What a weight takes on the GPU. */
  bytesOf(weight: Weight): number {
    const { type, rows, cols, role } = weight;
    if (role === "vector") return rows * cols * 4 * this.#vectors.get(weight.id)!.length;
    const form = weightForm(type);
    return rows * (codesRowBytes(form, cols) + scalesRowBytes(form, cols));
  }

  #add(ops: readonly MatrixOp[], mostBytes: number, keep: Keep): void {
    const key = keyOf(ops);
    if (this.#blocks.has(key)) return;
    const weights = ops.map(weightOf);
    // Matrices that several operations read are blocks of their own, loaded once.
    const names = weights.map(({ name }) => name).join(", ");
    const [first] = ops;
    const whole = first.op === "expertMatmul" ? first.weight.rows / first.experts : 1;
    const parts = partsOf(weights, mostBytes, whole).map((part) => ({
      ...part,
      codes: keep(names, part.codesBytes),
      scales: part.scalesBytes > 0 ? keep(`scales of ${names}`, part.scalesBytes) : null,
    }));
    for (const { codes, scales, pieces } of parts)
      for (const { weight, from, rows, at } of pieces) {
        const { id } = weights[weight];
        this.#matrices.set(id, [...(this.#matrices.get(id) ?? []), { codes, scales, from, rows, at }]);
      }
    const rows = weights.reduce((sum, weight) => sum + weight.rows, 0);
    const biases = ops.map(biasOf);
    const bias = biases.some((b) => b !== null) ? keep(`bias of ${names}`, rows * 4) : null;
    let at = 0;
    ops.forEach((_, i) => {
      const vector = biases[i];
      if (vector && bias)
        this.#vectors.set(vector.id, [...(this.#vectors.get(vector.id) ?? []), { buffer: bias, at }]);
      at += weights[i].rows;
    });
    const { type, cols } = weights[0];
    this.#blocks.set(key, { form: weightForm(type), cols, rows, parts, bias });
  }
}

function weightOf(op: MatrixOp): Weight {
  return op.op === "embed" ? op.table : op.weight;
}

function biasOf(op: MatrixOp): Weight | null {
  return op.op === "embed" ? null : op.bias;
}

/** Operations of one weight share a block unless their biases differ. */
function keyOf(ops: readonly MatrixOp[]): string {
  return ops.map((op) => `${weightOf(op).id}+${biasOf(op)?.id}`).join(" ");
}
