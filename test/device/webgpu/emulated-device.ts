/** A software GPU that runs some kernels with features that it has not, by their emulation; others as without subgroups. */
import { expect } from "vitest";
import type { Device } from "../../../src/device/contract.ts";
import { WebgpuAllocation } from "../../../src/device/webgpu/allocation.ts";
import type { Traits } from "../../../src/device/webgpu/gpu.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { shaderText } from "../../../src/device/webgpu/wgsl.ts";
import { softwareDevice } from "./gpu.ts";

/** emulated: names of kernels; emulate: their text to plain WGSL. */
export function emulatedDevice(
  traits: Traits,
  emulated: RegExp,
  emulate: (text: string) => string,
): Pick<Device, "allocate"> {
  return {
    async allocate(graph) {
      const gpu = await softwareDevice({ subgroups: false }, { maxComputeWorkgroupStorageSize: 32_768 });
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
        const code = emulated.test(kernel) ? emulate(text) : text;
        const module = gpu.device.createShaderModule({ code });
        const { messages } = await module.getCompilationInfo();
        const wrong = [...messages].map(({ lineNum, message }) => `${lineNum}: ${message}`);
        expect(wrong, kernel).toEqual([]);
        const layout = gpu.device.createPipelineLayout({ bindGroupLayouts: [gpu.bindLayout(kernel)] });
        return gpu.device.createComputePipelineAsync({ layout, compute: { module, entryPoint: "main" } });
      };
      const program = compileGraph(graph, traits, gpu.device.limits);
      return WebgpuAllocation.create(graph, program, gpu);
    },
  };
}
