/**
 * What is known of each operation independent of devices: which values it reads, which of them it may overwrite, and
 * which resources on the device it needs. One row for each operation; a new operation without a row does not compile.
 */
import type { Cache, Graph, Op, State, Value, Weight } from "./contract.ts";

type OpOf<Name extends Op["op"]> = Extract<Op, { op: Name }>;

interface Facts<O extends Op> {
  reads(op: O): readonly Value[];
  /**
   * Inputs of the output's shape that are read element by element before the same element is written: the output may take
   * the place of one that dies here.
   */
  overwrites?(op: O): readonly Value[];
  /** Weights, of which some may be none, the cache and the state that it reads or writes. */
  needs?(op: O): { weights?: readonly (Weight | null)[]; cache?: Cache; state?: State };
}

const FACTS: { readonly [Name in Op["op"]]: Facts<OpOf<Name>> } = {
  embed: { reads: () => [], needs: ({ table }) => ({ weights: [table] }) },
  lookUp: { reads: () => [], needs: ({ table }) => ({ weights: [table] }) },
  rmsNorm: {
    reads: ({ x }) => [x],
    overwrites: ({ x }) => [x],
    needs: ({ weight }) => ({ weights: [weight] }),
  },
  matmul: { reads: ({ x }) => [x], needs: ({ weight, bias }) => ({ weights: [weight, bias] }) },
  rope: { reads: ({ x }) => [x], overwrites: ({ x }) => [x] },
  takeTurned: { reads: ({ x }) => [x], needs: ({ weight }) => ({ weights: [weight] }) },
  appendKv: { reads: ({ keys, values }) => [keys, values], needs: ({ cache }) => ({ cache }) },
  attend: { reads: ({ queries }) => [queries], needs: ({ cache, sinks }) => ({ cache, weights: [sinks] }) },
  gate: {
    reads: ({ gate, up }) => [gate, up],
    overwrites: ({ gate, up }) => (gate.cols === up.cols ? [gate, up] : [up]),
  },
  add: { reads: ({ a, b }) => [a, b], overwrites: ({ a, b }) => [a, b] },
  scale: { reads: ({ x }) => [x], overwrites: ({ x }) => [x] },
  slice: { reads: ({ x }) => [x] },
  route: { reads: ({ logits }) => [logits], needs: ({ weights }) => ({ weights: [weights] }) },
  expertMatmul: {
    reads: ({ x, picks }) => [x, picks],
    needs: ({ weight, bias }) => ({ weights: [weight, bias] }),
  },
  combine: { reads: ({ x, picks }) => [x, picks] },
  conv: { reads: ({ x }) => [x], needs: ({ weight, state }) => ({ state, weights: [weight] }) },
  gatedDelta: {
    reads: ({ x, a, b }) => [x, a, b],
    needs: ({ rates, bias, state }) => ({ state, weights: [rates, bias] }),
  },
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

/** What an operation needs that stays on the device. */
export function neededBy(op: Op): { weights: Weight[]; cache: Cache | null; state: State | null } {
  const { weights = [], cache = null, state = null } = factsOf(op).needs?.(op) ?? {};
  return { weights: weights.filter((weight) => weight !== null), cache, state };
}

/** By a graph's operations: each step asks. */
const TABLES = new WeakMap<readonly Op[], readonly Weight[]>();

/** Weights of which the host reads a step's rows. */
export function tablesOf({ ops }: Pick<Graph, "ops">): readonly Weight[] {
  let tables = TABLES.get(ops);
  if (!tables) {
    tables = [...new Set(ops.flatMap((op) => (op.op === "lookUp" ? [op.table] : [])))];
    TABLES.set(ops, tables);
  }
  return tables;
}

/** The value an operation writes; appendKv writes a cache instead. */
export function outputOf(op: Op): Value | null {
  return op.op === "appendKv" ? null : op.out;
}
