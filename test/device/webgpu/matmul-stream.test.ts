/** matmulStream on a software GPU that has no matrices (emulated.ts), against float64 sums. */
import { expect, it } from "vitest";
import type { Device } from "../../../src/device/contract.ts";
import { FEW_BEFORE_STREAMS, type Gpu, type Traits } from "../../../src/device/webgpu/gpu.ts";
import type { KernelSource } from "../../../src/device/webgpu/kernel-source.ts";
import { KERNELS } from "../../../src/device/webgpu/kernels.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { BLOCKS, type TensorType } from "../../../src/format/tensor.ts";
import { caseError, caseSteps } from "../case-runs.ts";
import { deviceCases } from "../device-cases.ts";
import { emulated } from "./emulated.ts";
import { emulatedDevice, emulatedGpu } from "./emulated-device.ts";
import { emulatedDots } from "./emulated-dots.ts";
import { ALL_TRAITS, describeGpu } from "./gpu.ts";
import { errorOf } from "./products.ts";

/** Weights and activations are rounded to f16. */
const TOLERANCE = 1.2e-3;

let made: Promise<Gpu> | undefined;

/** matmulStream, and matmulDots for fewer rows. */
const streaming = (traits: Traits) =>
  emulatedDevice(traits, /^matmul(Stream|Dots)$/, (text) =>
    text.includes("alias Left") ? emulated(text) : emulatedDots(text),
  ) as Device;

describeGpu("matmulStream", () => {
  const traits: Traits = ALL_TRAITS;
  it.each([
    // Several tiles of a workgroup.
    ["q4_0", 64, [9000], 5],
    // Slices past the last column, splits; rows that are no whole tiles; several tiles.
    ["q4_0", 1280, [40, 21], 13],
    ["q6_k", 256, [20], 5],
    ["nvfp4", 256, [20], 8],
  ] as [TensorType, number, number[], number][])(
    "%s of %d columns, %j rows, %d tokens",
    async (type, cols, rows, tokens) => {
      expect(cols % BLOCKS[type].elements).toBe(0);
      made ??= emulatedGpu("matmulStream", emulated);
      const shape = { type, rows, cols, tokens, few: 8, several: 16, bias: true };
      expect(await errorOf(await made, traits, shape)).toBeLessThan(TOLERANCE);
    },
  );

  it("is like all kernels: none has a matrix in a loop without an initializer, which NVIDIA's driver does not zero again", () => {
    for (const { name, text } of Object.values<KernelSource>(KERNELS))
      expect(text.match(/^ {4,}var \w+: Result;/gm), name).toBeNull();
  });

  it("leaves the sums of its splits to norms and the gate", async () => {
    const chain = deviceCases.find(({ name }) => name.includes("1056 and 1088 wide"))!;
    const traits = { ...ALL_TRAITS, few: FEW_BEFORE_STREAMS, several: 16, batch: 16 };
    const { graph } = await caseSteps(chain);
    const limits = { maxStorageBufferBindingSize: 2 ** 31 - 4, maxBufferSize: 2 ** 31 };
    const { few, several } = compileGraph(graph, traits, limits).modes;
    // Logits are wanted whole. Few rows have two dispatches of a product, for two rows and for three or four.
    for (const [mode, product] of [
      [several, "matmul"],
      [few, "matmul matmul"],
    ] as const)
      expect(mode.map(({ label }) => label).join(" ")).toBe(
        `embed rmsNorm ${product} rmsNorm ${product} gate ${product} rmsNorm ${product} sumSplits`,
      );
    expect(await caseError(chain, streaming(traits))).toBeLessThan(chain.tolerance);
  });

  it("leaves the sums of its splits to what appends them", async () => {
    const appended = deviceCases.find(({ name }) => name.includes("q, k and v into f16, q4_0"))!;
    const traits = { ...ALL_TRAITS, f16: false, few: FEW_BEFORE_STREAMS, several: 16, batch: 16 };
    const { graph } = await caseSteps(appended);
    const limits = { maxStorageBufferBindingSize: 2 ** 31 - 4, maxBufferSize: 2 ** 31 };
    const labels = compileGraph(graph, traits, limits).modes.several.map(({ label }) => label);
    expect(labels).not.toContain("sumSplits");
    expect(await caseError(appended, streaming(traits))).toBeLessThan(appended.tolerance);
  });
});
