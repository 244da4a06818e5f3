/**
 * A graph compiled for a GPU: lists of dispatches (one for each mode, which depends on a step's rows), every buffer
 * with its bytes, and the place of each weight. Pure: nothing is allocated, so the plan is exact. One idea: an
 * activation exists in the forms (f32, f16, q8) that its readers need. Each form is made once, if possible by the
 * dispatch that computes the activation.
 */
import { checkFormats } from "../check.ts";
import {
  type Cache,
  type Footprint,
  type Graph,
  type KvPart,
  MORE_CHOSEN,
  type Value,
  type Weight,
} from "../contract.ts";
import type { CacheBuffers } from "./attend-options.ts";
import { batchBytes, tableAt } from "./batch.ts";
import { LEAST_RESULT_BYTES } from "./buffers.ts";
import { type BytesFor, type Dispatch, MODES, type Mode, type PlannedBuffer } from "./dispatch.ts";
import { ofOneRow, stagesOf } from "./fusion.ts";
import type { Traits } from "./gpu.ts";
import { cacheBufferBytes, gpuFormats, layerPageBytes, recentCache } from "./kv.ts";
import { ModeCompiler } from "./mode.ts";
import { planSampling, type SamplingPlan } from "./sample.ts";
import type { Shared } from "./shared.ts";
import { footprintFor, type ProgramSizes, slotLabel, slotsFor } from "./sizes.ts";
import { livesOf } from "./slots.ts";
import { type Placement, WeightPlan } from "./weight-plan.ts";

export interface GpuProgram {
  /** Dispatches of each mode; none for a mode that no step of the graph has. */
  readonly modes: Readonly<Record<Mode, readonly Dispatch[]>>;
  /** Everything that is allocated: weights, caches, slots of activations, tables. */
  readonly buffers: readonly PlannedBuffer[];
  readonly batch: PlannedBuffer;
  readonly angles: readonly PlannedBuffer[];
  readonly sampling: SamplingPlan;
  readonly footprint: Footprint;
  /** For the footprints of other graphs. */
  readonly sizes: ProgramSizes;
  readonly caches: Shared["caches"];
  readonly recentCaches: Shared["recentCaches"];
  readonly states: Shared["states"];
  /** Holds a page while it is copied, because WebGPU does not copy within a buffer. */
  readonly page: PlannedBuffer;
  /** Counts submits (submits.ts). */
  readonly stamp: Dispatch;
  /** The one of `buffers` that holds this: itself or, for an activation, the buffer that it shares. */
  allocated(buffer: PlannedBuffer): PlannedBuffer;
  /** The buffer in which a value can be read after a step; undefined unless it is kept. */
  kept(value: Value): PlannedBuffer | undefined;
  weight(weight: Weight): Placement;
  /** The buffer for the rows of a table that a step reads. */
  table(weight: Weight): PlannedBuffer;
}

export type Limits = Pick<GPUSupportedLimits, "maxStorageBufferBindingSize" | "maxBufferSize">;

/** Kernels read some buffers as vec4s. */
const ALIGNMENT = 16;

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Bytes of the largest buffer that can be bound as a whole. */
export function bufferBytes({ maxStorageBufferBindingSize, maxBufferSize }: Limits): number {
  return Math.floor(Math.min(maxStorageBufferBindingSize, maxBufferSize) / ALIGNMENT) * ALIGNMENT;
}

