/**
 * An addition and the norm of its sum, with what makes one of its operands for it alone: a norm (Gemma's post-norms), the sum of
 * a mixture's experts, or a norm of that sum.
 */
import type { Value } from "../../contract.ts";
import type { OpOf } from "../stages.ts";
import type { Flow, Rule } from "./flow.ts";

export const addNorm: Rule = {
  name: "addNorm",
  apply(flow) {
    for (const add of flow.free("add")) {
      const norm = flow
        .readersOf(add.out)
        .find((op): op is OpOf<"rmsNorm"> => op.op === "rmsNorm" && op.groups === 1 && flow.isFree(op));
      if (!norm) continue;
      const { x, added, combine, addedNorm } = operands(flow, add);
      const ops = [add, norm, ...[combine, addedNorm].filter((op) => op !== null)];
      flow.join(add, ops, { kind: "norm", x, added, combine, addedNorm, sum: add.out, norm });
    }
  },
};

function operands(flow: Flow, add: OpOf<"add">) {
  const pairs = [
    [add.a, add.b],
    [add.b, add.a],
  ];
  for (const [x, value] of add.a === add.b ? [] : pairs) {
    const found = flow.madeFor(value, "rmsNorm", add);
    const addedNorm = found && found.groups === 1 ? found : null;
    const added: Value = addedNorm ? addedNorm.x : value;
    const combine = flow.madeFor(added, "combine", addedNorm ?? add) ?? null;
    if (addedNorm || combine) return { x, added, combine, addedNorm };
  }
  return { x: add.a, added: add.b, combine: null, addedNorm: null };
}
