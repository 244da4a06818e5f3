/**
 * What a model at a context needs, part by part, before anything is allocated. Pure: a graph is recorded and a device
 * measures it. The engine allocates exactly this. A request either fits, or the error gives the shortfall and the
 * largest context that fits; nothing is made smaller silently.
 */
import { layerFormats } from "../cache/format-layers.ts";
import { WORK_SLOTS } from "../cache/text-states.ts";
import { checkFormat } from "../device/check.ts";
import {
  type Device,
  type DeviceMemory,
  type Footprint,
  type Graph,
  type KvCodec,
  MORE_CHOSEN,
} from "../device/contract.ts";
import { ArgumentError, MemoryError } from "../format/errors.ts";
import { attentionsOf, type ModelConfig } from "../model/config.ts";
import type { Model } from "../model/model.ts";
import { defaultKv } from "./kv-names.ts";
import { longest } from "./longest.ts";

/** Options of a plan: context, cache format, parallel texts, memory. */
export interface PlanOptions {
  /** Tokens that a text may have; default: the trained length, or the most that fits. */
  context?: number;
  /** Generations at a time. Default 1. */
  parallel?: number;
  /**
   * Tokens in the cache, of all texts together; a shared prefix counts once. Default: a context for each of `parallel`,
   * if they fit and the context was given or the memory is known; else one.
   */
  cacheTokens?: number;
  /**
   * For models with recurrent states (Qwen 3.5): the number of positions of idle texts whose states are kept; a
   * conversation can continue only there. Default: 4, and one for each of `parallel`. A running text has three more.
   */
  snapshots?: number;
  /**
   * Format of the KV cache: a name ("kv4", "int4", "rq4", "f16"), a description ("k4c-v4r-n128-f32"), optionally with
   * exceptions by layer ("kv4+f16@0-1"). Default: what suits the model (kv-choice.ts).
   */
  kv?: "f16" | "int4" | "rq4" | (string & {});
  /** Tokens of a prompt that are read at once. Default: the device's best. */
  chunk?: number;
  /** Maximum rows of logits in one step. Default: one for each of `parallel`, and for each of `guess`. */
  outputs?: number;
  /** Tokens of a text that are guessed from its earlier parts and checked in one step: 0 (off) to 15, the default. */
  guess?: number;
  /**
   * The limit for all parts together, including the process itself. Default: the machine's memory as the device reports
   * it (Device.memory), in Node; otherwise only the device's own limits apply.
   */
  memoryBytes?: number;
  /** Keep `hidden.N` readable after a step, for studies. */
  keepLabels?: boolean;
  /** Allow embeddings (`embed`). Takes a few rows of memory. Default false. */
  embeddings?: boolean;
}

/** The label of the output matrix's input. */
export const lastHidden = ({ layers }: ModelConfig): string => `hidden.${layers.length}`;

/** What planning needs of a device, which need not exist. */
export type PlannedDevice = Omit<Device, "allocate">;

/** What a model takes on a device, known before anything is allocated. All sizes in bytes. */
export interface Plan {
  readonly graph: Graph;
  readonly footprint: Footprint;
  readonly context: number;
  readonly kv: string;
  readonly parallel: number;
  /** For all texts together. */
  readonly cacheTokens: number;
  readonly weightBytes: number;
  readonly cacheBytes: number;
  /** Recurrent states, of running texts and kept ones. */
  readonly stateBytes: number;
  readonly totalBytes: number;
  /** The limit for `totalBytes`. */
  readonly limitBytes: number;
  /** The memory that it was planned for; null: not known. */
  readonly memory: DeviceMemory | null;
}

/** Rows of the page tables. */
const MOST_PARALLEL = 256;
const MOST_CACHE_TOKENS = 2 ** 26;
const MOST_SNAPSHOTS = 4096;