export function compileGraph(graph: Graph, traits: Traits, limits: Limits): GpuProgram {
  const fixed: PlannedBuffer[] = [];
  let count = 0;
  const paged = new Map<number, BytesFor>();
  const buffer = (label: string, bytes: number, bytesFor?: BytesFor): PlannedBuffer => {
    const id = count++;
    if (bytesFor) paged.set(id, (other) => aligned(Math.max(1, bytesFor(other))));
    return { id, label, bytes: aligned(Math.max(1, bytes)) };
  };
  const keep = (label: string, bytes: number) => {
    const made = buffer(label, bytes);
    fixed.push(made);
    return made;
  };
  const keepFor = (label: string, bytesFor: BytesFor) => {
    const made = buffer(label, bytesFor(graph), bytesFor);
    fixed.push(made);
    return made;
  };
  checkFormats(graph, { name: "gpu", ...gpuFormats(traits) });
  const stages = stagesOf(graph);
  const mostBytes = bufferBytes(limits);
  const weights = new WeightPlan(graph, stages, mostBytes, keep);
  const buffersOf = (what: string, cacheIn: (graph: Graph) => Cache): CacheBuffers => {
    const cache = cacheIn(graph);
    const bytesOf = (part: KvPart) => (other: Graph) => cacheBufferBytes(cacheIn(other), part);
    return {
      cache,
      cacheKeys: keepFor(`${what}keys of layer ${cache.layer}`, bytesOf("keys")),
      cacheValues: keepFor(`${what}values of layer ${cache.layer}`, bytesOf("values")),
      table: tableAt(graph, cache.pool),
    };
  };
  const caches = graph.caches.map(({ id }) => buffersOf("", (other) => other.caches[id]));
  const recentCaches = graph.caches.map(({ id, codec }) =>
    codec.packed ? buffersOf("recent ", (other) => recentCache(other.caches[id], other.recentPool!)) : null,
  );
  const states = graph.states.map(({ layer, values }) =>
    keep(`states of layer ${layer}`, graph.stateSlots * values * 4),
  );
  const withPages = [...caches, ...recentCaches.filter((own) => own !== null)];
  const pages = withPages.flatMap(({ cache }) => [
    layerPageBytes(cache, "keys"),
    layerPageBytes(cache, "values"),
  ]);
  const page = keep("page", Math.max(0, ...pages));
  const result = (bytes: number) => Math.max(LEAST_RESULT_BYTES, bytes);
  const rowsOf = (value: Value) => (value.rows === "tokens" ? graph.maxTokens : graph.maxOutputs);
  const kept = new Map<number, PlannedBuffer>();
  for (const value of new Set([graph.logits, ...graph.labels.values()]))
    kept.set(
      value.id,
      keep(value === graph.logits ? "logits" : "label", result(rowsOf(value) * value.cols * 4)),
    );
  const batch = keepFor("batch", batchBytes);
  const angles = graph.ropes.map(({ frequencies }) =>
    keep("angles", graph.maxTokens * 2 * frequencies.length * 4),
  );
  const spare = keep("spare", 16);
  const stamp: Dispatch = {
    label: "stamp",
    kernel: { kernel: "stamp", values: {} },
    params: new Uint32Array(),
    // Counts from zero, with which WebGPU initializes buffers.
    buffers: { out: keep("stamp", 16) },
    workgroups: () => [1, 1, 1],
  };
  const logits = kept.get(graph.logits.id)!;
  const { texts } = graph;
  const rows = Math.min(texts + MORE_CHOSEN, graph.maxOutputs);
  const sampling = planSampling({ logits, vocab: graph.logits.cols, texts, rows, batch, make: keep });

  const shared: Shared = {
    graph,
    traits,
    weights,
    batch,
    chosen: sampling.chosen,
    angles,
    caches,
    recentCaches,
    states,
    kept,
    spare,
    activation: (label, bytes, bytesFor) =>
      buffer(label, result(bytes), bytesFor && ((other) => result(bytesFor(other)))),
  };
  const meets = (mode: Mode) =>
    mode === "decode" ||
    (mode === "few" && Math.min(traits.few, graph.maxTokens) > 1) ||
    (mode === "several" && Math.min(traits.several, graph.maxTokens) > Math.max(1, traits.few)) ||
    (mode === "batch" && Math.min(traits.batch, graph.maxTokens) > Math.max(1, traits.several)) ||
    (mode === "prompt" && graph.maxTokens > Math.max(1, traits.batch));
  const oneRow = stagesOf(ofOneRow(graph));
  const compiled = MODES.map((mode) =>
    meets(mode) ? new ModeCompiler(shared, mode, mode === "decode" ? oneRow : stages).compile() : [],
  );
  const [decode, few, several, inBatch, prompt] = compiled;

  const isFixed = new Set(fixed.map(({ id }) => id));
  const sizes: ProgramSizes = {
    fixed,
    lives: compiled.map((dispatches) => livesOf(dispatches, ({ id }) => !isFixed.has(id))),
    paged,
    weights: graph.weights.map((weight) => weights.bytesOf(weight)),
    caches: caches.map((own, i) =>
      [own, recentCaches[i]].flatMap((one) => (one ? [one.cacheKeys, one.cacheValues] : [])),
    ),
    states,
    kept: [...kept.values()],
    dispatches: compiled.flat().length + sampling.all.length + 1,
  };
  const slots = slotsFor(sizes, graph);
  const slotBuffers = slots.bytes.map((bytes, i) => buffer(slotLabel(i), bytes));
  const buffers = [...fixed, ...slotBuffers];
  const allocated = (planned: PlannedBuffer) => {
    const slot = slots.slotOf.get(planned.id);
    return slot === undefined ? planned : slotBuffers[slot];
  };

  return {
    modes: { decode, few, several, batch: inBatch, prompt },
    buffers,
    batch,
    angles,
    sampling,
    caches,
    recentCaches,
    states,
    page,
    stamp,
    sizes,
    footprint: footprintFor(sizes, graph, slots),
    allocated,
    kept: (value) => kept.get(value.id),
    weight: (weight) => weights.placement(weight),
    table: (weight) => weights.table(weight),
  };
}
