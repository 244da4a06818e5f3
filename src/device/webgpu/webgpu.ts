/**
 * The WebGPU device: chooses and describes an adapter, and opens a GPUDevice for each allocation, with the adapter's
 * features and only the limits that the plan needs. Adapters that compute nothing are refused. Web standards only:
 * Node's Dawn is passed in as a `GPU` (dawn.ts); a browser's is navigator.gpu.
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
import { Measuring } from "./measure.ts";
import { bufferBytes, type GpuProgram } from "./program.ts";

export interface WebgpuOptions extends AllocationOptions {
  /** Turns off features that the adapter has; for tests and comparisons. */
  traits?: TraitOptions;
  /** false: refuses adapters in software, such as SwiftShader and llvmpipe. */
  software?: boolean;
  /** A sentence that ends the error if there is no usable GPU: what the user can do. */
  wayOut?: string;
}

/** WebGPU's default limits, in bytes: the largest buffer, the largest binding, and a workgroup's memory. */
const DEFAULT_LIMITS = {
  maxBufferSize: 268_435_456,
  maxStorageBufferBindingSize: 134_217_728,
  maxComputeWorkgroupStorageSize: 16_384,
};
/**
 * Default tokens of a step: as many as the matrix kernels need to reach their full speed (bench row `matmul` x 512).
 */
export const GPU_CHUNK = 512;

export interface WebgpuDevice extends Device {
  /** Names as WebGPU gives them, for example "nvidia". */
  readonly adapter: {
    readonly vendor: string;
    readonly name: string;
    /** Further information of the adapter; on Vulkan, the driver's version. */
    readonly driver: string;
    readonly isSoftware: boolean;
  };
  /** The features by which its kernels are chosen. */
  readonly traits: Traits;
  /** Opens a GPUDevice without a graph, with the largest buffers that the adapter allows: for measuring kernels. */
  openGpu(): Promise<Gpu>;
}

/** Throws DeviceError if there is no adapter that computes. */
export async function webgpuDevice(gpu: GPU, options: WebgpuOptions = {}): Promise<WebgpuDevice> {
  const { software = true, wayOut } = options;
  const none = (found: string, cause?: unknown) =>
    new DeviceError("gpu", wayOut ? `${found}. ${wayOut}` : found, { cause });
  let adapter = await requestAdapter(gpu, none);
  if (!adapter) throw none("no WebGPU adapter was found");
  const name = adapterName(adapter);
  const { info, limits } = adapter;
  // Dawn's null backend accepts everything and returns zeros.
  if (/null/i.test(info.device ?? "") && !info.vendor) throw none(`the adapter ${name} computes nothing`);
  if (!software && info.isFallbackAdapter) throw none(`${name} is a program, not a GPU`);
  const traits = traitsOf(adapter, options.traits);
  const measuring = new Measuring(traits, limits);
  const open = async (needed: Record<string, number>) => {
    // An adapter can open only one device.
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
    // Without packing threads, parallel loads gain nothing, and a page's connection is better read sequentially.
    loads: options.packing ? 4 : 1,
    ...gpuFormats(traits),
    measure: (graph) => measuring.footprint(graph),
    async allocate(graph) {
      const program = measuring.program(graph);
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

/** Prefers the discrete GPU if there are several; browsers and Dawn interpret the preference like this. */
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

/** Exactly the limits beyond the defaults that the program needs. */
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
