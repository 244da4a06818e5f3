/**
 * Examines this machine (Node only): its hardware, the GPUs that WebGPU shows, the device that models will use and why,
 * and how fast its memory lets them generate. What cannot be determined is a line in the report.
 */
import { readdirSync, readFileSync } from "node:fs";
import type { Device } from "../device/contract.ts";
import { compileKernels } from "../device/wasm/module.ts";
import { measureBandwidth } from "../device/webgpu/bandwidth.ts";
import { dawnAdapters } from "../device/webgpu/dawn.ts";
import { adapterName, Gpu, type Traits, traitsOf } from "../device/webgpu/gpu.ts";
import { openDevice } from "../engine/load.ts";
import { type Machine, thisMachine } from "../engine/machine.ts";
import { limitsOf, type PlannedDevice, planContext, shortfallOf } from "../engine/plan.ts";
import { DeviceError } from "../format/errors.ts";
import { adviceFor } from "./advice.ts";
import { attempts } from "./attempts.ts";
import { measureReadRate } from "./cpu-bandwidth.ts";
import { plannedModel } from "./plan/planned.ts";
import { recommendedModel } from "./plan/suited-models.ts";
import { weightBytesOfToken } from "./plan/token-bytes.ts";

/** A GPU as `doctor` finds it. */
export interface AdapterFinding {
  readonly name: string;
  readonly vendor: string;
  readonly architecture: string;
  /** A GPU emulated in software. */
  readonly software: boolean;
  /** Features that our kernels use, and whether it has them. */
  readonly traits: Traits;
  readonly limits: Readonly<Record<string, number>>;
  /** WebGPU's names of all features. */
  readonly features: readonly string[];
}

/** The maximum speed of a model of this size: each token reads all weights and the cache once. */
export interface SpeedBound {
  readonly shape: string;
  readonly weights: string;
  readonly kv: string;
  readonly contexts: readonly {
    readonly tokens: number;
    readonly bytes: number;
    readonly tokensPerSecond: number;
  }[];
  readonly fits: boolean;
}

/** The results of `doctor`. */
export interface Diagnosis {
  readonly machine: Machine;
  readonly cpu: {
    readonly relaxedSimd: boolean;
    readonly threads: number;
    readonly readBytesPerSecond: number | null;
  };
  readonly adapters: readonly AdapterFinding[];
  /** Why there is no adapter. */
  readonly gpuProblem: string | null;
  readonly gpuReadBytesPerSecond: number | null;
  /** The default device of `run`. */
  readonly used: {
    readonly device: "gpu" | "cpu";
    readonly description: string;
    readonly reason: string;
    /** For a GPU: the set of kernels in use, and milliseconds of those that were timed. */
    readonly kernels: NonNullable<Device["kernels"]> | null;
  };
  readonly speeds: readonly SpeedBound[];
  /** A model to begin with, as `load` takes it; null: none of the list fits. */
  readonly model: string | null;
  readonly advice: readonly string[];
  /** What could not be measured, one line each. */
  readonly problems: readonly string[];
}

const SHAPES = ["llama-3.2-1b", "llama-3.1-8b", "llama-3.1-70b", "qwen-3-30b-a3b"];
const CONTEXTS = [0, 32_768];
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
] as const;

/** Takes about three seconds and up to 512 MiB of memory. */
export async function diagnose(): Promise<Diagnosis> {
  const found = thisMachine();
  const { problems, attempt } = attempts();
  const { relaxed } = await compileKernels();
  const cpuRate = await attempt(() => measureReadRate(found.cores, Math.min(2 ** 29, found.freeBytes / 4)));
  const { adapters, gpuProblem, rate: gpuRate } = await examineGpus(attempt);
  const device = await openDevice({});
  const isGpu = device.name === "gpu";
  // If there are several GPUs, the one that will be used.
  const machine = isGpu ? { ...found, gpuMemory: device.memory ?? null } : found;
  const rate = isGpu ? gpuRate : (cpuRate?.bytesPerSecond ?? null);
  const real = adapters.filter(({ software }) => !software);
  return {
    machine,
    cpu: {
      relaxedSimd: relaxed,
      threads: machine.cores,
      readBytesPerSecond: cpuRate?.bytesPerSecond ?? null,
    },
    adapters,
    gpuProblem,
    gpuReadBytesPerSecond: gpuRate,
    used: {
      device: isGpu ? "gpu" : "cpu",
      description: device.description,
      reason: reason(isGpu, real.length, adapters.length),
      kernels: device.kernels ?? null,
    },
    speeds: rate === null ? [] : await Promise.all(SHAPES.map((shape) => speedBound(shape, device, rate))),
    model: (await recommendedModel(device))?.name ?? null,
    advice: adviceFor({
      machine,
      hasGpu: isGpu,
      gpuProblem,
      relaxedSimd: relaxed,
      f16: real[0]?.traits.f16 ?? true,
      osRelease: read("/etc/os-release"),
      gpuVendors: machine.platform === "linux" ? displayVendors() : [],
    }),
    problems,
  };
}

