/**
 * Compiled programs: the generated kernel module is that of the WGSL files, every kernel compiles with the values that
 * models give it on devices with and without f16, subgroups and matrices, and a layer takes few dispatches.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { kernelModule, paramsModule } from "../../../scripts/wgsl.js";
import { kvCodec } from "../../../src/cache/codecs.ts";
import { MODES } from "../../../src/device/webgpu/dispatch.ts";
import { FEW_BEFORE_STREAMS, type Traits } from "../../../src/device/webgpu/gpu.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { openModel } from "../../../src/model/model.ts";
import { syntheticCheckpoint } from "../../../src/model/synthetic.ts";
import { ALL_TRAITS, compile, compilingDevice, describeGpu, lacksOfNull, NO_TRAITS } from "./gpu.ts";
import { smallGraph } from "./graphs.ts";

const LIMITS = { maxStorageBufferBindingSize: 2 ** 31 - 4, maxBufferSize: 2 ** 38 };

async function program(shape: string, traits: Traits, codec: string, type: "q4_0" | "f16" = "q4_0") {
  const checkpoint = await syntheticCheckpoint(shape, { type, layers: 6 });
  const model = await openModel(checkpoint);
  const options = { context: 8192, texts: 3, maxTokens: 512, maxOutputs: 3, codec: kvCodec(codec) };
  return compileGraph(model.record(options), traits, LIMITS);
}

it.each([
  ["kernels.ts", kernelModule],
  ["kernel-params.ts", paramsModule],
])("%s is generated from the WGSL files as they are", (name, generate) => {
  const root = fileURLToPath(new URL("../../..", import.meta.url));
  const found = readFileSync(`${root}/src/device/webgpu/${name}`, "utf8");
  expect(found === generate(root), "stale: run node scripts/build.js --wgsl").toBe(true);
});

/** The fewest features first: what compiles with them is not compiled again. */
const TRAITS: Record<string, Traits> = {
  "no subgroups": NO_TRAITS,
  "subgroups of 64": { ...NO_TRAITS, subgroup: 64 },
  "f16, subgroups of 32": { ...ALL_TRAITS, matrices: false },
  "f16 and matrices": ALL_TRAITS,
};

describeGpu("every kernel of", () => {
  it.each(["llama-3.1-70b", "qwen-2.5-7b", "qwen-3-4b", "gemma-3-4b"])("%s compiles", async (shape) => {
    for (const [name, traits] of Object.entries(TRAITS)) {
      const device = await compilingDevice(traits);
      for (const codec of ["int4", "f16"])
        for (const type of ["q4_0", "f16"] as const) {
          const { modes, sampling } = await program(shape, traits, codec, type);
          for (const { kernel } of [...Object.values(modes).flat(), ...sampling.all])
            await compile(device, kernel).catch((error: Error) => {
              if (!(traits.matrices && lacksOfNull(error))) throw new Error(name, { cause: error });
            });
        }
    }
  });
});

it("a layer of Llama takes six dispatches for a token", async () => {
  const { modes } = await program("llama-3.1-8b", ALL_TRAITS, "int4");
  const labels = modes.decode.map(({ label }) => label);
  const layer = "matmul, append attendDecode attendMerge matmul, norm matmul, gate matmul, norm";
  expect(labels.join(" ")).toContain(`${layer} ${layer} ${layer}`);
});

it("of several rows no product of a layer of Llama needs its splits added up: those who read them do it", async () => {
  const { modes } = await program("llama-3.1-8b", { ...ALL_TRAITS, few: FEW_BEFORE_STREAMS }, "int4");
  const layer =
    "matmul appendKv attendDecode attendPrompt attendMerge matmul rmsNorm matmul gate matmul rmsNorm";
  for (const mode of ["several", "batch"] as const) {
    // A kernel for up to 8 rows, one for more.
    const labels = modes[mode]
      .map(({ label }) => label)
      .join(" ")
      .replaceAll("matmul matmul", "matmul");
    expect(labels, mode).toContain(`${layer} ${layer}`);
  }
});

it.each([
  // maxTokens; most rows of few, of several, and of a batch; the modes that steps meet.
  [1, [8, 16, 64], ["decode"]],
  [2, [1, 1, 1], ["decode", "prompt"]],
  [2, [1, 1, 64], ["decode", "batch"]],
  [8, [8, 16, 64], ["decode", "few"]],
  [9, [8, 8, 8], ["decode", "few", "prompt"]],
  [9, [8, 16, 64], ["decode", "few", "several"]],
  [17, [8, 16, 64], ["decode", "few", "several", "batch"]],
  [64, [8, 8, 64], ["decode", "few", "batch"]],
  [65, [8, 16, 64], ["decode", "few", "several", "batch", "prompt"]],
] as const)("a graph of %d rows, modes up to %j: %j", (maxTokens, [few, several, batch], wanted) => {
  const traits = { ...ALL_TRAITS, few, several, batch };
  const { modes } = compileGraph(smallGraph(1, 32, maxTokens), traits, LIMITS);
  expect(MODES.filter((mode) => modes[mode].length > 0)).toEqual(wanted);
});

it("the plan is the sum of its buffers, and weights keep their four bits", async () => {
  const { buffers, footprint } = await program("llama-3.1-8b", ALL_TRAITS, "int4");
  const sum = (list: readonly number[]) => list.reduce((a, b) => a + b, 0);
  const { weights, caches, activations, workspace, total } = footprint;
  expect(sum(weights) + sum(caches) + activations + workspace).toBe(total);
  expect(sum(buffers.map(({ bytes }) => bytes))).toBeLessThanOrEqual(total);
  // 6 layers of 218.1 million and two tables of 525.3 million weights, 4.5 bits each.
  expect(sum(weights) / ((6 * 218.112e6 + 2 * 525.337e6) * 4.5)).toBeCloseTo(1 / 8, 3);
  // 8 KV heads of 128, 5 bits a value.
  expect(sum(caches)).toBe((6 * 8192 * 8 * 128 * 2 * 5) / 8);
});
