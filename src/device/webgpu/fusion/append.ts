/** Norm and RoPE of keys, and of the queries of the attention behind it, on their way into the cache. */
import type { Op, Rope, Value } from "../../contract.ts";
import type { HeadChain, OpOf, StageOf } from "../stages.ts";
import type { Flow, Rule } from "./flow.ts";

export const appendKv: Rule = {
  name: "appendKv",
  apply(flow) {
    const { ops } = flow.graph;
    for (const op of flow.free("appendKv")) {
      const attend = ops[ops.indexOf(op) + 1];
      // Keys that are the values too must stay as they are.
      const keys = op.keys === op.values ? none(op.keys) : chainTo(flow, op.keys, op);
      let queries: (Chain & { attend: OpOf<"attend"> }) | null = null;
      if (attend?.op === "attend" && attend.cache === op.cache) {
        const chain = chainTo(flow, attend.queries, attend);
        // One dispatch has one table of turns.
        if (chain.chain.rope && chain.chain.rope === keys.chain.rope) queries = { ...chain, attend };
      }
      const stage: StageOf<"append"> = {
        kind: "append",
        op,
        keys: keys.chain,
        queries: queries && { ...queries.chain, attend: queries.attend },
      };
      const all = [...keys.ops, ...(queries?.ops ?? [])];
      if (all.length > 0) flow.join(op, [op, ...all], stage);
    }
  },
};

interface Chain {
  readonly chain: HeadChain;
  readonly ops: readonly Op[];
}

const none = (x: Value): Chain => ({ chain: { x, norm: null, rope: null }, ops: [] });

/** The operations that end in `value` and are for `reader` alone. */
function chainTo(flow: Flow, value: Value, reader: Op): Chain {
  const ops: Op[] = [];
  let x = value;
  let rope: Rope | null = null;
  let norm: OpOf<"rmsNorm"> | null = null;
  const turn = flow.madeFor(x, "rope", reader);
  if (turn) {
    rope = turn.rope;
    x = turn.x;
    ops.push(turn);
  }
  const normed = flow.madeFor(x, "rmsNorm", turn ?? reader);
  if (normed && normed.groups > 1) {
    norm = normed;
    x = normed.x;
    ops.push(normed);
  }
  return { chain: { x, norm, rope }, ops };
}
