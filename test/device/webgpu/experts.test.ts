/**
 * Mixtures of experts on WebGPU beyond the conformance cases: kernels that only real GPUs run compile, experts are split over
 * bindings, one token's dispatches meet the picked experts alone, and a router's NaN reads nothing out of range.
 */
import { describe, expect, it } from "vitest";
import type { Graph } from "../../../src/device/contract.ts";
import { Recorder } from "../../../src/device/recorder.ts";
import { MODES } from "../../../src/device/webgpu/dispatch.ts";
import { routeDispatch } from "../../../src/device/webgpu/experts.ts";
import type { Traits } from "../../../src/device/webgpu/gpu.ts";
import { KERNELS } from "../../../src/device/webgpu/kernels.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { weightForm } from "../../../src/device/webgpu/weights.ts";
import { BLOCKS, type TensorType } from "../../../src/format/tensor.ts";
import { caseError, gpuTolerance } from "../case-runs.ts";
import { deviceCases } from "../device-cases.ts";
import { ALL_TRAITS, describeGpu, NO_TRAITS, nullDevice, softwareDevice } from "./gpu.ts";
import { Buffers, methodsOf, runDispatches, stepOf } from "./products.ts";
import { pretended } from "./wrapped.ts";

const LIMITS = { maxStorageBufferBindingSize: 2 ** 31 - 4, maxBufferSize: 2 ** 38 };

/** Qwen3-MoE's shape: a block's experts, on rows of `cols`. */
function mixture(type: TensorType, experts = 128, bias = false): Graph {
  const [cols, ffn, k] = [2048, 768, 8];
  const op = new Recorder(512, 1);
  const x = op.embed(op.weight("table", "matrix", "q8_0", 97, cols));
  const picks = op.route(op.matmul(x, op.weight("router", "matrix", "f32", experts, cols)), {
    k,
    normalise: true,
  });
  const of = (name: string, rows: number, width: number) => ({
    weight: op.weight(name, "matrix", type, experts * rows, width),
    bias: bias ? op.weight(`${name} bias`, "vector", "f32", 1, experts * rows) : null,
  });
  const product = (value: typeof x, { weight, bias }: ReturnType<typeof of>) =>
    op.expertMatmul(value, picks, weight, { experts, bias });
  const gated = op.gate(product(x, of("gate", ffn, cols)), product(x, of("up", ffn, cols)), "silu");
  const down = op.combine(product(gated, of("down", cols, ffn)), picks);
  return op.finish(op.matmul(op.takeOutputs(down), op.weight("output", "matrix", "q8_0", 97, cols)));
}

const TRAITS: Record<string, Traits> = {
  all: ALL_TRAITS,
  "matrices, subgroups of 64": { ...ALL_TRAITS, subgroup: 64 },
  "subgroups of 64": { ...NO_TRAITS, subgroup: 64 },
  floats: { ...NO_TRAITS, subgroup: 32, floats: true },
  "matrices of 8": { ...NO_TRAITS, subgroup: 32, floats: true, matrices8: true },
  nothing: NO_TRAITS,
};

it("no kernel has more storage buffers than every device allows", () => {
  for (const { name, bindings } of Object.values(KERNELS))
    expect(bindings.filter(([, type]) => type !== "uniform").length, name).toBeLessThanOrEqual(8);
});

/** A type of each form. */
const EACH_FORM = [
  ...new Map((Object.keys(BLOCKS) as TensorType[]).map((type) => [weightForm(type), type])).values(),
];

describeGpu("kernels of experts compile", () => {
  it.each(Object.entries(TRAITS))("with %s", async (name, traits) => {
    const device = await nullDevice(traits);
    for (const type of EACH_FORM) {
      const { modes } = compileGraph(mixture(type, 8, type === "mxfp4"), traits, LIMITS);
      // Other kernels with matrices are written for subgroups of 32.
      const tested = MODES.flatMap((mode) => modes[mode]).filter(
        ({ label }) => label === "expertMatmul" || !name.startsWith("matrices"),
      );
      for (const { kernel } of tested)
        await device.pipeline(kernel).catch((error: Error) => {
          // The null backend's subgroups have up to 128 lanes, of which matrices want whole ones in a workgroup.
          const partial = error.message.includes("must be a multiple of the device maxSubgroupSize (128)");
          // It has 16 KiB of workgroup memory; devices with matrices have 32.
          const large = /matmul(Matrix|Square).*workgroup storage \(20512 bytes\)/.test(error.message);
          if (!((traits.matrices || traits.matrices8) && (partial || large))) throw error;
        });
    }
  });
});

