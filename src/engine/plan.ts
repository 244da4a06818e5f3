/**
 * What a model at a context needs, part by part, before anything is allocated. Pure: a graph is recorded and a device
 * measures it. The engine allocates exactly this. What was asked either fits or the error names the shortfall and the
 * largest context that fits; nothing is made smaller silently.
 */
import { kvCodec } from "../cache/codecs.ts";
import { BLOCK_TOKENS } from "../cache/layers.ts";
import type { Device, Footprint, Graph } from "../device/contract.ts";
import { ArgumentError, NibbleError, UnsupportedError } from "../format/errors.ts";
import type { Model } from "../model/model.ts";

export interface PlanOptions {
  /** Positions that a session may reach; default: what the model was trained for, or the most that fits. */
  context?: number;
  /** Texts that are held at once, each with a cache of its own, and so generations at a time. Default 1. */
  sessions?: number;
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
  readonly sessions: number;
  readonly weightBytes: number;
  /** Of all sessions together. */
  readonly cacheBytes: number;
  readonly totalBytes: number;
  readonly limitBytes: number;
}

/** The plan does not fit the device: all together, or one buffer of it. */
export class MemoryError extends NibbleError {
  constructor(
    readonly needBytes: number,
    readonly limitBytes: number,
    readonly context: number,
    /** 0: none does. */
    readonly largestContext: number,
    need: string,
    wayOut: string,
    sessions = 1,
  ) {
    super("memory", `${need}. ${largestContext > 0 ? longest(largestContext, sessions) : wayOut}`);
  }
}

function longest(context: number, sessions: number): string {
  return `Longest context that fits${sessions > 1 ? ` ${sessions} times` : ""}: ${context} tokens.`;
}

/** Each is bound to every kernel of a layer once more. */
const MOST_SESSIONS = 256;

/** Throws MemoryError when what was asked does not fit, ArgumentError or UnsupportedError for wrong options. */
export function planMemory(model: Model, device: PlannedDevice, options: PlanOptions = {}): Plan {
  const { kv = "int4", chunk = device.chunk, outputs = 1, sessions = 1, keepLabels } = options;
  const codec = kvCodec(kv);
  checkFormat(kv, device);
  const { trainedContext } = model.config;
  const asked = options.context;
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
  if (!(Number.isInteger(sessions) && sessions >= 1 && sessions <= MOST_SESSIONS))
    throw new ArgumentError("sessions", sessions, `integers 1 to ${MOST_SESSIONS}`);

  const plan = (context: number): Plan => {
    const maxTokens = Math.min(chunk, context);
    const maxOutputs = Math.min(outputs, maxTokens);
    const timelines = sessions;
    const graph = model.record({ context, maxTokens, maxOutputs, codec, timelines, keepLabels });
    const footprint = device.measure(graph);
    const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
    return {
      graph,
      footprint,
      context,
      kv,
      sessions,
      weightBytes: sum(footprint.weights),
      cacheBytes: sum(footprint.caches),
      totalBytes: footprint.total,
      limitBytes: device.memoryBytes,
    };
  };
  const { bufferBytes = Number.POSITIVE_INFINITY } = device;
  const fits = ({ totalBytes, limitBytes, footprint }: Plan) =>
    totalBytes <= limitBytes && (footprint.largest?.bytes ?? 0) <= bufferBytes;

  const wanted = plan(asked ?? trainedContext);
  if (fits(wanted)) return wanted;
  const largest = largestContext(wanted.context, (context) => fits(plan(context)));
  if (asked === undefined && largest > 0) return plan(largest);
  const { largest: buffer } = wanted.footprint;
  if (buffer && buffer.bytes > bufferBytes)
    throw new MemoryError(
      buffer.bytes,
      bufferBytes,
      wanted.context,
      largest,
      `"${buffer.label}" needs ${mib(buffer.bytes)} in one buffer; the ${device.name} device allows ${mib(bufferBytes)}`,
      "No context fits; choose a smaller model.",
      sessions,
    );
  const { context, totalBytes, weightBytes, limitBytes } = wanted;
  const alone = weightBytes > limitBytes ? "The weights alone do not fit" : "No context fits";
  throw new MemoryError(
    totalBytes,
    limitBytes,
    context,
    largest,
    `${sessions > 1 ? `${sessions} sessions of ` : ""}${context} tokens of ${kv} cache with ${gib(weightBytes)} of weights need ${gib(totalBytes)}; the ${device.name} device can hold ${gib(limitBytes)}`,
    `${alone}; choose a smaller model or quantization.`,
    sessions,
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

/** The largest whole number of cache blocks, in tokens, up to `most` for which `fits`, 0 if none does. */
function largestContext(most: number, fits: (context: number) => boolean): number {
  let low = 0;
  let high = Math.floor(most / BLOCK_TOKENS);
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle * BLOCK_TOKENS)) low = middle;
    else high = middle - 1;
  }
  return low * BLOCK_TOKENS;
}

function mib(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
