/**
 * The vocabulary of a GPU program before any GPU exists: planned buffers with their bytes, and dispatches that name
 * them. Planning is pure, so that memory is known before it is allocated.
 */
import type { KernelSpec } from "./wgsl.ts";

/** A buffer that the allocation will make. */
export interface Buffer {
  readonly id: number;
  readonly label: string;
  readonly bytes: number;
}

/**
 * Which dispatches run a step, by its rows: one; few; several, to which weights stream through matrices where a device has
 * them (none elsewhere); a batch, for which weights are expanded in tiles; many. In all but the last attention goes in spans,
 * by rows alone or by tiles of a run's; of many rows, runs of several attend in tiles that see all.
 */
export type Mode = "decode" | "few" | "several" | "batch" | "prompt";

export const MODES: readonly Mode[] = ["decode", "few", "several", "batch", "prompt"];

/** Most rows of a step in a mode. */
export interface ModeRows {
  readonly few: number;
  readonly several: number;
  readonly batch: number;
}

export function modeOf({ tokens, outputs }: { tokens: number; outputs: number }, rows: ModeRows): Mode {
  if (tokens === 1 && outputs <= 1) return "decode";
  if (tokens <= rows.few) return "few";
  if (tokens <= rows.several) return "several";
  return tokens <= rows.batch ? "batch" : "prompt";
}

/** What of a step decides the numbers of workgroups. */
export interface StepShape {
  readonly tokens: number;
  readonly outputs: number;
  /** The rows that attend alone, in spans; packed: positions of their text in packed pages. */
  readonly singles: readonly { readonly position: number; readonly packed: number }[];
  /** Rows that attend in spans: those, and in all modes but `prompt` those of `longs`. */
  readonly spanned: number;
  /** Runs that attend in tiles. */
  readonly longs: readonly { readonly position: number; readonly tokens: number; readonly packed: number }[];
  /** Pages that runs write to. */
  readonly pieces: number;
  /** Rows that an id is chosen for. */
  readonly sampled: number;
  /** Texts that have rows. */
  readonly runs: number;
  /** Blocks that are packed. */
  readonly packs: number;
}

/** Rows of a step, of a value that has one for each token or for each output. */
export function rowCount(rows: "tokens" | "outputs", { tokens, outputs }: StepShape): number {
  return rows === "tokens" ? tokens : outputs;
}

export type Workgroups = readonly [x: number, y: number, z: number];

export interface Dispatch {
  /** The operation's name, as profiles and errors show it. */
  readonly label: string;
  readonly kernel: KernelSpec;
  readonly params: Uint32Array<ArrayBuffer>;
  /** By the variable's name in the WGSL. `params` and `step` are bound by the program. */
  readonly buffers: Readonly<Record<string, Buffer>>;
  /** null: this step does not need the dispatch. */
  workgroups(step: StepShape): Workgroups | null;
  /** Bytes that the step must read or write in weights or cache, for the share of bandwidth in profiles. */
  readonly bytes?: (step: StepShape) => number;
}

/** WebGPU's limit for each dimension of a dispatch, in every implementation. */
const MOST_WORKGROUPS = 65_535;

/** `count` workgroups in two dimensions; kernels take the index from x + y * 65535 and ignore what is past the end. */
export function spread(count: number): Workgroups {
  return [Math.min(count, MOST_WORKGROUPS), Math.ceil(count / MOST_WORKGROUPS), 1];
}
