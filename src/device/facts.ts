/**
 * What is known of each operation, whatever computes it: which values it reads, and which of them it may write over. One row
 * an operation; a new one without a row does not compile.
 */
import type { Graph, Op, Value, Weight } from "./contract.ts";

type OpOf<Name extends Op["op"]> = Extract<Op, { op: Name }>;

interface Facts<O extends Op> {
  reads(op: O): readonly Value[];
  /**
   * Inputs of the output's shape that are read element by element before the same element is written: the output may take
   * the place of one that dies here.
   */
  overwrites?(op: O): readonly Value[];
}

const FACTS: { readonly [Name in Op["op"]]: Facts<OpOf<Name>> } = {
  embed: { reads: () => [] },
  lookUp: { reads: () => [] },
  rmsNorm: { reads: ({ x }) => [x], overwrites: ({ x }) => [x] },
  matmul: { reads: ({ x }) => [x] },
  rope: { reads: ({ x }) => [x], overwrites: ({ x }) => [x] },
  appendKv: { reads: ({ keys, values }) => [keys, values] },
  attend: { reads: ({ queries }) => [queries] },
  gate: {
    reads: ({ gate, up }) => [gate, up],
    overwrites: ({ gate, up }) => (gate.cols === up.cols ? [gate, up] : [up]),
  },
  add: { reads: ({ a, b }) => [a, b], overwrites: ({ a, b }) => [a, b] },
  scale: { reads: ({ x }) => [x], overwrites: ({ x }) => [x] },
  slice: { reads: ({ x }) => [x] },
  route: { reads: ({ logits }) => [logits] },
  expertMatmul: { reads: ({ x, picks }) => [x, picks] },
  combine: { reads: ({ x, picks }) => [x, picks] },
  conv: { reads: ({ x }) => [x] },
  gatedDelta: { reads: ({ x, a, b }) => [x, a, b] },
  softcap: { reads: ({ x }) => [x], overwrites: ({ x }) => [x] },
  takeOutputs: { reads: ({ x }) => [x] },
};

// The row of an operation's own name takes that operation; the compiler cannot follow that through the index.
const factsOf = (op: Op) => FACTS[op.op] as Facts<Op>;

/** The values an operation reads. */
export function inputsOf(op: Op): readonly Value[] {
  return factsOf(op).reads(op);
}

/** Inputs whose place the output may take, if they die here. */
export function overwritable(op: Op): readonly Value[] {
  return factsOf(op).overwrites?.(op) ?? [];
}

/** Weights of which the host reads a step's rows. */
export function tablesOf({ ops }: Pick<Graph, "ops">): Weight[] {
  return [...new Set(ops.flatMap((op) => (op.op === "lookUp" ? [op.table] : [])))];
}

/** The value an operation writes; appendKv writes a cache instead. */
export function outputOf(op: Op): Value | null {
  return op.op === "appendKv" ? null : op.out;
}
