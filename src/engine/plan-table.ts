/**
 * What fits, as tables: one model's memory by part, contexts by KV format, the longest context of each, and what other
 * engines would hold. Pure, for the command line and for pages. Owns no formula of ours: every figure is a plan that
 * `planMemory` made, so it is what the engine would allocate.
 */
import { PAGE_SLOTS } from "../device/contract.ts";
import { ArgumentError } from "../format/errors.ts";
import { rowBytes } from "../format/tensor.ts";
import type { Model } from "../model/model.ts";
import { PEERS } from "./peers.ts";
import { MemoryError, type Plan, type PlannedDevice, type PlanOptions, planMemory } from "./plan.ts";

export interface PlanTableOptions extends Pick<PlanOptions, "context" | "kv" | "chunk"> {
  /** What all parts together may take. Default: nothing is known, and only the device's own limits count. */
  memoryBytes?: number;
  /** What the process takes beside what the device holds. Default: as measured for Node on this kind of device. */
  overheadBytes?: number;
}

export interface WeightPart {
  /** A tensor type; "vectors": norms and biases, held as f32. */
  readonly type: string;
  readonly count: number;
  readonly parameters: number;
  readonly fileBytes: number;
  /** On the device. */
  readonly bytes: number;
}

export interface CachePart {
  readonly kind: "full" | "sliding";
  readonly layers: number;
  /** Token slots of each layer: the context, or windows and the chunk that is being written. */
  readonly tokens: number;
  readonly bytes: number;
}

export interface ContextRow {
  readonly context: number;
  readonly cacheBytes: number;
  readonly totalBytes: number;
  readonly fits: boolean;
}

export interface ContextTable {
  /** A KV format of ours, or engine and format of another. */
  readonly name: string;
  readonly rows: readonly ContextRow[];
  /** In tokens, at most what the model was trained for; 0: none fits. */
  readonly longestContext: number;
}

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
  /** What would compute, for people. */
  readonly device: string;
  /** null: not known. */
  readonly memoryBytes: number | null;
  /** What the device can hold whatever the memory; null: it has no such limit that we know. */
  readonly deviceLimitBytes: number | null;
  /** Tokens of a prompt that are read at once: part of activations and sliding caches. */
  readonly chunk: number;
  /** One plan by part: of the context that was asked for, else of the longest that fits, else of the trained one. */
  readonly plan: ContextRow & {
    readonly kv: string;
    readonly weights: readonly WeightPart[];
    readonly caches: readonly CachePart[];
    readonly weightBytes: number;
    readonly activationBytes: number;
    readonly workspaceBytes: number;
    readonly overheadBytes: number;
  };
  /** Of each KV format that the device has. */
  readonly formats: readonly ContextTable[];
  readonly peers: readonly (ContextTable & { readonly assumption: string })[];
  /** Why `plan` does not fit, with the way out; null: it does. */
  readonly shortfall: MemoryError | null;
}

/**
 * What the process takes beside the device: its resident bytes after a text less the plan, in Node 20.20 on Linux,
 * 2026-11-23. CPU: 70 MiB with needle-14m, 73 with a 1B, 128 with Gemma 3 270M, whose tokenizer has 262,144 pieces.
 * GPU: 246 MiB with Dawn and SwiftShader, a driver that lives in the process.
 */
const OVERHEAD_BYTES = { gpu: 256 * 2 ** 20, other: 128 * 2 ** 20 };

const SHORTEST = 4096;
const LONGEST = 262_144;

