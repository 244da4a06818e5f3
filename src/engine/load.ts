/**
 * A MODEL argument -> something that generates (Node only): finds the files, chooses the device, and leaves the rest to
 * `assemble.ts`. Owns the names of bundled models and of Node's devices.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Device } from "../device/contract.ts";
import { referenceDevice } from "../device/reference/reference.ts";
import { wasmDevice } from "../device/wasm/wasm.ts";
import { ArgumentError, throwIfAborted, UnsupportedError } from "../format/errors.ts";
import { openCheckpoint } from "../format/open.ts";
import { type AssembleOptions, assemble } from "./assemble.ts";
import type { LanguageModel } from "./language-model.ts";

export type { LoadProgress } from "./assemble.ts";

export interface LoadOptions extends AssembleOptions {
  /** "cpu" (default): WASM SIMD on worker threads. "reference": plain loops, for checking. */
  device?: "cpu" | "reference";
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

function openDevice(options: LoadOptions): Device | Promise<Device> {
  const { device = "cpu", threads } = options;
  if (device === "cpu") return wasmDevice({ threads });
  if (device === "reference") return referenceDevice();
  throw new ArgumentError("device", device, "cpu, reference");
}
