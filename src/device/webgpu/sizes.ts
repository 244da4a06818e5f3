/**
 * The bytes of a program, also for texts of other lengths: graphs that differ in their pages alone have the same
 * dispatches, over buffers of other sizes. Pure.
 */
import type { Footprint, Graph } from "../contract.ts";
import type { BytesFor, PlannedBuffer } from "./dispatch.ts";
import { assignSlots, type Life, type Slots } from "./slots.ts";

export interface ProgramSizes {
  /** All buffers but activations, which share slots. */
  readonly fixed: readonly PlannedBuffer[];
  /** Activations of each mode. */
  readonly lives: readonly (readonly Life[])[];
  /** Of buffers whose size depends on pages, by id. */
  readonly paged: ReadonlyMap<number, BytesFor>;
  /** Bytes by weight id. */
  readonly weights: readonly number[];
  /** By cache id. */
  readonly caches: readonly (readonly PlannedBuffer[])[];
  /** By state id. */
  readonly states: readonly PlannedBuffer[];
  /** Values that stay readable. */
  readonly kept: readonly PlannedBuffer[];
  readonly dispatches: number;
}

/**
 * Bytes for the Params of one dispatch in the buffer of all Params: the largest alignment of uniform offsets in WebGPU.
 */
export const PARAMS_BYTES = 256;

/** The slots of activations for a graph. */
export function slotsFor(sizes: ProgramSizes, graph: Graph): Slots {
  return assignSlots(sizes.lives, bytesIn(sizes, graph));
}

export function footprintFor(sizes: ProgramSizes, graph: Graph, slots = slotsFor(sizes, graph)): Footprint {
  const { fixed, weights, kept, dispatches } = sizes;
  const bytesOf = bytesIn(sizes, graph);
  const all = (buffers: readonly PlannedBuffer[]) => sum(buffers.map(bytesOf));
  const caches = sizes.caches.map(all);
  const states = sizes.states.map(({ bytes }) => bytes);
  const activations = sum(slots.bytes) + all(kept);
  const total = all(fixed) + sum(slots.bytes) + dispatches * PARAMS_BYTES;
  const used = sum(weights) + sum(caches) + sum(states) + activations;
  const named = [
    ...fixed.map((buffer) => ({ label: buffer.label, bytes: bytesOf(buffer) })),
    ...slots.bytes.map((bytes, i) => ({ label: slotLabel(i), bytes })),
  ];
  const largest = named.reduce((most, one) => (one.bytes > most.bytes ? one : most));
  return { weights, caches, states, activations, workspace: total - used, total, largest };
}

export function slotLabel(index: number): string {
  return `activations ${index}`;
}

/** Bytes of the program's buffers for a graph. */
function bytesIn({ paged }: ProgramSizes, graph: Graph): (buffer: PlannedBuffer) => number {
  return ({ id, bytes }) => paged.get(id)?.(graph) ?? bytes;
}

function sum(list: readonly number[]): number {
  return list.reduce((all, bytes) => all + bytes, 0);
}
