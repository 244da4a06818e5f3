/**
 * The WebGPU device: chooses and describes an adapter, and opens a GPUDevice for each allocation with the features it
 * has and no more limits than the plan needs. Refuses adapters that compute nothing.
 * Web standards only: Node's Dawn comes in as a `GPU` (dawn.ts), a browser's is navigator.gpu.
 */
import { DeviceError } from "../../format/errors.ts";
import type { Device } from "../contract.ts";
import { type AllocationOptions, WebgpuAllocation } from "./allocation.ts";
import {
  adapterName,
  Gpu,
  MATRIX_WORKGROUP_BYTES,
  oneLine,
  type TraitOptions,
  type Traits,
  traitsOf,
} from "./gpu.ts";
import { gpuFormats } from "./kv.ts";
import { bufferBytes, compileGraph, type GpuProgram } from "./program.ts";

export interface WebgpuOptions extends AllocationOptions {
  /** Refuses features that the adapter has; for tests and comparisons. */
  traits?: TraitOptions;
  /** false: refuses adapters that are programs, such as SwiftShader and llvmpipe. */
  software?: boolean;
  /** A sentence for who has no GPU: what to do here. */
  wayOut?: string;
}

/** Longest single buffer or binding of WebGPU's default limits. */
const DEFAULT_LIMITS = {
  maxBufferSize: 268_435_456,
  maxStorageBufferBindingSize: 134_217_728,
  maxComputeWorkgroupStorageSize: 16_384,
};
/** Default tokens of a step: as many as the matrix kernels need to reach their speed; bench row `matmul` x 512. */
export const GPU_CHUNK = 512;

export interface WebgpuDevice extends Device {
  /** Names as WebGPU has them: "nvidia". */
  readonly adapter: {
    readonly vendor: string;
    readonly name: string;
    /** What the adapter says besides: a driver's version on Vulkan. */
    readonly driver: string;
    readonly isSoftware: boolean;
  };
  /** What its kernels count on. */
  readonly traits: Traits;
  /** A GPUDevice without a graph, with all the memory that the adapter allows: for measuring kernels. */
  openGpu(): Promise<Gpu>;
}

/** DeviceError when there is no adapter that computes. */
export async function webgpuDevice(gpu: GPU, options: WebgpuOptions = {}): Promise<WebgpuDevice> {
  const { software = true, wayOut } = options;
  const none = (found: string, cause?: unknown) =>
    new DeviceError("gpu", wayOut ? `${found}. ${wayOut}` : found, { cause });
  let adapter = await requestAdapter(gpu, none);
  if (!adapter) throw none("no WebGPU adapter was found");
  const name = adapterName(adapter);
  const { info, limits } = adapter;
  // Dawn's null backend accepts everything and gives zeros.
  if (/null/i.test(info.device ?? "") && !info.vendor) throw none(`the adapter ${name} computes nothing`);
  if (!software && info.isFallbackAdapter) throw none(`${name} is a program, not a GPU`);
  const traits = traitsOf(adapter, options.traits);
  const open = async (needed: Record<string, number>) => {
    // An adapter gives one device only.
    const used = adapter ?? (await requestAdapter(gpu, none));
    adapter = null;
    if (!used) throw none(`the adapter ${name} is gone`);
    return Gpu.open(used, traits, needed, gpu);
  };
  return {
    name: "gpu",
    description: `${name} through WebGPU (${describe(traits, info)})`,
    adapter: {
      ...{ vendor: info.vendor, name, driver: `${info.architecture} ${info.description}` },
      isSoftware: info.isFallbackAdapter,
    },
    traits,
    memoryBytes: Number.MAX_SAFE_INTEGER,
    chunk: GPU_CHUNK,
    bufferBytes: bufferBytes(limits),
    chooses: true,
    // Without threads nothing is won, and a page's connection wants reads one after another.
    loads: options.packing ? 4 : 1,
    ...gpuFormats(traits),
    measure: (graph) => compileGraph(graph, traits, limits).footprint,
    async allocate(graph) {
      const program = compileGraph(graph, traits, limits);
      const opened = await open(neededLimits(program, traits));
      try {
        return await WebgpuAllocation.create(graph, program, opened, options);
      } catch (error) {
        opened.close();
        throw error;
      }
    },
    openGpu() {
      const { maxBufferSize, maxStorageBufferBindingSize } = limits;
      return open(beyondDefaults({ maxBufferSize, maxStorageBufferBindingSize }, traits));
    },
  };
}

/** The discrete GPU where there are several: browsers and Dawn take the preference so. */
function requestAdapter(gpu: GPU, none: (found: string, cause: unknown) => DeviceError) {
  return gpu.requestAdapter({ powerPreference: "high-performance" }).catch((cause: unknown) => {
    throw none(`no WebGPU adapter can be had: ${oneLine(cause)}`, cause);
  });
}

function describe(
  { f16, subgroup, matrices, matrices8 }: Traits,
  { isFallbackAdapter }: GPUAdapterInfo,
): string {
  const parts = [
    ...(isFallbackAdapter ? ["in software"] : []),
    matrices ? "subgroup matrices" : f16 ? "f16" : "f32",
    ...(matrices8 ? ["subgroup matrices of 8"] : []),
    subgroup ? `subgroups of ${subgroup}` : "no subgroups",
  ];
  return parts.join(", ");
}

/** What the program needs beyond the defaults, exactly. */
function neededLimits(program: GpuProgram, traits: Traits): Record<string, number> {
  const largest = Math.max(...program.buffers.map(({ bytes }) => bytes));
  return beyondDefaults({ maxBufferSize: largest, maxStorageBufferBindingSize: largest }, traits);
}

function beyondDefaults(
  buffers: Pick<typeof DEFAULT_LIMITS, "maxBufferSize" | "maxStorageBufferBindingSize">,
  traits: Traits,
): Record<string, number> {
  const wanted = {
    ...buffers,
    maxComputeWorkgroupStorageSize: traits.matrices || traits.matrices8 ? MATRIX_WORKGROUP_BYTES : 0,
  };
  return Object.fromEntries(
    Object.entries(wanted).filter(
      ([key, value]) => value > DEFAULT_LIMITS[key as keyof typeof DEFAULT_LIMITS],
    ),
  );
}
