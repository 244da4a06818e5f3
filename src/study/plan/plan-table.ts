/**
 * What fits, as tables: one model's memory by part, contexts by KV format, the longest context of each, and what other
 * engines would use. Pure, for the command line and for pages. Every figure is a plan that `planContext` made, so it is
 * what the engine would allocate.
 */
import { type Cache, type Footprint, PAGE_SLOTS } from "../../device/contract.ts";
import { defaultKv, formatsOf } from "../../engine/kv-names.ts";
import { longest } from "../../engine/longest.ts";
import {
  checkOptions,
  type Limits,
  limitsOf,
  type Plan,
  type PlannedDevice,
  type PlanOptions,
  planContext,
  type Sums,
  shortfallOf,
} from "../../engine/plan.ts";
import { ArgumentError, type MemoryError } from "../../format/errors.ts";
import { storedRowBytes } from "../../format/tensor.ts";
import { attentionIn, attentionsOf, type ModelConfig, turnedDims } from "../../model/config.ts";
import type { Model } from "../../model/model.ts";
import { PEERS } from "./peers.ts";

/** Options of `planTable`. */
export interface PlanTableOptions
  extends Pick<PlanOptions, "context" | "kv" | "chunk" | "snapshots" | "memoryBytes"> {
  /** What the process takes in addition to the device. Default: as measured for Node on this kind of device. */
  overheadBytes?: number;
}

/** Bytes of one kind of weights. */
export interface WeightPart {
  /** A tensor type; "vectors": norms and biases, held as f32. */
  readonly type: string;
  /** Matrices of which a token reads a part: its experts', or one row for its own per-layer input. null: the others. */
  readonly of: "experts" | "per-layer inputs" | null;
  readonly count: number;
  readonly parameters: number;
  readonly fileBytes: number;
  /** Bytes on the device. */
  readonly bytes: number;
}

/** Bytes of the caches of one kind of layer. */
export interface CachePart {
  readonly kind: "full" | "sliding";
  /** Layers that have such a cache. */
  readonly layers: number;
  /** Further layers that attend to these caches and have none of their own. */
  readonly sharing: number;
  /** How layers whose values are their keys (Gemma 4's full ones) store them on this device; null: there are none. */
  readonly oneVector: "held" | "apart" | null;
  /** Token slots of each layer: the context, or windows and the chunk that is being written. */
  readonly tokens: number;
  readonly bytes: number;
}

/** Recurrent states; null in a plan: no layer has any. */
export interface StatePart {
  readonly layers: number;
  /** Number of positions of texts that have states. */
  readonly slots: number;
  readonly bytes: number;
}

/** Bytes of a context in one cache format, and whether it fits. */
export interface ContextRow {
  readonly context: number;
  readonly cacheBytes: number;
  readonly totalBytes: number;
  readonly fits: boolean;
}

/** One cache format, ours or another engine's: its rows by context, and the longest context that fits. */
export interface ContextTable {
  /** A KV format of ours, or engine and format of another. */
  readonly name: string;
  readonly rows: readonly ContextRow[];
  /** Tokens, at most the trained length; 0: no context fits. */
  readonly longestContext: number;
  /**
   * The same, but beyond the trained length as far as the memory allows, up to 8 times that. If memory is not known:
   * the same.
   */
  readonly longestInMemory: number;
}

/** What a model takes on a device, as tables. */
export interface PlanTable {
  readonly model: {
    readonly name: string;
    readonly family: string;
    readonly parameters: number;
    readonly layers: number;
    readonly slidingLayers: number;
    /** 0: no layer slides. */
    readonly window: number;
    readonly trainedContext: number;
  };
  /** A description of the device, for people. */
  readonly device: string;
  /** null: not known. */
  readonly memoryBytes: number | null;
  /** What the device can hold whatever the memory; null: it has no such limit that we know. */
  readonly deviceLimitBytes: number | null;
  /** Tokens of a prompt that are read at once: part of activations and sliding caches. */
  readonly chunk: number;
  /** One plan by part: of the requested context, else of the longest that fits, else of the trained one. */
  readonly plan: ContextRow & {
    readonly kv: string;
    readonly weights: readonly WeightPart[];
    readonly caches: readonly CachePart[];
    readonly states: StatePart | null;
    readonly weightBytes: number;
    readonly activationBytes: number;
    readonly workspaceBytes: number;
    readonly overheadBytes: number;
  };
  /** For each KV format that the device has. */
  readonly formats: readonly ContextTable[];
  readonly peers: readonly (ContextTable & { readonly assumption: string })[];
  /** Why `plan` does not fit, with the way out; null: it does. */
  readonly shortfall: MemoryError | null;
}

