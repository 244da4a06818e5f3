/**
 * Keeps values readable after a step, for studies. A graph normally lets values overlap in memory; here the chosen ones
 * get memory of their own after all others, so they are still there at the end of a step, on any device.
 */
import type { Graph, Value } from "./contract.ts";

const ALIGNMENT = 256;

/** The graph with these values readable after a step under the given names. They take maxTokens rows of memory each. */
export function readable(graph: Graph, values: ReadonlyMap<string, Value>): Graph {
  const offsets = [...graph.offsets];
  let { arenaBytes } = graph;
  for (const { id, cols } of new Set(values.values())) {
    offsets[id] = arenaBytes;
    arenaBytes += Math.ceil((graph.maxTokens * cols * 4) / ALIGNMENT) * ALIGNMENT;
  }
  return { ...graph, offsets, labels: new Map([...graph.labels, ...values]), arenaBytes };
}
