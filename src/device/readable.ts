/**
 * Values that stay readable after a step, for studies. One idea: a graph lays values over one another; with places of their
 * own, after all others, some of them are still there at the end, on any device.
 */
import type { Graph, Value } from "./contract.ts";

const ALIGNMENT = 256;

/** The graph with these values, by names of their own, readable after a step. They take maxTokens rows of memory each. */
export function readable(graph: Graph, values: ReadonlyMap<string, Value>): Graph {
  const offsets = [...graph.offsets];
  let { arenaBytes } = graph;
  for (const { id, cols } of new Set(values.values())) {
    offsets[id] = arenaBytes;
    arenaBytes += Math.ceil((graph.maxTokens * cols * 4) / ALIGNMENT) * ALIGNMENT;
  }
  return { ...graph, offsets, labels: new Map([...graph.labels, ...values]), arenaBytes };
}
