/**
 * What a model at a context needs, part by part, before anything is allocated. Pure: a graph is recorded and a device
 * measures it. The engine allocates exactly this. What was asked either fits or the error names the shortfall and the
 * largest context that fits; nothing is made smaller silently.
 */
import { kvCodec } from "../cache/codecs.ts";
import { type Device, type Footprint, type Graph, PAGE_SLOTS } from "../device/contract.ts";
import { ArgumentError, NibbleError, UnsupportedError } from "../format/errors.ts";
import type { Model } from "../model/model.ts";

export interface PlanOptions {
  /** Tokens that a text may have; default: what the model was trained for, or the most that fits. */
  context?: number;
  /** Generations at a time. Default 1. */
  parallel?: number;
  /**
   * Tokens that the cache holds, of all texts together; a beginning that several share counts once. Default: a context for
   * each of `parallel`, as far as they fit, where the context was asked for or the device's memory is known; else one.
   */
  cacheTokens?: number;
  /** Format of the KV cache: "int4" (default), "rq4", "f16". */
  kv?: string;
  /** Tokens of a prompt that are read at once. Default: what suits the device. */
  chunk?: number;
  /** Rows of logits that one step may give. Default 1. */
  outputs?: number;
  /** Keep `hidden.N` readable after a step, for studies. */
  keepLabels?: boolean;
}

/** A device as far as planning needs it: nothing has to be there. */
export type PlannedDevice = Omit<Device, "allocate">;

export interface Plan {
  readonly graph: Graph;
  readonly footprint: Footprint;
  readonly context: number;
  readonly kv: string;
  readonly parallel: number;
  /** Of all texts together. */
  readonly cacheTokens: number;
  readonly weightBytes: number;
  readonly cacheBytes: number;
  readonly totalBytes: number;
  readonly limitBytes: number;
}

/** The plan does not fit the device: all together, or one buffer of it. */
export class MemoryError extends NibbleError {
  constructor(
    readonly needBytes: number,
    readonly limitBytes: number,
    /** Tokens of context, or of the cache where that was asked for. */
    readonly context: number,
    /** Of the same, what fits; 0: none does. */
    readonly largestContext: number,
    need: string,
    wayOut: string,
    what = "Longest context",
  ) {
    super(
      "memory",
      `${need}. ${largestContext > 0 ? `${what} that fits: ${largestContext} tokens.` : wayOut}`,
    );
  }
}

/** Rows of the page tables. */
const MOST_PARALLEL = 256;
const MOST_CACHE_TOKENS = 2 ** 26;

