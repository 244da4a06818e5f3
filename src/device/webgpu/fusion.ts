/**
 * A recorded graph -> stages: the same operations, with those that one dispatch can do together joined. Add and the norms
 * around it; matrices that share their input; norms, RoPE and quantization of what is appended to the cache. Pure: what is
 * joined here is checked against the unfused reference. Refuses to know kernels and buffers.
 */
import type { Graph, Op, Rope, Value, Weight } from "../contract.ts";
import { inputsOf } from "../facts.ts";
import { weightForm } from "./weights.ts";

export type OpOf<Name extends Op["op"]> = Extract<Op, { op: Name }>;

/** Keys or queries on their way from a projection: norm of each head, then RoPE, each optional. */
export interface HeadChain {
  readonly x: Value;
  readonly norm: OpOf<"rmsNorm"> | null;
  readonly rope: Rope | null;
}

export type Stage =
  /** out = norm(x + added) or norm(x + norm(added)); sum: the value of the addition. */
  | {
      readonly kind: "norm";
      readonly x: Value;
      readonly added: Value | null;
      readonly addedNorm: OpOf<"rmsNorm"> | null;
      readonly sum: Value | null;
      readonly norm: OpOf<"rmsNorm">;
    }
  /** Matrices of one input, stored as one block of rows. */
  | { readonly kind: "matmul"; readonly ops: readonly OpOf<"matmul">[] }
  | {
      readonly kind: "append";
      readonly op: OpOf<"appendKv">;
      readonly keys: HeadChain;
      /** The queries of the attend that follows, turned in the same dispatch; null: they are ready. */
      readonly queries: (HeadChain & { readonly attend: OpOf<"attend"> }) | null;
    }
  | { readonly kind: "single"; readonly op: Exclude<Op, OpOf<"matmul"> | OpOf<"appendKv">> };

/** Joins what can be joined, in an order in which everything is computed before it is read. */
export function stagesOf(graph: Graph): Stage[] {
  const { ops } = graph;
  const kept = new Set([graph.logits.id, ...[...graph.labels.values()].map((v) => v.id)]);
  const readers = new Map<number, Op[]>();
  for (const op of ops)
    for (const { id } of new Set(inputsOf(op))) readers.set(id, [...(readers.get(id) ?? []), op]);
  const producers = new Map<number, Op>();
  for (const op of ops) if ("out" in op) producers.set(op.out.id, op);
  const sole = (value: Value): Op | null => {
    const list = readers.get(value.id) ?? [];
    return list.length === 1 && !kept.has(value.id) ? list[0] : null;
  };

  const done = new Set<Op>();
  /** The chain that ends in `value` and is read by `reader` alone; its operations count as done. */
  const chainTo = (value: Value, reader: Op): HeadChain => {
    let x = value;
    let rope: Rope | null = null;
    let norm: OpOf<"rmsNorm"> | null = null;
    let next: Op = reader;
    const turn = producers.get(x.id);
    if (turn?.op === "rope" && sole(x) === next) {
      rope = turn.rope;
      x = turn.x;
      next = turn;
      done.add(turn);
    }
    const normed = producers.get(x.id);
    if (normed?.op === "rmsNorm" && normed.groups > 1 && sole(x) === next) {
      norm = normed;
      x = normed.x;
      done.add(normed);
    }
    return { x, norm, rope };
  };

  // Chains are found first, so that their operations are skipped when the walk meets them.
  const appends = new Map<Op, Extract<Stage, { kind: "append" }>>();
  ops.forEach((op, i) => {
    if (op.op !== "appendKv") return;
    // Keys that are the values too must stay as they are.
    const keys = op.keys === op.values ? { x: op.keys, norm: null, rope: null } : chainTo(op.keys, op);
    const attend = ops[i + 1];
    let queries: Extract<Stage, { kind: "append" }>["queries"] = null;
    if (attend?.op === "attend" && attend.cache === op.cache) {
      const turn = producers.get(attend.queries.id);
      // One dispatch has one table of turns.
      const joins = turn?.op === "rope" && sole(attend.queries) === attend && turn.rope === keys.rope;
      if (joins) queries = { ...chainTo(attend.queries, attend), attend };
    }
    appends.set(op, { kind: "append", op, keys, queries });
  });

  const groupable = groupableWeights(ops);
  const stages: Stage[] = [];
  ops.forEach((op, i) => {
    if (done.has(op)) return;
    done.add(op);
    if (op.op === "appendKv") stages.push(appends.get(op)!);
    else if (op.op === "matmul") {
      const group = [op];
      if (groupable.has(op.weight) && !kept.has(op.out.id))
        for (const other of (readers.get(op.x.id) ?? []).filter((o) => o.op === "matmul"))
          if (other !== op && !done.has(other) && joins(op.weight, other.weight) && !kept.has(other.out.id))
            group.push(other);
      for (const other of group) done.add(other);
      stages.push({ kind: "matmul", ops: group });
    } else if (op.op === "rmsNorm" && op.groups === 1) {
      const add = ops[i + 1];
      const norm = ops[i + 2];
      // Gemma: x + norm(y), then the next norm.
      const post =
        add?.op === "add" &&
        add.b === op.out &&
        add.a !== op.out &&
        sole(op.out) === add &&
        norm?.op === "rmsNorm" &&
        norm.groups === 1 &&
        norm.x === add.out;
      if (post) {
        done.add(add).add(norm);
        stages.push({ kind: "norm", x: add.a, added: op.x, addedNorm: op, sum: add.out, norm });
      } else stages.push({ kind: "norm", x: op.x, added: null, addedNorm: null, sum: null, norm: op });
    } else if (op.op === "add") {
      const norm = ops[i + 1];
      if (norm?.op === "rmsNorm" && norm.groups === 1 && norm.x === op.out) {
        done.add(norm);
        stages.push({ kind: "norm", x: op.a, added: op.b, addedNorm: null, sum: op.out, norm });
      } else stages.push({ kind: "single", op });
    } else stages.push({ kind: "single", op });
  });
  return stages;

  function joins(a: Weight, b: Weight): boolean {
    return groupable.has(b) && weightForm(a.type) === weightForm(b.type);
  }
}

/** Weights that one matmul alone reads: only those can lie in a block with others. */
function groupableWeights(ops: readonly Op[]): Set<Weight> {
  const uses = new Map<Weight, number>();
  for (const op of ops) {
    if (op.op === "matmul") uses.set(op.weight, (uses.get(op.weight) ?? 0) + 1);
    // An embedding is looked up by row: it stays alone.
    if (op.op === "embed") uses.set(op.table, 2);
  }
  return new Set([...uses].filter(([, count]) => count === 1).map(([weight]) => weight));
}
