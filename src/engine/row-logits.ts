/** Reads the logits of the last step's output rows from a device. */
import type { Allocation, Graph } from "../device/contract.ts";

/** The logits of one output row, read as far as needed. */
export interface RowLogits {
  all(): Promise<Float32Array>;
  /** The `count` largest logits [vocab], -Infinity for the others; null: only `all` has them. */
  largest(count: number): Promise<Float32Array | null>;
  /** The output matrix's input: the labelled value of this name. */
  labelled?(name: string): Promise<Float32Array>;
}

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