/** Throws MemoryError when what was asked does not fit, ArgumentError or UnsupportedError for wrong options. */
export function planMemory(model: Model, device: PlannedDevice, options: PlanOptions = {}): Plan {
  const { kv = "int4", chunk = device.chunk, outputs = 1, parallel = 1, keepLabels } = options;
  const codec = kvCodec(kv);
  checkFormat(kv, device);
  const { trainedContext } = model.config;
  const { context: asked, cacheTokens: shared } = options;
  if (asked !== undefined && !(Number.isInteger(asked) && asked >= 1 && asked <= trainedContext))
    throw new ArgumentError(
      "context",
      asked,
      `integers 1 to ${trainedContext}, what the model was trained for`,
    );
  if (!(Number.isInteger(chunk) && chunk >= 1 && chunk <= 4096))
    throw new ArgumentError("chunk", chunk, "integers 1 to 4096");
  if (!(Number.isInteger(outputs) && outputs >= 1 && outputs <= chunk))
    throw new ArgumentError("outputs", outputs, `integers 1 to ${chunk}, the chunk`);
  if (!(Number.isInteger(parallel) && parallel >= 1 && parallel <= MOST_PARALLEL))
    throw new ArgumentError("parallel", parallel, `integers 1 to ${MOST_PARALLEL}`);
  const { sessions } = options as { sessions?: unknown };
  if (sessions !== undefined)
    throw new ArgumentError("sessions", sessions, "its new name, parallel: texts share one cache");
  const least = asked ?? 1;
  if (shared !== undefined && !(Number.isInteger(shared) && shared >= least && shared <= MOST_CACHE_TOKENS))
    throw new ArgumentError(
      "cacheTokens",
      shared,
      `integers ${least}${asked ? ", the context," : ""} to ${MOST_CACHE_TOKENS}`,
    );

  const plan = (context: number, cacheTokens: number): Plan => {
    const maxTokens = Math.max(Math.min(chunk, cacheTokens), parallel);
    const maxOutputs = Math.max(Math.min(outputs, maxTokens), parallel);
    const graph = model.record({
      ...{ context, cacheTokens, maxTokens, maxOutputs, codec, keepLabels },
      texts: parallel,
    });
    const footprint = device.measure(graph);
    const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
    return {
      graph,
      footprint,
      context,
      kv,
      parallel,
      cacheTokens,
      weightBytes: sum(footprint.weights),
      cacheBytes: sum(footprint.caches),
      totalBytes: footprint.total,
      limitBytes: device.memoryBytes,
    };
  };
  const { bufferBytes = Number.POSITIVE_INFINITY } = device;
  const fits = ({ totalBytes, limitBytes, footprint }: Plan) =>
    totalBytes <= limitBytes && (footprint.largest?.bytes ?? 0) <= bufferBytes;

  const context = asked ?? Math.min(trainedContext, shared ?? trainedContext);
  const wanted = plan(context, shared ?? context);
  if (fits(wanted)) {
    const isKnown = asked !== undefined || device.memoryBytes < Number.MAX_SAFE_INTEGER;
    if (shared !== undefined || parallel === 1 || !isKnown) return wanted;
    const all = Math.min(parallel * context, MOST_CACHE_TOKENS);
    const whole = plan(context, all);
    if (fits(whole)) return whole;
    return plan(
      context,
      Math.max(
        context,
        largest(all, (tokens) => fits(plan(context, tokens))),
      ),
    );
  }
  const most = largest(wanted.cacheTokens, (tokens) => fits(plan(Math.min(context, tokens), tokens)));
  if (asked === undefined && shared === undefined && most > 0) return plan(most, most);
  const { largest: buffer } = wanted.footprint;
  const what = shared === undefined ? "Longest context" : "Largest cache";
  if (buffer && buffer.bytes > bufferBytes)
    throw new MemoryError(
      buffer.bytes,
      bufferBytes,
      wanted.cacheTokens,
      most,
      `"${buffer.label}" needs ${mib(buffer.bytes)} in one buffer; the ${device.name} device allows ${mib(bufferBytes)}`,
      "No context fits; choose a smaller model.",
      what,
    );
  const { cacheTokens, totalBytes, weightBytes, limitBytes } = wanted;
  const alone = weightBytes > limitBytes ? "The weights alone do not fit" : "No context fits";
  throw new MemoryError(
    totalBytes,
    limitBytes,
    cacheTokens,
    most,
    `${cacheTokens} tokens of ${kv} cache with ${gib(weightBytes)} of weights need ${gib(totalBytes)}; the ${device.name} device can hold ${gib(limitBytes)}`,
    `${alone}; choose a smaller model or quantization.`,
    what,
  );
}

/** UnsupportedError unless the device has kernels for the format. */
export function checkFormat(kv: string, device: Pick<PlannedDevice, "name" | "kvFormats">): void {
  if (device.kvFormats && !device.kvFormats.includes(kv))
    throw new UnsupportedError(
      `KV format ${kv} on the ${device.name} device`,
      `It has: ${device.kvFormats.join(", ")}.`,
    );
}

/** The largest whole number of pages, in tokens, up to `most` for which `fits`; 0 if none does. */
function largest(most: number, fits: (tokens: number) => boolean): number {
  let low = 0;
  let high = Math.floor(most / PAGE_SLOTS);
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle * PAGE_SLOTS)) low = middle;
    else high = middle - 1;
  }
  return low * PAGE_SLOTS;
}

function mib(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
