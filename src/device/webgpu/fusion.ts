/**
 * Turns a recorded graph into stages: the same operations, with those joined that one dispatch can do together. The
 * rules, each in a file of its own, depend on which operations write and read a value. Pure: the result is checked
 * against the unfused reference.
 */
import type { Graph, Op } from "../contract.ts";
import { appendKv } from "./fusion/append.ts";
import { experts } from "./fusion/experts.ts";
import { Flow, type Rule } from "./fusion/flow.ts";
import { matmuls } from "./fusion/matmuls.ts";
import { addNorm } from "./fusion/norm.ts";
import type { Stage } from "./stages.ts";

/** In this order: operations that an earlier rule has joined are not available to a later one. */
export const RULES: readonly Rule[] = [appendKv, matmuls, experts, addNorm];

/** Joins what can be joined, in an order in which everything is computed before it is read. */
export function stagesOf(graph: Graph, rules: readonly Rule[] = RULES): Stage[] {
  const flow = new Flow(graph);
  for (const rule of rules) rule.apply(flow);
  return flow.stages();
}

/**
 * The graph of a step of one row, which reaches the output or needs none: rows of outputs need not be taken, so the
 * operations after takeOutputs read its input directly. Rows that are read from outside are still taken.
 */
export function ofOneRow(graph: Graph): Graph {
  const kept = new Set([graph.logits, ...graph.labels.values()]);
  const taken = graph.ops.filter((op) => op.op === "takeOutputs").filter(({ out }) => !kept.has(out));
  const instead = new Map(taken.map(({ out, x }) => [out, x]));
  const ops = graph.ops
    .filter((op) => !(op.op === "takeOutputs" && instead.has(op.out)))
    .map((op): Op => {
      const fields = Object.entries(op).map(([name, value]) => [name, instead.get(value) ?? value]);
      return Object.fromEntries(fields);
    });
  return { ...graph, ops };
}
