/** Loads a MODEL (Node only): chooses the device; find-model.ts finds the files, and load-checkpoint.ts does the rest. */
import type { Device } from "../device/contract.ts";
import { referenceDevice } from "../device/reference/reference.ts";
import { wasmDevice } from "../device/wasm/wasm.ts";
import { dawnGpu, mayHaveGpu, WITHOUT_GPU } from "../device/webgpu/dawn.ts";
import { packThreads } from "../device/webgpu/pack-threads.ts";
import { webgpuDevice } from "../device/webgpu/webgpu.ts";
import { ArgumentError, DeviceError, throwIfAborted } from "../format/errors.ts";
import { openCheckpoint } from "../format/open.ts";
import { type FindOptions, findModel } from "./find-model.ts";
import { withKernels } from "./kernel-memory.ts";
import type { EngineModel, ModelParts } from "./language-model.ts";
import { type LoadCheckpointOptions, loadParts } from "./load-checkpoint.ts";
import { besideDraft, checkTokens, loadDraft } from "./load-draft.ts";
import { closeAll } from "./loaded-model.ts";
import { adapterMemory, ownMemory } from "./machine.ts";

export type { LoadProgress } from "./load-checkpoint.ts";

/** Options of `load`: device, cache format, context, memory, parallel texts, a draft model. */
export interface LoadOptions extends LoadCheckpointOptions, Pick<FindOptions, "offline" | "onDownload"> {
  /**
   * "gpu": WebGPU. "cpu": WASM SIMD on worker threads. "reference": plain loops, for checking. Default: the GPU if
   * there is a real one, else the CPU; `EngineModel.device` says which.
   */
  device?: "gpu" | "cpu" | "reference";
  /** Part of the name of the GPU to use; default: the discrete one. */
  adapter?: string;
  /**
   * The kernels of a GPU: "matrices", "matrices8", "dots" or "floats"; default: the fastest, which is measured once.
   */
  kernels?: string;
  /** CPU threads; default: the physical cores. */
  threads?: number;
  /**
   * 256-bit vectors on the CPU, an experiment of V8's: Node 24 or later on x64. Prompts are read 1.45 times as fast. It
   * applies to all WebAssembly that the process compiles afterwards. Default: false.
   */
  wideSimd?: boolean;
  /**
   * A small model with the same tokens, named like the model: it guesses what comes next if the text itself offers no
   * guess, and the model checks several of its guesses in one step if that is faster. The text stays the same.
   */
  draft?: string;
}

/**
 * Opens a model (a GGUF file, a safetensors folder, "needle", or "hf:owner/name") and loads it. `{ parallel: 4 }` lets
 * four generations run at once with one set of weights (see LanguageModel). `make` constructs the model's class. Throws
 * FormatError, UnsupportedError, MemoryError, ArgumentError, AbortedError.
 */
export async function loadAs<Made extends EngineModel>(
  make: (parts: ModelParts) => Made,
  name: string,
  options: LoadOptions = {},
): Promise<Made> {
  throwIfAborted(options.signal, "loading");
  const open = async (one: string) => openCheckpoint(await findModel(one, options));
  if (options.draft === undefined)
    return make(await loadParts(await open(name), () => openDevice(options), options));
  if (options.guess === 0) throw new ArgumentError("draft", options.draft, "none where guess is 0");
  const draft = await loadDraft(await open(options.draft), () => openDevice(options), options);
  try {
    const memoryBytes = options.memoryBytes && Math.max(0, options.memoryBytes - draft.plan.totalBytes);
    const parts = await loadParts(
      await open(name),
      async () => besideDraft(await openDevice(options), draft),
      { ...options, memoryBytes },
      (tokenizer) => checkTokens(tokenizer, draft.tokenizer),
    );
    const model = make(parts);
    try {
      model.guessWith(draft);
    } catch (error) {
      await model.close();
      throw error;
    }
    return model;
  } catch (error) {
    await closeAll([draft]);
    throw error;
  }
}

/**
 * Opens the device that the options name, with the memory that the system reports. Throws DeviceError if it does not
 * exist, ArgumentError for an unknown name.
 */
export async function openDevice(
  options: Pick<LoadOptions, "device" | "adapter" | "kernels" | "threads" | "wideSimd">,
): Promise<Device> {
  const { device, adapter, kernels, threads, wideSimd } = options;
  const simd = wideSimd ? "wide" : "auto";
  const cpu = async () => ({ ...(await wasmDevice({ threads, simd })), memory: ownMemory() });
  if (wideSimd && device !== undefined && device !== "cpu")
    throw new ArgumentError("wideSimd", true, "false unless the device is cpu");
  if (adapter !== undefined && device !== undefined && device !== "gpu")
    throw new ArgumentError("adapter", adapter, "a GPU's name together with device gpu");
  if (kernels !== undefined && device !== undefined && device !== "gpu")
    throw new ArgumentError("kernels", kernels, "a set's name together with device gpu");
  const named = adapter !== undefined || kernels !== undefined;
  switch (device) {
    case undefined:
      if (wideSimd) return cpu();
      return threads === undefined || named ? ((await anyGpu(adapter, kernels)) ?? cpu()) : cpu();
    case "gpu":
      return gpu(adapter, kernels);
    case "cpu":
      return cpu();
    case "reference":
      return { ...referenceDevice(), memory: ownMemory() };
    default:
      throw new ArgumentError("device", device, "gpu, cpu, reference");
  }
}

async function gpu(adapter?: string, kernels?: string, software = true): Promise<Device> {
  const found = await dawnGpu({ adapter });
  const options = { software, wayOut: WITHOUT_GPU, packing: packThreads() };
  const device = await withKernels((traits) => webgpuDevice(found, { ...options, traits }), { kernels });
  return { ...device, memory: adapterMemory(device.adapter) };
}

/** A real GPU; null if there is none, unless it or its kernels were requested by name. */
export async function anyGpu(adapter?: string, kernels?: string): Promise<Device | null> {
  if (adapter !== undefined || kernels !== undefined) return gpu(adapter, kernels);
  if (!mayHaveGpu()) return null;
  try {
    return await gpu(undefined, undefined, false);
  } catch (error) {
    if (error instanceof DeviceError) return null;
    throw error;
  }
}
