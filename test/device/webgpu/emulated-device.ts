/** Software GPUs that run some kernels with features that it has not, by their emulation. */
import { expect } from "vitest";
import type { Device } from "../../../src/device/contract.ts";
import { WebgpuAllocation } from "../../../src/device/webgpu/allocation.ts";
import { Gpu, MATRIX_WORKGROUP_BYTES, type Traits, traitsOf } from "../../../src/device/webgpu/gpu.ts";
import type { KernelName } from "../../../src/device/webgpu/kernels.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { shaderText } from "../../../src/device/webgpu/wgsl.ts";
import { softwareDevice } from "./gpu.ts";
import { sharedGpu } from "./shared.ts";

/** Workgroup memory of kernels with matrices. */
const LIMITS = { maxComputeWorkgroupStorageSize: MATRIX_WORKGROUP_BYTES };

/** A software GPU that runs one kernel by its emulation. */
export async function emulatedGpu(kernel: KernelName, emulate: (text: string) => string): Promise<Gpu> {
  const gpu = await softwareDevice({}, LIMITS);
  const { pipeline } = gpu;
  gpu.pipeline = (spec) =>
    spec.kernel === kernel ? compiled(gpu, kernel, emulate(shaderText(spec, []))) : pipeline.call(gpu, spec);
  return gpu;
}

/** A text that the compiler has nothing to say about. */
async function compiled(gpu: Gpu, kernel: KernelName, code: string): Promise<GPUComputePipeline> {
  const module = gpu.device.createShaderModule({ code });
  const { messages } = await module.getCompilationInfo();
  const wrong = [...messages].map(({ lineNum, message }) => `${lineNum}: ${message}`);
  expect(wrong, kernel).toEqual([]);
  const layout = gpu.device.createPipelineLayout({ bindGroupLayouts: [gpu.bindLayout(kernel)] });
  return gpu.device.createComputePipelineAsync({ layout, compute: { module, entryPoint: "main" } });
}

/** emulated: names of kernels; emulate: their text to plain WGSL. */
export function emulatedDevice(
  traits: Traits,
  emulated: RegExp,
  emulate: (text: string) => string,
): Pick<Device, "allocate"> {
  return {
    async allocate(graph) {
      const adapter = (await (await sharedGpu()).requestAdapter())!;
      const gpu = await Gpu.open(adapter, traitsOf(adapter, { subgroups: false }), LIMITS);
      Object.defineProperty(gpu, "traits", { value: traits });
      gpu.pipeline = async (spec) => {
        const { kernel, libs, values } = spec;
        const plain = Object.entries(libs ?? {}).map(([lib, variant]) => [
          lib,
          variant === "subgroup" ? "shared" : variant,
        ]);
        const shared = {
          libs: Object.fromEntries(plain),
          values: "SUBGROUP" in values ? { ...values, SUBGROUP: 1 } : values,
        };
        const text = shaderText({ ...spec, ...shared }, []);
        return compiled(gpu, kernel, emulated.test(kernel) ? emulate(text) : text);
      };
      const program = compileGraph(graph, traits, gpu.device.limits);
      return WebgpuAllocation.create(graph, program, gpu);
    },
  };
}
