/**
 * Which weights are stored together: matrices with the same input as one matrix, with their biases in one vector; and the
 * places of a weight's rows in the buffers of these matrices. Pure.
 */
import type { Graph, Weight } from "../contract.ts";
import { tablesOf } from "../facts.ts";
import type { PlannedBuffer } from "./dispatch.ts";
import type { GpuMatrix } from "./matmul-options.ts";
import { type MatrixOp, type Stage, weightOf } from "./stages.ts";
import { codesRowBytes, partsOf, runsOf, scalesRowBytes, weightForm } from "./weights.ts";

/** Rows [from, from + rows) of a matrix go to row `at` of these buffers. */
export interface MatrixPlace {
  readonly codes: PlannedBuffer;
  readonly scales: PlannedBuffer | null;
  readonly from: number;
  readonly rows: number;
  readonly at: number;
}

/** Values [from, from + count) of a vector go to float `at` of a buffer. */
export interface VectorPlace {
  readonly buffer: PlannedBuffer;
  readonly from: number;
  readonly count: number;
  readonly at: number;
}

/** The places of a weight's file rows. A bias may be in several matrices' vectors. */
export type Placement =
  | { readonly kind: "matrix"; readonly places: readonly MatrixPlace[] }
  | { readonly kind: "vector"; readonly places: readonly VectorPlace[] };

type Keep = (label: string, bytes: number) => PlannedBuffer;

export class WeightPlan {
  readonly #matrices = new Map<string, GpuMatrix>();
  readonly #places = new Map<number, MatrixPlace[]>();
  readonly #vectors = new Map<number, VectorPlace[]>();
  readonly #tables = new Map<number, PlannedBuffer>();

  /** mostBytes: limit for one buffer and one binding. */
  constructor(graph: Graph, stages: readonly Stage[], mostBytes: number, keep: Keep) {
    for (const stage of stages) {
      if (stage.kind === "matmul" || stage.kind === "experts") this.#add(stage.ops, mostBytes, keep);
      else if (stage.kind === "single" && stage.op.op === "embed") this.#add([stage.op], mostBytes, keep);
    }
    for (const { id, name, cols } of tablesOf(graph))
      this.#tables.set(id, keep(`rows of ${name}`, graph.maxTokens * cols * 4));
    for (const weight of graph.weights) {
      if (weight.role !== "vector" || this.#vectors.has(weight.id)) continue;
      const count = weight.rows * weight.cols;
      this.#vectors.set(weight.id, [{ buffer: keep(weight.name, count * 4), from: 0, count, at: 0 }]);
    }
  }

  /** The matrix of a stage's products, or of an embedding. */
  of(ops: readonly MatrixOp[]): GpuMatrix {
    return this.#matrices.get(keyOf(ops))!;
  }

  /** The buffer for a step's rows of a table. */
  table(weight: Weight): PlannedBuffer {
    return this.#tables.get(weight.id)!;
  }

  /** A vector that is read alone, such as a norm's weight. */
  vector(weight: Weight): PlannedBuffer {
    return this.#vectors.get(weight.id)![0].buffer;
  }

  placement(weight: Weight): Placement {
    return weight.role === "vector"
      ? { kind: "vector", places: this.#vectors.get(weight.id)! }
      : { kind: "matrix", places: this.#places.get(weight.id)! };
  }

  /** Bytes of a weight on the GPU. */
  bytesOf(weight: Weight): number {
    const { type, rows, cols, role } = weight;
    if (role === "table") return this.table(weight).bytes;
    if (role === "vector")
      return this.#vectors.get(weight.id)!.reduce((sum, { count }) => sum + count * 4, 0);
    const form = weightForm(type);
    return rows * (codesRowBytes(form, cols) + scalesRowBytes(form, cols));
  }

  #add(ops: readonly MatrixOp[], mostBytes: number, keep: Keep): void {
    const key = keyOf(ops);
    if (this.#matrices.has(key)) return;
    const weights = ops.map(weightOf);
    // A matrix that several operations read is stored by itself, and loaded once.
    const names = weights.map(({ name }) => name).join(", ");
    const [first] = ops;
    const experts = first.op === "expertMatmul" ? first.experts : null;
    const parts = partsOf(weights, mostBytes, experts).map((part) => ({
      ...part,
      codes: keep(names, part.codesBytes),
      scales: part.scalesBytes > 0 ? keep(`scales of ${names}`, part.scalesBytes) : null,
    }));
    for (const { codes, scales, sources } of parts)
      for (const { weight, from, rows, at } of sources) {
        const { id } = weights[weight];
        this.#places.set(id, [...(this.#places.get(id) ?? []), { codes, scales, from, rows, at }]);
      }
    const rows = weights.reduce((sum, weight) => sum + weight.rows, 0);
    const biases = ops.map(biasOf);
    // Rows of weights without a bias are never written: WebGPU initializes buffers with zeros.
    const bias = biases.some((b) => b !== null) ? keep(`bias of ${names}`, rows * 4) : null;
    let at = 0;
    for (const { weight, from, rows: count } of runsOf(weights, experts ?? 1)) {
      const vector = biases[weight];
      if (vector && bias)
        this.#vectors.set(vector.id, [
          ...(this.#vectors.get(vector.id) ?? []),
          { buffer: bias, from, count, at },
        ]);
      at += count;
    }
    const { type, cols } = weights[0];
    this.#matrices.set(key, { form: weightForm(type), cols, rows, parts, bias });
  }
}

function biasOf(op: MatrixOp): Weight | null {
  return op.op === "embed" ? null : op.bias;
}

/** Operations that share a weight share a matrix unless their biases differ. */
function keyOf(ops: readonly MatrixOp[]): string {
  return ops.map((op) => `${weightOf(op).id}+${biasOf(op)?.id}`).join(" ");
}