function reason(isGpu: boolean, real: number, all: number): string {
  if (isGpu)
    return real > 1
      ? "the first GPU in WebGPU's order of speed; --adapter chooses another"
      : "there is a GPU";
  return all > 0
    ? "WebGPU shows GPUs in software only, which are slower than the CPU"
    : "WebGPU shows no GPU";
}

async function examineGpus(attempt: <T>(part: () => Promise<T>) => Promise<T | null>) {
  const adapters: AdapterFinding[] = [];
  let gpuProblem: string | null = null;
  let rate: number | null = null;
  try {
    for (const { name, gpu } of await dawnAdapters()) {
      const adapter = await gpu.requestAdapter();
      if (!adapter) continue;
      const found = finding(name, adapter);
      adapters.push(found);
      // The first real one will be used.
      if (!found.software && rate === null) rate = await attempt(() => readRate(gpu, adapter, found.traits));
    }
    if (adapters.length === 0) gpuProblem = "WebGPU shows no adapter";
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    gpuProblem = error.message;
  }
  return { adapters, gpuProblem, rate };
}

function finding(name: string, adapter: GPUAdapter): AdapterFinding {
  const { info, limits, features } = adapter;
  return {
    name: name || adapterName(adapter),
    vendor: info.vendor,
    architecture: info.architecture,
    software: info.isFallbackAdapter,
    traits: traitsOf(adapter),
    limits: Object.fromEntries(LIMITS.map((limit) => [limit, limits[limit]])),
    features: [...features].sort(),
  };
}

/** An adapter gives one device, which is closed at the end. */
async function readRate(root: GPU, adapter: GPUAdapter, traits: Traits): Promise<number> {
  const bytes = Math.min(2 ** 28, adapter.limits.maxStorageBufferBindingSize, adapter.limits.maxBufferSize);
  const limits: Record<string, number> = {};
  // Beyond WebGPU's defaults of 128 and 256 MiB only.
  if (bytes > 2 ** 27) limits.maxStorageBufferBindingSize = bytes;
  const gpu = await Gpu.open(adapter, traits, limits, root);
  try {
    return (await measureBandwidth(gpu)).readBytesPerSecond;
  } finally {
    gpu.close();
  }
}

async function speedBound(shape: string, device: PlannedDevice, bytesPerSecond: number): Promise<SpeedBound> {
  const model = await plannedModel(shape);
  const most = Math.max(...CONTEXTS);
  const plan = planContext(model, device, { context: most });
  const { cacheBytes } = plan;
  const read = weightBytesOfToken(plan);
  return {
    shape,
    weights: "q4_0",
    kv: plan.kv,
    contexts: CONTEXTS.map((tokens) => {
      const bytes = read + (cacheBytes * tokens) / most;
      return { tokens, bytes, tokensPerSecond: bytesPerSecond / bytes };
    }),
    fits: shortfallOf(plan, device, limitsOf(device, {}), 0) === null,
  };
}

/** Vendors of display controllers (PCI class 03). */
function displayVendors(): string[] {
  const folder = "/sys/bus/pci/devices";
  try {
    return readdirSync(folder)
      .filter((name) => read(`${folder}/${name}/class`).startsWith("0x03"))
      .map((name) => read(`${folder}/${name}/vendor`).trim());
  } catch {
    return [];
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
