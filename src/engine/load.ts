/**
 * A MODEL argument -> something that generates (Node only): finds the files, chooses the device, and leaves the rest to
 * `assemble.ts`. Owns the names of bundled models and of Node's devices.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Device } from "../device/contract.ts";
import { referenceDevice } from "../device/reference/reference.ts";
import { wasmDevice } from "../device/wasm/wasm.ts";
import { dawnGpu, mayHaveGpu, WITHOUT_GPU } from "../device/webgpu/dawn.ts";
import { webgpuDevice } from "../device/webgpu/webgpu.ts";
import { ArgumentError, DeviceError, throwIfAborted, UnsupportedError } from "../format/errors.ts";
import { openCheckpoint } from "../format/open.ts";
import { type AssembleOptions, assemble } from "./assemble.ts";
import type { LanguageModel } from "./language-model.ts";

export type { LoadProgress } from "./assemble.ts";

export interface LoadOptions extends AssembleOptions {
  /**
   * "gpu": WebGPU. "cpu": WASM SIMD on worker threads. "reference": plain loops, for checking. Default: the GPU where
   * an adapter exists that is one, else the CPU; `LanguageModel.device` says which.
   */
  device?: "gpu" | "cpu" | "reference";
  /** Part of the name of the GPU to use; default: the discrete one. */
  adapter?: string;
  /** CPU threads; default: the physical cores. */
  threads?: number;
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
  return assemble(await openCheckpoint(modelPath(name)), () => openDevice(options), options);
}

/** Opens the device that the options name. DeviceError when it is not there, ArgumentError for an unknown name. */
export async function openDevice(
  options: Pick<LoadOptions, "device" | "adapter" | "threads">,
): Promise<Device> {
  const { device, adapter, threads } = options;
  const cpu = () => wasmDevice({ threads });
  if (adapter !== undefined && device !== undefined && device !== "gpu")
    throw new ArgumentError("adapter", adapter, "a GPU's name together with device gpu");
  switch (device) {
    case undefined:
      return threads === undefined || adapter !== undefined ? ((await anyGpu(adapter)) ?? cpu()) : cpu();
    case "gpu":
      return gpu(adapter);
    case "cpu":
      return cpu();
    case "reference":
      return referenceDevice();
    default:
      throw new ArgumentError("device", device, "gpu, cpu, reference");
  }
}

async function gpu(adapter: string | undefined, software = true): Promise<Device> {
  return webgpuDevice(await dawnGpu({ adapter }), { software, wayOut: WITHOUT_GPU });
}

/** A GPU that is one; null when there is none, unless it was asked for by name. */
async function anyGpu(adapter: string | undefined): Promise<Device | null> {
  if (adapter !== undefined) return gpu(adapter);
  if (!mayHaveGpu()) return null;
  try {
    return await gpu(undefined, false);
  } catch (error) {
    if (error instanceof DeviceError) return null;
    throw error;
  }
}
