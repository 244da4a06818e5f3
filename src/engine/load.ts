/**
 * open -> plan -> allocate -> load: from a model's name to something that generates. Owns the order of these steps and
 * that nothing is left behind when one of them fails or the caller aborts.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Allocation, Device } from "../device/contract.ts";
import { referenceDevice } from "../device/reference/reference.ts";
import { wasmDevice } from "../device/wasm/wasm.ts";
import { ArgumentError, throwIfAborted, UnsupportedError } from "../format/errors.ts";
import { openCheckpoint } from "../format/open.ts";
import { rowBytes } from "../format/tensor.ts";
import { type Model, openModel } from "../model/model.ts";
import { LanguageModel } from "./language-model.ts";
import { type Plan, type PlanOptions, planMemory } from "./plan.ts";
import { Session } from "./session.ts";

export interface LoadProgress {
  /** Bytes of weights read so far, and in all. */
  bytes: number;
  totalBytes: number;
}

export interface LoadOptions extends PlanOptions {
  /** "cpu" (default): WASM SIMD on worker threads. "reference": plain loops, for checking. */
  device?: "cpu" | "reference";
  /** CPU threads; default: the physical cores. */
  threads?: number;
  onProgress?: (progress: LoadProgress) => void;
  /** Stops the loading; `load` then rejects with AbortedError and nothing stays allocated. */
  signal?: AbortSignal;
}

/** Models that ship with the package, by the name that stands for them. */
const BUNDLED: Readonly<Record<string, string>> = {
  needle: "../../models/needle-14m/needle-14m-Q8_0.gguf",
};

/** The path behind a MODEL argument: a bundled name, or a file or folder as given. */
export function modelPath(name: string): string {
  if (typeof name !== "string" || name === "")
    throw new ArgumentError("model", name, "a path or a bundled name");
  if (name.startsWith("hf:"))
    throw new UnsupportedError(`Downloading ${name}`, "Give the path of a GGUF file or a folder.");
  return Object.hasOwn(BUNDLED, name) && !existsSync(name)
    ? fileURLToPath(new URL(BUNDLED[name], import.meta.url))
    : name;
}

/**
 * Opens a model (a GGUF file, a safetensors folder, or "needle") and loads it.
 * Throws FormatError, UnsupportedError, MemoryError, ArgumentError, AbortedError.
 */
export async function load(name: string, options: LoadOptions = {}): Promise<LanguageModel> {
  throwIfAborted(options.signal, "loading");
  const checkpoint = await openCheckpoint(modelPath(name));
  let allocation: Allocation | null = null;
  try {
    const model = await openModel(checkpoint);
    const device = await openDevice(options);
    const plan = planMemory(model, device, options);
    // Before the weights, which take longer: a broken tokenizer should not cost a long wait.
    const tokenizer = await checkpoint.tokenizer();
    const template = await checkpoint.chatTemplate();
    throwIfAborted(options.signal, "loading");
    allocation = await device.allocate(plan.graph);
    await loadWeights(model, plan, allocation, options);
    const session = new Session(plan.graph, allocation, plan.context, model.config.vocab);
    return new LanguageModel({ model, device, plan, allocation, session, tokenizer, template });
  } catch (error) {
    try {
      await allocation?.close();
    } finally {
      await checkpoint.close();
    }
    throw error;
  }
}

function openDevice(options: LoadOptions): Device | Promise<Device> {
  const { device = "cpu", threads } = options;
  if (device === "cpu") return wasmDevice({ threads });
  if (device === "reference") return referenceDevice();
  throw new ArgumentError("device", device, "cpu, reference");
}

async function loadWeights(
  model: Model,
  plan: Plan,
  allocation: Allocation,
  options: LoadOptions,
): Promise<void> {
  const sources = plan.graph.weights.map((weight) => ({ weight, tensor: model.tensor(weight) }));
  const totalBytes = sources.reduce(
    (sum, { tensor }) => sum + tensor.rows * rowBytes(tensor.type, tensor.cols),
    0,
  );
  let bytes = 0;
  for (const { weight, tensor } of sources) {
    await allocation.load(weight, tensor, (more) => {
      throwIfAborted(options.signal, "loading");
      bytes += more;
      options.onProgress?.({ bytes, totalBytes });
    });
  }
}
