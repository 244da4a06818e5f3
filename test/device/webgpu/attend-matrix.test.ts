/** Attention with subgroup matrices on a software GPU that has none (emulated-subgroups.ts), against the reference. */
import { expect, it } from "vitest";
import type { Device } from "../../../src/device/contract.ts";
import { WebgpuAllocation } from "../../../src/device/webgpu/allocation.ts";
import type { Traits } from "../../../src/device/webgpu/gpu.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { shaderText } from "../../../src/device/webgpu/wgsl.ts";
import { caseError, type DeviceCase, deviceCases, TOLERANCES } from "../device-cases.ts";
import { packedCases } from "../packed-cases.ts";
import { emulatedSubgroups } from "./emulated-subgroups.ts";
import { ALL_TRAITS, describeGpu, softwareDevice } from "./gpu.ts";

/** Matrix kernels for attention; others as on a device without subgroups. */
function matrixDevice(traits: Traits): Pick<Device, "allocate"> {
  return {
    async allocate(graph) {
      const gpu = await softwareDevice({ subgroups: false }, { maxComputeWorkgroupStorageSize: 32_768 });
      Object.defineProperty(gpu, "traits", { value: traits });
      gpu.pipeline = async (spec) => {
        const { kernel, libs, values } = spec;
        const isMatrix = /^attend\w+Matrix$/.test(kernel);
        const shared = libs?.lanes ? { libs: { lanes: "shared" }, values: { ...values, SUBGROUP: 1 } } : {};
        const text = shaderText({ ...spec, ...shared }, []);
        const code = isMatrix ? emulatedSubgroups(text) : text;
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

const of = (kv: string, name: RegExp) => deviceCases.find((c) => c.kv === kv && name.test(c.name))!;
const CASES: DeviceCase[] = [
  of("rq4", /4\/2 heads of 64, steps \[33,1,1\]/),
  of("int4", /4\/2 heads of 64, steps \[33,1,1\]/),
  ...packedCases("k4c-v4r-n32-f32", TOLERANCES.halfMatrices, [0]),
  ...packedCases("k3c-v3r-n32", TOLERANCES.halfMatrices, [1]),
];

/** SwiftShader compiles one of these for 15 s and more: they are run by hand when the kernels change. */
const IS_ASKED = process.env.NIBBLE_EMULATE !== undefined;

describeGpu(`matrix kernels${IS_ASKED ? "" : " (slow: only with NIBBLE_EMULATE=1)"}`, () => {
  it.skipIf(!IS_ASKED).each(CASES.map((c) => [c.name, c] as const))(
    "%s",
    async (_, testCase) => {
      const traits = { ...ALL_TRAITS, few: 1, several: 1, batch: 1 };
      const error = await caseError(testCase, matrixDevice(traits) as Device);
      expect(error).toBeLessThanOrEqual(TOLERANCES.halfMatrices);
    },
    600_000,
  );
});
