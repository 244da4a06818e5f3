/** The rows of a step, counted once for all operations: the text and position of each, and which reach the output. */
import type { RunPacked, RunState, Step } from "./contract.ts";

export interface Rows {
  readonly tokens: number;
  readonly outputs: number;
  /** By row. */
  readonly positions: Uint32Array;
  readonly texts: Uint32Array;
  readonly ids: Uint32Array;
  /** By output: its row. */
  readonly outputRows: Uint32Array;
  readonly runs: readonly RunRows[];
}

/** The rows of a run. */
export interface RunRows {
  readonly text: number;
  readonly position: number;
  /** Its first row. */
  readonly first: number;
  readonly tokens: number;
  /** Its first output, and their number. */
  readonly firstOutput: number;
  readonly outputs: number;
  /** null: the graph has no states. */
  readonly state: RunState | null;
  readonly packed: RunPacked;
}

const NOTHING_PACKED: RunPacked = { blocks: 0, pack: [] };

export function rowsOf({ runs }: Step): Rows {
  const tokens = runs.reduce((sum, run) => sum + run.ids.length, 0);
  const outputs = runs.reduce((sum, run) => sum + run.outputs, 0);
  const positions = new Uint32Array(tokens);
  const texts = new Uint32Array(tokens);
  const ids = new Uint32Array(tokens);
  const outputRows = new Uint32Array(outputs);
  const placed: RunRows[] = [];
  let first = 0;
  let firstOutput = 0;
  for (const run of runs) {
    const { text, position, state = null } = run;
    const packed = run.packed ?? NOTHING_PACKED;
    const count = run.ids.length;
    ids.set(run.ids, first);
    texts.fill(text, first, first + count);
    for (let i = 0; i < count; i++) positions[first + i] = position + i;
    for (let i = 0; i < run.outputs; i++) outputRows[firstOutput + i] = first + count - run.outputs + i;
    placed.push({ text, position, first, tokens: count, firstOutput, outputs: run.outputs, state, packed });
    first += count;
    firstOutput += run.outputs;
  }
  return { tokens, outputs, positions, texts, ids, outputRows, runs: placed };
}
