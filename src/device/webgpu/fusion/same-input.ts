/** Which products of one input may be stored as one matrix: the condition that matrices and experts share. */
import type { OpOf } from "../stages.ts";
import { weightForm } from "../weights.ts";
import type { Flow } from "./flow.ts";

type Product = OpOf<"matmul"> | OpOf<"expertMatmul">;

/**
 * `op` and the free products of the same input for which `alike` holds, in their order; none if `op` has to stay alone.
 */
export function productsOfSameInput<P extends Product>(
  flow: Flow,
  op: P,
  alike: (other: P) => boolean = () => true,
): readonly P[] {
  if (!canShare(flow, op)) return [];
  return flow
    .readersOf(op.x)
    .filter(
      (other): other is P =>
        other.op === op.op &&
        flow.isFree(other) &&
        canShare(flow, other as P) &&
        weightForm((other as P).weight.type) === weightForm(op.weight.type) &&
        alike(other as P),
    );
}

function canShare(flow: Flow, { weight, out }: Product): boolean {
  return flow.isUsedOnce(weight) && !flow.isKept(out);
}
