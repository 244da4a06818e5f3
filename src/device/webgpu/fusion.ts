/**
 * A recorded graph -> stages: the same operations, with those that one dispatch can do together joined, by rules over who makes
 * and who reads a value, each in a file of its own. Pure: what is joined here is checked against the unfused reference.
 */
import type { Graph } from "../contract.ts";
import { appendKv } from "./fusion/append.ts";
import { experts } from "./fusion/experts.ts";
import { Flow, type Rule } from "./fusion/flow.ts";
import { matmuls } from "./fusion/matmuls.ts";
import { addNorm } from "./fusion/norm.ts";
import type { Stage } from "./stages.ts";

/** In this order: what an earlier rule has joined is not there for a later one. */
export const RULES: readonly Rule[] = [appendKv, matmuls, experts, addNorm];

/** Joins what can be joined, in an order in which everything is computed before it is read. */
export function stagesOf(graph: Graph, rules: readonly Rule[] = RULES): Stage[] {
  const flow = new Flow(graph);
  for (const rule of rules) rule.apply(flow);
  return flow.stages();
}
