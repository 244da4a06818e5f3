/** Matrices with the same input as one block of rows: q, k and v; gate and up. */
import { productsBeside } from "./beside.ts";
import type { Rule } from "./flow.ts";

export const matmuls: Rule = {
  name: "matmuls",
  apply(flow) {
    for (const op of flow.free("matmul")) {
      const ops = productsBeside(flow, op);
      if (ops.length > 1) flow.join(op, ops, { kind: "matmul", ops });
    }
  },
};