/** Throws MemoryError if the request does not fit, ArgumentError or UnsupportedError for wrong options. */
export function planMemory(model: Model, device: PlannedDevice, options: PlanOptions = {}): Plan {
  checkOptions(model, device, options);
  const { trainedContext } = model.config;
  const { context: asked, cacheTokens: shared, parallel = 1 } = options;
  const limits = limitsOf(device, options);
  const plan = (context: number, cacheTokens: number) =>
    planContext(model, device, { ...options, context, cacheTokens });
  const fits = (found: Plan) => shortfallOf(found, device, limits, 0) === null;
  const tried = (found: Plan) => ({ fits: fits(found), bytes: found.totalBytes });

  const context = asked ?? Math.min(trainedContext, shared ?? trainedContext);
  const wanted = plan(context, shared ?? context);
  if (fits(wanted)) {
    const isKnown =
      asked !== undefined || limits.memory !== null || device.memoryBytes < Number.MAX_SAFE_INTEGER;
    if (shared !== undefined || parallel === 1 || !isKnown) return wanted;
    const all = Math.min(parallel * context, MOST_CACHE_TOKENS);
    const whole = plan(context, all);
    if (fits(whole)) return whole;
    return plan(
      context,
      Math.max(
        context,
        longest(all, (tokens) => tried(plan(context, tokens)), { limitBytes: wanted.limitBytes }),
      ),
    );
  }
  const most = longest(
    wanted.cacheTokens,
    (tokens) =>
      tokens === wanted.cacheTokens ? tried(wanted) : tried(plan(Math.min(context, tokens), tokens)),
    { limitBytes: wanted.limitBytes },
  );
  if (asked === undefined && shared === undefined && most > 0) return plan(most, most);
  throw shortfallOf(wanted, device, limits, most, shared === undefined ? undefined : "Largest cache");
}

/** Throws ArgumentError, UnsupportedError. */
export function checkOptions(model: Model, device: PlannedDevice, options: PlanOptions): void {
  const {
    kv = defaultKv(device),
    chunk = device.chunk,
    outputs = 1,
    parallel = 1,
    context,
    memoryBytes,
  } = options;
  const { cacheTokens } = options;
  for (const codec of layerFormats(kv).codecs) checkFormat(codec, device);
  const { trainedContext } = model.config;
  if (context !== undefined && !(Number.isInteger(context) && context >= 1 && context <= trainedContext))
    throw new ArgumentError(
      "context",
      context,
      `integers 1 to ${trainedContext}, the length that the model was trained for`,
    );
  if (!(Number.isInteger(chunk) && chunk >= 1 && chunk <= 4096))
    throw new ArgumentError("chunk", chunk, "integers 1 to 4096");
  if (!(Number.isInteger(outputs) && outputs >= 1 && outputs <= chunk))
    throw new ArgumentError("outputs", outputs, `integers 1 to ${chunk}, the chunk`);
  if (!(Number.isInteger(parallel) && parallel >= 1 && parallel <= MOST_PARALLEL))
    throw new ArgumentError("parallel", parallel, `integers 1 to ${MOST_PARALLEL}`);
  const { guess = 0 } = options;
  if (!(Number.isInteger(guess) && guess >= 0 && guess <= MORE_CHOSEN))
    throw new ArgumentError("guess", guess, `integers 0 to ${MORE_CHOSEN}`);
  const { sessions } = options as { sessions?: unknown };
  if (sessions !== undefined)
    throw new ArgumentError("sessions", sessions, "its new name, parallel: texts share one cache");
  const least = context ?? 1;
  const isCount = (tokens: number) =>
    Number.isInteger(tokens) && tokens >= least && tokens <= MOST_CACHE_TOKENS;
  if (cacheTokens !== undefined && !isCount(cacheTokens))
    throw new ArgumentError(
      "cacheTokens",
      cacheTokens,
      `integers ${least}${context ? ", the context," : ""} to ${MOST_CACHE_TOKENS}`,
    );
  const { snapshots = 0 } = options;
  if (!(Number.isInteger(snapshots) && snapshots >= 0 && snapshots <= MOST_SNAPSHOTS))
    throw new ArgumentError("snapshots", snapshots, `integers 0 to ${MOST_SNAPSHOTS}`);
  if (memoryBytes !== undefined && !(memoryBytes >= 0))
    throw new ArgumentError("memoryBytes", memoryBytes, "bytes from 0 on");
}

