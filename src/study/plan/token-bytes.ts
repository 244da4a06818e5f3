/**
 * Bytes of a model's weights that a generated token reads: all matrices once, but only the chosen experts of a mixture.
 */
import type { Graph } from "../../device/contract.ts";
import type { Plan } from "../../engine/plan.ts";

/** Bytes on the device. Of an embedding that is not also the output matrix one row is read, which does not count. */
export function weightBytesOfToken({ graph, footprint }: Pick<Plan, "graph" | "footprint">): number {
  const shares = sharesOf(graph);
  return graph.weights.reduce(
    (sum, { id, role }) => sum + footprint.weights[id] * (role === "vector" ? 1 : (shares.get(id) ?? 0)),
    0,
  );
}

/** By the id of a weight, the share of it that a token reads. */
function sharesOf({ ops }: Graph): Map<number, number> {
  const shares = new Map<number, number>();
  const k = new Map(ops.flatMap((op) => (op.op === "route" ? [[op.out, op.k] as const] : [])));
  for (const op of ops) {
    if (op.op === "matmul") shares.set(op.weight.id, 1);
    if (op.op === "expertMatmul") shares.set(op.weight.id, (k.get(op.picks) ?? op.experts) / op.experts);
  }
  return shares;
}
