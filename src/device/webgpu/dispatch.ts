/**
 * The types of a GPU program before any GPU exists: planned buffers with their bytes, and dispatches that refer to
 * them. Planning is pure, so that memory is known before it is allocated.
 */
import type { Graph } from "../contract.ts";
import type { KernelSpec } from "./wgsl.ts";

/** A buffer that the allocation will make: its own, or as an activation part of another (slots.ts). */
export interface PlannedBuffer {
  readonly id: number;
  readonly label: string;
  readonly bytes: number;
}

/** Bytes of a buffer for a graph that differs from the program's in its pages alone. */
export type BytesFor = (graph: Graph) => number;

/** Makes an activation. bytesFor: if its size depends on pages. */
export type Scratch = (label: string, bytes: number, bytesFor?: BytesFor) => PlannedBuffer;

/**
 * The list of dispatches for a step, by its number of rows: one; few; several, for which weights stream through
 * matrices on devices that have them (unused elsewhere); a batch, for which weights are expanded in tiles; many. In all
 * but the last attention uses spans, for single rows or for tiles of a run's rows; with many rows, runs of several
 * attend in tiles over all positions.
 */
export type Mode = "decode" | "few" | "several" | "batch" | "prompt";

export const MODES: readonly Mode[] = ["decode", "few", "several", "batch", "prompt"];

/** Maximum rows of a step in a mode. */
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

/** The properties of a step that decide the numbers of workgroups. */
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
  /** Rows for which an id is chosen. */
  readonly sampled: number;
  /** Texts that have rows. */
  readonly runs: number;
  /** Blocks that are packed. */
  readonly packs: number;
}

/** Rows of a value in a step, which has one for each token or for each output. */
export function rowCount(rows: "tokens" | "outputs", { tokens, outputs }: StepShape): number {
  return rows === "tokens" ? tokens : outputs;
}

export type Workgroups = readonly [x: number, y: number, z: number];

export interface Dispatch {
  /** The operation's name, as shown in profiles and errors. */
  readonly label: string;
  readonly kernel: KernelSpec;
  readonly params: Uint32Array<ArrayBuffer>;
  /** By the variable's name in the WGSL. `params` and `step` are bound by the program. */
  readonly buffers: Readonly<Record<string, PlannedBuffer>>;
  /** null: this step does not need the dispatch. */
  workgroups(step: StepShape): Workgroups | null;
  /** Bytes of weights or cache that the step must access, for the share of bandwidth in profiles. */
  readonly bytes?: (step: StepShape) => number;
}

/** WebGPU's limit for each dimension of a dispatch, in every implementation. */
const MOST_WORKGROUPS = 65_535;

/** `count` workgroups in two dimensions; kernels compute the index as x + y * 65535 and ignore those past the end. */
export function spread(count: number): Workgroups {
  return [Math.min(count, MOST_WORKGROUPS), Math.ceil(count / MOST_WORKGROUPS), 1];
}