/** One context's plan, whether it fits or not, also beyond the trained length. Options are not checked. */
export function planContext(
  model: Model,
  device: PlannedDevice,
  options: PlanOptions & { context: number },
): Plan {
  const {
    context,
    kv = defaultKv(device),
    chunk = device.chunk,
    outputs = 1,
    parallel = 1,
    embeddings,
  } = options;
  const keepLabels = options.keepLabels || (embeddings ? [lastHidden(model.config)] : false);
  const { guess = MORE_CHOSEN } = options;
  const { cacheTokens = context, snapshots = 4 + parallel } = options;
  const maxTokens = Math.max(Math.min(chunk, cacheTokens), parallel);
  // One text guesses; if several do, they share these rows.
  const rowsOf = (rows: number) => Math.min(rows, maxTokens);
  const maxOutputs = Math.max(rowsOf(outputs), rowsOf(parallel + guess));
  const codec = codecsOf(model, kv);
  const stateSlots = WORK_SLOTS * parallel + snapshots;
  const rows = { maxTokens, maxOutputs, texts: parallel, stateSlots };
  const oneVector = device.oneVector && !layerFormats(kv).apart;
  const graph = model.record({ context, cacheTokens, ...rows, codec, keepLabels, oneVector });
  const footprint = device.measure(graph);
  const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
  const { memory, overheadBytes } = limitsOf(device, options);
  return {
    graph,
    footprint,
    context,
    kv,
    parallel,
    cacheTokens,
    weightBytes: sum(footprint.weights),
    cacheBytes: sum(footprint.caches),
    stateBytes: sum(footprint.states),
    totalBytes: footprint.total,
    limitBytes: Math.min(device.memoryBytes, (memory?.bytes ?? Number.POSITIVE_INFINITY) - overheadBytes),
    memory,
  };
}

/** By layer. */
export function codecsOf({ config }: Model, kv: string): (layer: number) => KvCodec {
  const formats = layerFormats(kv);
  const sliding = new Set(attentionsOf(config).flatMap(({ layer, spec }) => (spec.window ? [layer] : [])));
  const count = config.layers.length;
  return (index) => formats.of({ index, count, isSliding: sliding.has(index) });
}

/**
 * What the process takes in addition to the device: its resident bytes after a text minus the plan, in Node 20.20 on
 * Linux, 2026-11-23. CPU: 70 MiB with needle-14m, 73 with a 1B, 128 with Gemma 3 270M, whose tokenizer has 262,144
 * pieces. GPU: 246 MiB with Dawn and SwiftShader, a driver that runs in the process.
 */
const OVERHEAD_BYTES = { gpu: 256 * 2 ** 20, other: 128 * 2 ** 20 };

/** The limit of all parts together, in addition to the device's own limits. */
export interface Limits {
  /** null: not known. */
  readonly memory: DeviceMemory | null;
  readonly overheadBytes: number;
}

export function limitsOf(
  device: PlannedDevice,
  options: { memoryBytes?: number; overheadBytes?: number },
): Limits {
  const { memoryBytes, overheadBytes = OVERHEAD_BYTES[device.name === "gpu" ? "gpu" : "other"] } = options;
  const asked = memoryBytes === undefined ? null : { bytes: memoryBytes, source: "" };
  return { memory: asked ?? device.memory ?? null, overheadBytes };
}

/** The part of a plan that its limits concern. */
export type Sums = Pick<Plan, "cacheTokens" | "kv" | "weightBytes" | "totalBytes"> & {
  readonly footprint: Pick<Footprint, "largest">;
};

/** Why a plan does not fit; null: it does. most: tokens that fit, for the way out, and of what. */
export function shortfallOf(
  plan: Sums,
  device: PlannedDevice,
  { memory, overheadBytes }: Limits,
  most: number,
  what = "Longest context",
): MemoryError | null {
  const { cacheTokens, kv, totalBytes, weightBytes } = plan;
  const { name, memoryBytes, bufferBytes = Number.POSITIVE_INFINITY } = device;
  const fail = (need: number, limit: number, text: string, source: string) => {
    const alone = weightBytes > limit ? "The weights alone do not fit" : "No context fits";
    const wayOut =
      most > 0 ? `${what} that fits: ${most} tokens.` : `${alone}; choose a smaller model or quantization.`;
    return new MemoryError(need, limit, cacheTokens, most, text, wayOut, source);
  };
  const buffer = plan.footprint.largest;
  if (buffer && buffer.bytes > bufferBytes)
    return fail(
      buffer.bytes,
      bufferBytes,
      `"${buffer.label}" needs ${mib(buffer.bytes)} in one buffer; the ${name} device allows ${mib(bufferBytes)}`,
      "",
    );
  const all = `${cacheTokens} tokens of ${kv} cache with ${gib(weightBytes)} of weights need`;
  if (totalBytes > memoryBytes)
    return fail(
      totalBytes,
      memoryBytes,
      `${all} ${gib(totalBytes)}; the ${name} device can hold ${gib(memoryBytes)}`,
      "",
    );
  const need = totalBytes + overheadBytes;
  if (memory === null || need <= memory.bytes) return null;
  const { bytes, source } = memory;
  const says = source === "" ? "" : ` (${source})`;
  return fail(need, bytes, `${all} ${gib(need)}; the memory is ${gib(bytes)}${says}`, source);
}

function mib(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