/** Throws ArgumentError and UnsupportedError for wrong options; what does not fit is a row and not an error. */
export function planTable(model: Model, device: PlannedDevice, options: PlanTableOptions = {}): PlanTable {
  const { config } = model;
  const { memoryBytes = Number.POSITIVE_INFINITY, kv = "int4", chunk } = options;
  const { overheadBytes = OVERHEAD_BYTES[device.name === "gpu" ? "gpu" : "other"] } = options;
  for (const [name, found] of Object.entries({ memoryBytes, overheadBytes }))
    if (!(found >= 0)) throw new ArgumentError(name, found, "bytes from 0 on");
  const planner = new Planner(model, device, memoryBytes, overheadBytes, chunk);
  // Wrong options are errors before anything else is planned.
  const asked = options.context === undefined ? null : planner.plan(kv, options.context);

  const { trainedContext } = config;
  const contexts = contextsOf(trainedContext, options.context);
  const formats = [kv, ...(device.kvFormats ?? []).filter((format) => format !== kv)].map((name) => ({
    name,
    rows: contexts.map((context) => planner.row(name, context)),
    longestContext: longestContext(trainedContext, memoryBytes, (context) => planner.row(name, context)),
  }));
  const longest = formats[0].longestContext;
  const plan = asked ?? planner.plan(kv, longest || trainedContext);
  const weights = weightParts(plan);
  const fileBytes = weights.reduce((sum, part) => sum + part.fileBytes, 0);
  return {
    model: {
      name: config.name,
      family: config.family,
      parameters: weights.reduce((sum, { parameters }) => sum + parameters, 0),
      layers: config.layers,
      slidingLayers: config.layerKinds.filter((kind) => kind === "sliding").length,
      window: config.window,
      trainedContext,
    },
    device: device.description,
    memoryBytes: Number.isFinite(memoryBytes) ? memoryBytes : null,
    deviceLimitBytes: device.memoryBytes < Number.MAX_SAFE_INTEGER ? device.memoryBytes : null,
    chunk: chunk ?? device.chunk,
    plan: {
      ...planner.row(kv, plan.context),
      kv,
      weights,
      caches: cacheParts(plan),
      weightBytes: plan.weightBytes,
      activationBytes: plan.footprint.activations,
      workspaceBytes: plan.footprint.workspace,
      overheadBytes,
    },
    formats,
    peers: PEERS.filter((peer) => peer.allows(config)).map(({ name, assumption, cacheBytes }) => {
      const row = (context: number): ContextRow => {
        const cache = cacheBytes(config, context);
        const totalBytes = fileBytes + cache;
        return { context, cacheBytes: cache, totalBytes, fits: totalBytes <= memoryBytes };
      };
      const most = longestContext(trainedContext, memoryBytes, row);
      return { name, assumption, rows: contexts.map(row), longestContext: most };
    }),
    shortfall: planner.shortfall(kv, plan.context, longest),
  };
}

/** A plan without its graph. */
type Sums = Pick<Plan, "context" | "kv" | "weightBytes" | "cacheBytes" | "totalBytes"> & {
  readonly largest: Plan["footprint"]["largest"];
};

/** Plans do not depend on the memory there is: who asks again with more gets them at once. */
const known = new WeakMap<Model, WeakMap<PlannedDevice, Map<string, Sums>>>();

function knownOf(model: Model, device: PlannedDevice): Map<string, Sums> {
  const devices = known.get(model) ?? new WeakMap<PlannedDevice, Map<string, Sums>>();
  known.set(model, devices);
  const sums = devices.get(device) ?? new Map<string, Sums>();
  devices.set(device, sums);
  return sums;
}

/** Plans, and knows all limits. */
class Planner {
  readonly #known: Map<string, Sums>;
  readonly #unlimited: PlannedDevice;

  constructor(
    readonly model: Model,
    readonly device: PlannedDevice,
    readonly memoryBytes: number,
    readonly overheadBytes: number,
    readonly chunk: number | undefined,
  ) {
    this.#known = knownOf(model, device);
    this.#unlimited = { ...device, memoryBytes: Number.POSITIVE_INFINITY, bufferBytes: undefined };
  }

  plan(kv: string, context: number): Plan {
    return planMemory(this.model, this.#unlimited, { context, kv, chunk: this.chunk });
  }

  #sums(kv: string, context: number): Sums {
    const key = `${kv} ${context} ${this.chunk}`;
    let sums = this.#known.get(key);
    if (!sums) {
      const { weightBytes, cacheBytes, totalBytes, footprint } = this.plan(kv, context);
      sums = { context, kv, weightBytes, cacheBytes, totalBytes, largest: footprint.largest };
      this.#known.set(key, sums);
    }
    return sums;
  }

