/** Matrices with the same input stored as one: q, k and v; gate and up. */

import type { Rule } from "./flow.ts";
import { productsOfSameInput } from "./same-input.ts";

export const matmuls: Rule = {
  name: "matmuls",
  apply(flow) {
    for (const op of flow.free("matmul")) {
      const ops = productsOfSameInput(flow, op);
      if (ops.length > 1) flow.join(op, ops, { kind: "matmul", ops });
    }
  },
};
