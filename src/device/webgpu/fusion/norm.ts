/**
 * Joins an addition with the operation that makes one of its operands only for it: a norm (Gemma's post-norms), the sum
 * of a mixture's experts, or a norm of that sum; and with the norm of its result, or of that times a factor.
 */
import type { Value } from "../../contract.ts";
import type { OpOf } from "../stages.ts";
import type { Flow, Rule } from "./flow.ts";

export const addNorm: Rule = {
  name: "addNorm",
  apply(flow) {
    for (const add of flow.free("add")) {
      // Gemma 4's layers end with a factor.
      const [reader] = flow.readersOf(add.out);
      const scale =
        reader?.op === "scale" && flow.isFree(reader) && flow.isOnlyFor(add.out, reader) ? reader : null;
      const sum = scale ? scale.out : add.out;
      const norm = flow
        .readersOf(sum)
        .find((op): op is OpOf<"rmsNorm"> => op.op === "rmsNorm" && op.groups === 1 && flow.isFree(op));
      const { x, added, combine, addedNorm } = operands(flow, add);
      // The kernel of norms takes four columns at a time.
      if (!norm && (!(combine || addedNorm) || sum.cols % 4 !== 0)) continue;
      const more = [norm ?? null, combine, addedNorm, scale];
      const ops = [add, ...more.filter((op) => op !== null)];
      const factor = scale ? scale.factor : 1;
      flow.join(add, ops, { kind: "norm", x, added, combine, addedNorm, factor, sum, norm: norm ?? null });
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
