/** Writes the control block and the runs of a step by the names of abi.js. */
import { CONTROL, RUN_FIELDS } from "./abi.js";

/** Sets some of the control block's words. at: its address. */
export function setControl(
  memory: WebAssembly.Memory,
  at: number,
  values: Partial<Record<keyof typeof CONTROL, number>>,
): void {
  const words = new Uint32Array(memory.buffer, at);
  for (const [name, value] of Object.entries(values))
    words[CONTROL[name as keyof typeof CONTROL] / 4] = value;
}

/** A run's words. */
export function runWords(run: Readonly<Record<keyof typeof RUN_FIELDS, number>>): number[] {
  return Object.keys(RUN_FIELDS).map((name) => run[name as keyof typeof RUN_FIELDS]);
}
