/**
 * Joins appendKv with the norm and RoPE of its keys, with those of the queries of the attention after it, and with a
 * norm of its values.
 */
import type { Op, Rope, Value, Weight } from "../../contract.ts";
import type { HeadChain, OpOf, StageOf } from "../stages.ts";
import type { Flow, Rule } from "./flow.ts";

export const appendKv: Rule = {
  name: "appendKv",
  apply(flow) {
    const { ops } = flow.graph;
    for (const op of flow.free("appendKv")) {
      const attend = ops[ops.indexOf(op) + 1];
      // Keys that are also the values must stay as they are.
      const { headDim } = op.cache;
      const keys = op.keys === op.values ? none(op.keys) : chainTo(flow, op.keys, op, headDim, null);
      const keyNorm = keys.chain.norm?.weight ?? null;
      const normed = flow.madeFor(op.values, "rmsNorm", op);
      // The kernel has no binding for a weight of this norm.
      const valueNorm = normed && isOfHeads(normed, headDim) && !normed.weight ? normed : null;
      let queries: (Chain & { attend: OpOf<"attend"> }) | null = null;
      if (attend?.op === "attend" && attend.cache === op.cache) {
        const chain = chainTo(flow, attend.queries, attend, headDim, keyNorm);
        // One dispatch has one table of angles. A cache with turned dims needs queries from takeTurned.
        const { rope, takes } = chain.chain;
        const isWhole = takes || op.cache.turned === 0;
        if (rope && rope === keys.chain.rope && isWhole) queries = { ...chain, attend };
      }
      const stage: StageOf<"append"> = {
        kind: "append",
        op,
        keys: keys.chain,
        values: valueNorm ? { x: valueNorm.x, epsilon: valueNorm.epsilon } : { x: op.values, epsilon: null },
        queries: queries && { ...queries.chain, attend: queries.attend },
      };
      const all = [...keys.ops, ...(valueNorm ? [valueNorm] : []), ...(queries?.ops ?? [])];
      if (all.length > 0) flow.join(op, [op, ...all], stage);
    }
  },
};

interface Chain {
  readonly chain: HeadChain;
  readonly ops: readonly Op[];
}

const none = (x: Value): Chain => ({ chain: { x, norm: null, rope: null, takes: false }, ops: [] });

/** The operations that compute `value` for `reader` alone. taken: the weight with which takeTurned can be joined. */
function chainTo(flow: Flow, value: Value, reader: Op, headDim: number, taken: Weight | null): Chain {
  const ops: Op[] = [];
  let x = value;
  let rope: Rope | null = null;
  let norm: OpOf<"rmsNorm"> | null = null;
  const taking = flow.madeFor(x, "takeTurned", reader);
  if (taking) {
    // takeTurned can be joined only together with the RoPE before it.
    const isKnown = taking.weight === taken && flow.madeFor(taking.x, "rope", taking);
    if (!isKnown) return none(value);
    x = taking.x;
    ops.push(taking);
  }
  const rotation = flow.madeFor(x, "rope", taking ?? reader);
  if (rotation) {
    rope = rotation.rope;
    x = rotation.x;
    ops.push(rotation);
  }
  const normed = flow.madeFor(x, "rmsNorm", rotation ?? taking ?? reader);
  if (normed && isOfHeads(normed, headDim)) {
    norm = normed;
    x = normed.x;
    ops.push(normed);
  }
  return { chain: { x, norm, rope, takes: taking !== undefined }, ops };
}

function isOfHeads({ x, groups }: OpOf<"rmsNorm">, headDim: number): boolean {
  return x.cols === groups * headDim;
}
