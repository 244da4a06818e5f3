/**
 * Loads a model in a page: from a URL, from files that the user chose, or from any Source, onto the browser's WebGPU.
 * Web standards only; `load.ts` is its counterpart in Node.
 */
import { type WebgpuDevice, webgpuDevice } from "../device/webgpu/webgpu.ts";
import { blobFolder, blobSource } from "../format/blob-source.ts";
import type { Checkpoint } from "../format/checkpoint.ts";
import { ggufCheckpoint, safetensorsCheckpoint } from "../format/checkpoints.ts";
import { ArgumentError, DeviceError, throwIfAborted } from "../format/errors.ts";
import type { Folder } from "../format/folder.ts";
import { httpFolder, httpSiblings, httpSource } from "../format/http-source.ts";
import type { Source } from "../format/source.ts";
import type { EngineModel } from "./language-model.ts";
import { type LoadCheckpointOptions, loadEngineModel } from "./load-checkpoint.ts";

/**
 * - string, URL: a GGUF file (any part of a split one), or, with "/" at its end, a safetensors folder. The server must
 * support range requests, and one of another origin must allow the page (CORS).
 * - File, Blob: a GGUF file. Several files: the parts of one, or those of a safetensors folder.
 * - Source: a GGUF file from anywhere. Folder: a safetensors folder from anywhere.
 */
export type WebModel = string | URL | Blob | Iterable<File> | Source | Folder;

/** Options of `load` in a page. */
export interface WebLoadOptions extends LoadCheckpointOptions {
  /** The only device in a page, and the default. */
  device?: "gpu";
  /** Default: navigator.gpu. */
  gpu?: GPU;
  /** Sent with every request for a URL: { authorization: "Bearer ..." }. */
  headers?: Readonly<Record<string, string>>;
  /** How requests use the browser's cache; see HttpOptions. */
  cache?: RequestCache;
}

/**
 * Loads a model onto the GPU. Throws DeviceError without WebGPU, NibbleError "io" if the network fails, FormatError,
 * UnsupportedError, MemoryError, ArgumentError, AbortedError.
 */
export async function load(model: WebModel, options: WebLoadOptions = {}): Promise<EngineModel> {
  throwIfAborted(options.signal, "loading");
  const { device = "gpu" } = options;
  if (device !== "gpu") throw new ArgumentError("device", device, "gpu");
  const { gpu = pageGpu() } = options;
  return loadEngineModel(await open(model, options), () => pageDevice(gpu), options);
}

/**
 * Without subgroup matrices, which no browser has without a flag: bundles leave their kernels out (scripts/wgsl.js).
 */
export function pageDevice(gpu: GPU): Promise<WebgpuDevice> {
  return webgpuDevice(gpu, { traits: { matrices: false, matrices8: false }, wayOut: NO_ADAPTER });
}

const NO_ADAPTER =
  "Check that hardware acceleration is on in the browser's settings; see chrome://gpu or about:support.";

async function open(model: WebModel, options: WebLoadOptions): Promise<Checkpoint> {
  if (typeof model === "string" || model instanceof URL) return openUrl(model, options);
  if (model instanceof Blob) return ggufCheckpoint(blobSource(model));
  if (typeof model === "object" && model !== null) {
    if (Symbol.iterator in model) return openFiles([...model]);
    if ("read" in model) return ggufCheckpoint(model);
    if ("open" in model) return safetensorsCheckpoint(model);
  }
  throw new ArgumentError("model", model, "a URL, a File, files, a Source or a Folder");
}

async function openUrl(url: string | URL, options: WebLoadOptions): Promise<Checkpoint> {
  const { headers, cache, signal } = options;
  const http = { headers, cache, signal };
  if (/^[^?#]*\/(?:[?#]|$)/.test(String(url))) return safetensorsCheckpoint(httpFolder(url, http));
  return ggufCheckpoint(await httpSource(url, http), httpSiblings(url, http));
}

async function openFiles(files: readonly File[]): Promise<Checkpoint> {
  const gguf = files.find(({ name }) => name.endsWith(".gguf"));
  const folder = blobFolder(files);
  return gguf ? ggufCheckpoint(blobSource(gguf), folder) : safetensorsCheckpoint(folder);
}

/** navigator.gpu. Throws DeviceError if there is none. */
export function pageGpu(): GPU {
  const gpu = (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
  if (gpu) return gpu;
  throw noWebgpu();
}

function noWebgpu(): DeviceError {
  const secure = (globalThis as { isSecureContext?: boolean }).isSecureContext !== false;
  const wayOut = secure
    ? "Use a current Chrome, Edge, Firefox or Safari, and check that WebGPU is not switched off."
    : "It is available to pages over https and on localhost only.";
  return new DeviceError("gpu", `this page has no WebGPU (navigator.gpu). ${wayOut}`);
}