const SHORTEST = 4096;
const LONGEST = 262_144;
/** Maximum multiple of the trained context: models are not stretched further. In steps of this many tokens. */
const MOST_BEYOND = 8;
const STEP_BEYOND = 1024;

/** Throws ArgumentError and UnsupportedError for wrong options; what does not fit is a row and not an error. */
export function planTable(model: Model, device: PlannedDevice, options: PlanTableOptions = {}): PlanTable {
  const { config } = model;
  const { kv = defaultKv(device), chunk, snapshots, context: asked } = options;
  checkOptions(model, device, options);
  const limits = limitsOf(device, options);
  const { memory, overheadBytes } = limits;
  if (!(overheadBytes >= 0)) throw new ArgumentError("overheadBytes", overheadBytes, "bytes from 0 on");
  const planner = new Planner(model, device, limits, { chunk, snapshots });

  const { trainedContext } = config;
  const memoryBytes = memory?.bytes ?? Number.POSITIVE_INFINITY;
  const longestBy = (row: (context: number) => ContextRow) => {
    const tried = (context: number) => {
      const { fits, totalBytes } = row(context);
      return { fits, bytes: totalBytes };
    };
    const trained = longest(trainedContext, tried, { limitBytes: memoryBytes });
    if (memory === null || trained < trainedContext)
      return { longestContext: trained, longestInMemory: trained };
    const most = MOST_BEYOND * trained;
    return {
      longestContext: trained,
      longestInMemory: longest(most, tried, { least: trained, step: STEP_BEYOND, limitBytes: memoryBytes }),
    };
  };
  const names = [kv, ...formatsOf(device).filter((name) => name !== kv)];
  const own = names.map((name) => ({ name, ...longestBy((context) => planner.row(name, context)) }));
  const contexts = contextsOf(trainedContext, asked, own);
  const most = own[0].longestContext;
  const plan = planner.plan(kv, asked ?? (most || trainedContext));
  const { weights } = plan;
  const fileBytes = weights.reduce((sum, part) => sum + part.fileBytes, 0);
  const windows = attentionsOf(config).flatMap(({ spec }) => spec.window ?? []);
  return {
    model: {
      name: config.name,
      family: config.family,
      parameters: weights.reduce((sum, { parameters }) => sum + parameters, 0),
      layers: config.layers.length,
      slidingLayers: windows.length,
      window: Math.max(0, ...windows),
      trainedContext,
    },
    device: device.description,
    memoryBytes: memory?.bytes ?? null,
    deviceLimitBytes: device.memoryBytes < Number.MAX_SAFE_INTEGER ? device.memoryBytes : null,
    chunk: chunk ?? device.chunk,
    plan: {
      ...planner.row(kv, plan.context),
      kv,
      weights,
      caches: plan.caches,
      states: plan.states,
      weightBytes: plan.weightBytes,
      activationBytes: plan.footprint.activations,
      workspaceBytes: plan.footprint.workspace,
      overheadBytes,
    },
    formats: own.map((format) => ({
      ...format,
      rows: contexts.map((context) => planner.row(format.name, context)),
    })),
    peers: PEERS.filter((peer) => peer.allows(config)).map(({ name, assumption, cacheBytes }) => {
      const row = (context: number): ContextRow => {
        const cache = cacheBytes(config, context);
        const totalBytes = fileBytes + cache;
        return { context, cacheBytes: cache, totalBytes, fits: totalBytes <= memoryBytes };
      };
      return { name, assumption, rows: contexts.map(row), ...longestBy(row) };
    }),
    shortfall: planner.shortfall(kv, plan.context, most),
  };
}

/** What a table shows of a plan, without its graph. */
interface PlanSums extends Sums, Pick<Plan, "context" | "cacheBytes"> {
  readonly footprint: Pick<Footprint, "largest" | "activations" | "workspace">;
  readonly weights: readonly WeightPart[];
  readonly caches: readonly CachePart[];
  readonly states: StatePart | null;
}

/** Plans do not depend on the amount of memory, so they are reused for another amount. */
const known = new WeakMap<Model, WeakMap<PlannedDevice, Map<string, PlanSums>>>();

function knownOf(model: Model, device: PlannedDevice): Map<string, PlanSums> {
  const devices = known.get(model) ?? new WeakMap<PlannedDevice, Map<string, PlanSums>>();
  known.set(model, devices);
  const sums = devices.get(device) ?? new Map<string, PlanSums>();
  devices.set(device, sums);
  return sums;
}

function sumsOf(plan: Plan, config: ModelConfig): PlanSums {
  const { context, kv, cacheTokens, weightBytes, cacheBytes, totalBytes, footprint } = plan;
  const { largest, activations, workspace } = footprint;
  return {
    ...{ context, kv, cacheTokens, weightBytes, cacheBytes, totalBytes },
    footprint: { largest, activations, workspace },
    weights: weightParts(plan),
    caches: cacheParts(plan, config),
    states: statePart(plan),
  };
}

