/** Experts' matrices of one input and the same picks as one block, expert by expert: gate and up. */
import type { OpOf } from "../stages.ts";
import { weightForm } from "../weights.ts";
import type { Flow, Rule } from "./flow.ts";

export const experts: Rule = {
  name: "experts",
  apply(flow) {
    for (const op of flow.free("expertMatmul")) {
      if (!canShare(flow, op)) continue;
      const group = flow
        .readersOf(op.x)
        .filter(
          (other): other is OpOf<"expertMatmul"> =>
            other.op === "expertMatmul" &&
            other.picks === op.picks &&
            other.experts === op.experts &&
            other.weight.cols === op.weight.cols &&
            flow.isFree(other) &&
            canShare(flow, other) &&
            weightForm(other.weight.type) === weightForm(op.weight.type),
        );
      if (group.length > 1) flow.join(op, group, { kind: "experts", ops: group });
    }
  },
};

function canShare(flow: Flow, { weight, out }: OpOf<"expertMatmul">): boolean {
  return flow.isUsedOnce(weight) && !flow.isKept(out);
}
