/** The logits of an output row of the last step, read as far as needed. */
import type { Allocation, Graph } from "../device/contract.ts";
import type { RowLogits } from "./tokens.ts";

export interface LogitsSource {
  readonly graph: Pick<Graph, "logits" | "labels">;
  readonly allocation: Pick<Allocation, "read" | "candidates">;
  readonly vocab: number;
}

export function rowLogits({ graph, allocation, vocab }: LogitsSource, row: number): RowLogits {
  return {
    all: () => allocation.read(graph.logits, row, 1),
    labelled: (name) => allocation.read(graph.labels.get(name)!, row, 1),
    async largest(count) {
      const candidates = await allocation.candidates?.(row, count);
      if (!candidates) return null;
      const logits = new Float32Array(vocab).fill(Number.NEGATIVE_INFINITY);
      candidates.ids.forEach((id, i) => {
        logits[id] = candidates.logits[i];
      });
      return logits;
    },
  };
}
