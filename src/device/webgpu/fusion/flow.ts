/**
 * The producer and the readers of each value of a graph, and what the rules of fusion have joined so far. A rule looks
 * for producers and readers, not for neighbours in the list.
 */
import type { Graph, Op, Value, Weight } from "../../contract.ts";
import { inputsOf, outputOf } from "../../facts.ts";
import { type Stage, weightOf } from "../stages.ts";

/** Joins operations that one stage can compute. Operations that another rule has joined are not free. */
export interface Rule {
  readonly name: string;
  apply(flow: Flow): void;
}

export class Flow {
  readonly #readers = new Map<number, Op[]>();
  readonly #producers = new Map<number, Op>();
  readonly #kept: ReadonlySet<number>;
  readonly #uses = new Map<Weight, number>();
  readonly #joined = new Map<Op, { readonly at: Op; readonly stage: Stage }>();

  constructor(readonly graph: Graph) {
    this.#kept = new Set([graph.logits.id, ...[...graph.labels.values()].map(({ id }) => id)]);
    for (const op of graph.ops) {
      for (const { id } of new Set(inputsOf(op)))
        this.#readers.set(id, [...(this.#readers.get(id) ?? []), op]);
      const out = outputOf(op);
      if (out) this.#producers.set(out.id, op);
      if (op.op === "matmul" || op.op === "expertMatmul" || op.op === "embed") {
        const weight = weightOf(op);
        this.#uses.set(weight, (this.#uses.get(weight) ?? 0) + 1);
      }
    }
  }

  /** Operations that no rule has joined yet, in their order. */
  *free<Name extends Op["op"]>(name: Name): Generator<Extract<Op, { op: Name }>> {
    for (const op of this.graph.ops)
      if (op.op === name && this.isFree(op)) yield op as Extract<Op, { op: Name }>;
  }

  isFree(op: Op): boolean {
    return !this.#joined.has(op);
  }

  /** Whether the value is read from outside after a step. */
  isKept(value: Value): boolean {
    return this.#kept.has(value.id);
  }

  readersOf(value: Value): readonly Op[] {
    return this.#readers.get(value.id) ?? [];
  }

  producerOf(value: Value): Op | undefined {
    return this.#producers.get(value.id);
  }

  /** Whether only `reader` reads the value, so that it need not exist for others. */
  isOnlyFor(value: Value, reader: Op): boolean {
    const readers = this.readersOf(value);
    return readers.length === 1 && readers[0] === reader && !this.isKept(value);
  }

  /** The free operation of this name whose result only `reader` reads. */
  madeFor<Name extends Op["op"]>(
    value: Value,
    name: Name,
    reader: Op,
  ): Extract<Op, { op: Name }> | undefined {
    const op = this.producerOf(value);
    const fits = op?.op === name && this.isFree(op) && this.isOnlyFor(value, reader);
    return fits ? (op as Extract<Op, { op: Name }>) : undefined;
  }

  /**
   * Whether no other operation reads the weight, so that it may be stored with others as one matrix. An embedding's weight
   * is read by row.
   */
  isUsedOnce(weight: Weight): boolean {
    return this.#uses.get(weight) === 1;
  }

  /**
   * Makes `ops` one stage in the place of `at`. There, all inputs of the stage must be computed, and none of its
   * results may be needed earlier.
   */
  join(at: Op, ops: readonly Op[], stage: Stage): void {
    for (const op of ops) this.#joined.set(op, { at, stage });
  }

  /** All stages, in an order in which each value is computed before it is read. */
  stages(): Stage[] {
    return this.graph.ops.flatMap((op): Stage[] => {
      const joined = this.#joined.get(op);
      if (!joined) return [alone(op)];
      return joined.at === op ? [joined.stage] : [];
    });
  }
}

function alone(op: Op): Stage {
  switch (op.op) {
    case "matmul":
      return { kind: "matmul", ops: [op] };
    case "expertMatmul":
      return { kind: "experts", ops: [op] };
    case "appendKv":
      return {
        kind: "append",
        op,
        keys: { x: op.keys, norm: null, rope: null, takes: false },
        values: { x: op.values, epsilon: null },
        queries: null,
      };
    default:
      return { kind: "single", op };
  }
}
