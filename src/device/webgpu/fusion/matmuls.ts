/** Matrices of one input as one block of rows: q, k and v; gate and up. */

import type { OpOf } from "../stages.ts";
import { weightForm } from "../weights.ts";
import type { Flow, Rule } from "./flow.ts";

export const matmuls: Rule = {
  name: "matmuls",
  apply(flow) {
    for (const op of flow.free("matmul")) {
      if (!canShare(flow, op)) continue;
      const group = flow
        .readersOf(op.x)
        .filter(
          (other): other is OpOf<"matmul"> =>
            other.op === "matmul" &&
            flow.isFree(other) &&
            canShare(flow, other) &&
            weightForm(other.weight.type) === weightForm(op.weight.type),
        );
      if (group.length > 1) flow.join(op, group, { kind: "matmul", ops: group });
    }
  },
};

function canShare(flow: Flow, { weight, out }: OpOf<"matmul">): boolean {
  return flow.isUsedOnce(weight) && !flow.isKept(out);
}