/** Plans, and knows all limits. */
class Planner {
  readonly #known: Map<string, PlanSums>;

  constructor(
    readonly model: Model,
    readonly device: PlannedDevice,
    readonly limits: Limits,
    readonly options: Pick<PlanOptions, "chunk" | "snapshots">,
  ) {
    this.#known = knownOf(model, device);
  }

  plan(kv: string, context: number): PlanSums {
    const { chunk, snapshots } = this.options;
    const key = `${kv} ${context} ${chunk} ${snapshots}`;
    let sums = this.#known.get(key);
    if (!sums) {
      const plan = planContext(this.model, this.device, { context, kv, ...this.options });
      sums = sumsOf(plan, this.model.config);
      this.#known.set(key, sums);
    }
    return sums;
  }

  row(kv: string, context: number): ContextRow {
    const { cacheBytes, totalBytes } = this.plan(kv, context);
    const fits = this.shortfall(kv, context, 0) === null;
    return { context, cacheBytes, totalBytes: totalBytes + this.limits.overheadBytes, fits };
  }

  /** longest: the context to suggest as the way out. */
  shortfall(kv: string, context: number, longest: number): MemoryError | null {
    return shortfallOf(this.plan(kv, context), this.device, this.limits, longest);
  }
}

/**
 * Doubling from 4,096 to 262,144, up to the trained length, and beyond as far as any format fits; its own limit, the
 * requested context, and at the end the longest of the first format.
 */
function contextsOf(
  trainedContext: number,
  asked: number | undefined,
  own: readonly Pick<ContextTable, "longestInMemory">[],
): number[] {
  const trained = Math.min(trainedContext, LONGEST);
  const most = Math.max(trained, ...own.map(({ longestInMemory }) => longestInMemory));
  const found = new Set([trained]);
  for (let context = SHORTEST; context <= most; context *= 2) found.add(context);
  if (own[0].longestInMemory > trainedContext) found.add(own[0].longestInMemory);
  if (asked !== undefined) found.add(asked);
  return [...found].sort((a, b) => a - b);
}

function weightParts({ graph, footprint }: Plan): WeightPart[] {
  const parts = new Map<string, WeightPart>();
  const experts = new Set(graph.ops.flatMap((op) => (op.op === "expertMatmul" ? [op.weight.id] : [])));
  graph.weights.forEach(({ id, role, type: own, rows, cols }) => {
    const type = role === "vector" ? "vectors" : own;
    const of = experts.has(id) ? "experts" : role === "table" ? "per-layer inputs" : null;
    const name = `${type} ${of}`;
    const sum = parts.get(name) ?? { type, of, count: 0, parameters: 0, fileBytes: 0, bytes: 0 };
    parts.set(name, {
      type,
      of,
      count: sum.count + 1,
      parameters: sum.parameters + rows * cols,
      fileBytes: sum.fileBytes + rows * storedRowBytes(own, cols),
      bytes: sum.bytes + footprint.weights[id],
    });
  });
  return [...parts.values()].sort((a, b) => b.bytes - a.bytes);
}

function statePart({ graph: { states, stateSlots }, stateBytes }: Plan): StatePart | null {
  if (states.length === 0) return null;
  const layers = new Set(states.map(({ layer }) => layer)).size;
  return { layers, slots: stateSlots, bytes: stateBytes };
}

function cacheParts({ graph, footprint }: Plan, { layers }: ModelConfig): CachePart[] {
  const parts = new Map<CachePart["kind"], CachePart>();
  const heldAs = ({ layer, turned }: Cache) => {
    if (turned > 0) return "held";
    return turnedDims(attentionIn(layers[layer])) > 0 ? "apart" : null;
  };
  const readersOf = new Map<number, number>();
  for (const op of graph.ops)
    if (op.op === "attend") readersOf.set(op.cache.id, 1 + (readersOf.get(op.cache.id) ?? 0));
  for (const cache of graph.caches) {
    const { id, pool } = cache;
    const kind = pool.window === null ? "full" : "sliding";
    const tokens = pool.pages * PAGE_SLOTS;
    const readers = readersOf.get(id) ?? 0;
    const oneVector = heldAs(cache);
    const sum = parts.get(kind) ?? { kind, layers: 0, sharing: 0, oneVector, tokens, bytes: 0 };
    parts.set(kind, {
      ...{
        kind,
        tokens,
        oneVector: sum.oneVector ?? oneVector,
        layers: sum.layers + 1,
        sharing: sum.sharing + readers - 1,
      },
      bytes: sum.bytes + footprint.caches[id],
    });
  }
  return [...parts.values()].sort((a, b) => a.kind.localeCompare(b.kind));
}