  row(kv: string, context: number): ContextRow {
    const sums = this.#sums(kv, context);
    const totalBytes = sums.totalBytes + this.overheadBytes;
    return { context, cacheBytes: sums.cacheBytes, totalBytes, fits: this.#shortfall(sums, 0) === null };
  }

  /** longest: the context to name as the way out. */
  shortfall(kv: string, context: number, longest: number): MemoryError | null {
    return this.#shortfall(this.#sums(kv, context), longest);
  }

  #shortfall(sums: Sums, longest: number): MemoryError | null {
    const { device, memoryBytes, overheadBytes } = this;
    const { context, kv, totalBytes, weightBytes, largest: buffer } = sums;
    const fail = (need: number, limit: number, text: string) => {
      const alone = weightBytes > limit ? "The weights alone do not fit" : "No context fits";
      return new MemoryError(
        need,
        limit,
        context,
        longest,
        text,
        `${alone}; choose a smaller model or type.`,
      );
    };
    const all = `${context} tokens of ${kv} cache with ${gib(weightBytes)} of weights need`;
    if (totalBytes > device.memoryBytes)
      return fail(
        totalBytes,
        device.memoryBytes,
        `${all} ${gib(totalBytes)}; the ${device.name} device can hold ${gib(device.memoryBytes)}`,
      );
    const { bufferBytes = Number.POSITIVE_INFINITY } = device;
    if (buffer && buffer.bytes > bufferBytes)
      return fail(
        buffer.bytes,
        bufferBytes,
        `"${buffer.label}" needs ${gib(buffer.bytes)} in one buffer; the ${device.name} device allows ${gib(bufferBytes)}`,
      );
    const need = totalBytes + overheadBytes;
    return need > memoryBytes
      ? fail(need, memoryBytes, `${all} ${gib(need)}; the memory is ${gib(memoryBytes)}`)
      : null;
  }
}

/** Doubling from 4,096 to 262,144, as far as the model was trained; its own limit, and what was asked for. */
function contextsOf(trainedContext: number, asked: number | undefined): number[] {
  const found = new Set([Math.min(trainedContext, LONGEST)]);
  for (let context = SHORTEST; context <= Math.min(trainedContext, LONGEST); context *= 2) found.add(context);
  if (asked !== undefined) found.add(asked);
  return [...found].sort((a, b) => a - b);
}

/**
 * The longest context that fits: `most` itself, or a whole number of cache blocks. A plan of a large model takes a
 * twentieth of a second, so the line through two totals is tried first; it is exact where no layer slides.
 */
function longestContext(most: number, memoryBytes: number, row: (context: number) => ContextRow): number {
  const whole = row(most);
  if (whole.fits) return most;
  const fits = (blocks: number) => row(blocks * PAGE_SLOTS).fits;
  let low = 0;
  let high = Math.ceil(most / PAGE_SLOTS);
  const half = Math.floor(high / 2);
  let next = half;
  if (half > 0 && Number.isFinite(memoryBytes)) {
    const middle = row(half * PAGE_SLOTS);
    const slope = (whole.totalBytes - middle.totalBytes) / (most - middle.context);
    next = Math.floor((most - (whole.totalBytes - memoryBytes) / slope) / PAGE_SLOTS);
  }
  let isNeighbour = false;
  while (high - low > 1) {
    const blocks = Math.min(high - 1, Math.max(low + 1, next));
    const found = fits(blocks);
    if (found) low = blocks;
    else high = blocks;
    // After the line's own guess the block beside it; if that was not the border either, halves.
    next = isNeighbour ? Math.floor((low + high) / 2) : blocks + (found ? 1 : -1);
    isNeighbour = true;
  }
  return low * PAGE_SLOTS;
}

function weightParts({ graph, footprint }: Plan): WeightPart[] {
  const parts = new Map<string, WeightPart>();
  graph.weights.forEach(({ id, role, type, rows, cols }) => {
    const name = role === "vector" ? "vectors" : type;
    const sum = parts.get(name) ?? { type: name, count: 0, parameters: 0, fileBytes: 0, bytes: 0 };
    parts.set(name, {
      type: name,
      count: sum.count + 1,
      parameters: sum.parameters + rows * cols,
      fileBytes: sum.fileBytes + rows * rowBytes(type, cols),
      bytes: sum.bytes + footprint.weights[id],
    });
  });
  return [...parts.values()].sort((a, b) => b.bytes - a.bytes);
}

function cacheParts({ graph, footprint }: Plan): CachePart[] {
  const parts = new Map<CachePart["kind"], CachePart>();
  for (const { id, pool } of graph.caches) {
    const kind = pool.window === null ? "full" : "sliding";
    const sum = parts.get(kind) ?? { kind, layers: 0, tokens: pool.pages * PAGE_SLOTS, bytes: 0 };
    parts.set(kind, { ...sum, layers: sum.layers + 1, bytes: sum.bytes + footprint.caches[id] });
  }
  return [...parts.values()].sort((a, b) => a.kind.localeCompare(b.kind));
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