describe("a mixture", () => {
  const { modes } = compileGraph(mixture("q4_0"), ALL_TRAITS, LIMITS);

  it("takes one dispatch for gate and up, and for prompts sorts its picks once", () => {
    const labels = (mode: "decode" | "prompt") => modes[mode].map(({ label }) => label).join(" ");
    expect(labels("decode")).toContain("route quantize expertMatmul gate expertMatmul combine");
    expect(labels("prompt")).toContain("route copy groupPicks expertMatmul gate expertMatmul combine");
    expect(labels("prompt").match(/groupPicks/g)).toHaveLength(1);
  });

  it("reads the picked experts for a token, and each expert once for a prompt", () => {
    const shape = {
      outputs: 1,
      singles: [],
      spanned: 0,
      longs: [],
      pieces: 0,
      sampled: 0,
      runs: 0,
      packs: 0,
    };
    const bytes = (mode: "decode" | "prompt", tokens: number) =>
      modes[mode]
        .filter(({ label }) => label === "expertMatmul")
        .map((dispatch) => dispatch.bytes!({ ...shape, tokens }));
    const expert = (768 * 2048 * 4.5) / 8;
    expect(bytes("decode", 1)).toEqual([8 * 2 * expert, 8 * expert]);
    expect(bytes("prompt", 512)).toEqual([128 * 2 * expert, 128 * expert]);
    const products = modes.decode.filter(({ label }) => label === "expertMatmul");
    // An entry each in z: nothing else is started.
    expect(products.map((product) => product.workgroups({ ...shape, tokens: 1 })![2])).toEqual([8, 8]);
  });

  it("names the limit that an expert does not fit in", () => {
    const limits = { maxStorageBufferBindingSize: 512 * 2048, maxBufferSize: 2 ** 38 };
    expect(() => compileGraph(mixture("f16"), ALL_TRAITS, limits)).toThrow(
      "bytes of a GPU's binding is 1048576; allowed: at least 6291456, an expert of 1536 rows of gate, up",
    );
  });
});

describeGpu("experts larger than one binding", () => {
  // q8_0: 40 rows of 64 bytes an expert; f16: 32 of 128.
  it.each([
    ["expertMatmul q8_0 6x40x64, 2 picks of their own columns, 70 tokens", 40 * 64, { few: 1 }],
    ["expertMatmul q4_0 6x35x96, 3 picks, bias, 1 tokens", 35 * 48, { few: 1 }],
    ["expertMatmul q4_0 6x35x96, 3 picks, bias, 1 tokens", 35 * 48, { few: 1, floats: true }],
    ["expertMatmul f16 6x32x64, 6 picks of their own columns, 20 tokens", 32 * 128, { few: 32 }],
  ])("are split: %s", async (name, expertBytes, traits) => {
    const testCase = deviceCases.find((known) => known.name === name)!;
    const bytes = 2 * expertBytes + 16;
    const limits = { maxBufferSize: bytes, maxStorageBufferBindingSize: bytes };
    const { gpu } = await pretended({ backend: "software", limits });
    const device = await webgpuDevice(gpu, { traits });
    expect(await caseError(testCase, device)).toBeLessThanOrEqual(gpuTolerance(testCase));
  });
});

describeGpu("route", () => {
  it("keeps ids in range and gives NaN where logits are", async () => {
    const gpu = await softwareDevice();
    const [experts, picks] = [6, 3];
    const odd = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1];
    const rows = odd.map((value) => Float32Array.from({ length: experts }, (_, i) => (i === 4 ? value : 0)));
    const buffers = new Buffers();
    const logits = buffers.of("logits", Float32Array.from(rows.flatMap((row) => [...row])));
    const out = buffers.empty("picks", odd.length * 2 * picks);
    const dispatch = routeDispatch({
      traits: NO_TRAITS,
      ...{ rows: "tokens", experts, picks, normalise: true, logits, weights: null, out },
    });
    const words = await runDispatches(
      methodsOf(gpu),
      [dispatch],
      buffers,
      out,
      stepOf(new Uint32Array(odd.length)),
    );
    const found = new Float32Array(words.buffer);
    odd.forEach((value, row) => {
      const ids = [...found.subarray(row * 2 * picks, row * 2 * picks + picks)];
      const weights = [...found.subarray(row * 2 * picks + picks, (row + 1) * 2 * picks)];
      expect(ids.every((id) => Number.isInteger(id) && id >= 0 && id < experts)).toBe(true);
      const isWhole = !(Number.isNaN(value) || value === Number.POSITIVE_INFINITY);
      expect(weights.every(isWhole ? Number.isFinite : Number.isNaN), String(value)).toBe(true);
    });
    // Of equal ones the lowest; -Infinity is the last; the largest is the first.
    expect([...found.subarray(4 * picks, 5 * picks)]).toEqual([0, 1, 2]);
    expect([...found.subarray(6 * picks, 7 * picks)]).toEqual([4, 0, 1]);
  });
});
