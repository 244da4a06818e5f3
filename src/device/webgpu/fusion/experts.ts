/** Experts' matrices with the same input and picks stored as one, expert by expert: gate and up. */

import type { Rule } from "./flow.ts";
import { productsOfSameInput } from "./same-input.ts";

export const experts: Rule = {
  name: "experts",
  apply(flow) {
    for (const op of flow.free("expertMatmul")) {
      // With one input, some may read all columns, and some a pick's own.
      const ops = productsOfSameInput(
        flow,
        op,
        ({ picks, experts, weight }) =>
          picks === op.picks && experts === op.experts && weight.cols === op.weight.cols,
      );
      if (ops.length > 1) flow.join(op, ops, { kind: "experts", ops });
    }
  },
};
