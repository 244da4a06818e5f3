/** Products and embeddings on a software GPU against float64 sums, in every form of weights and every variant. */
import { describe, expect, it } from "vitest";
import type { Weight } from "../../../src/device/contract.ts";
import type { Batch } from "../../../src/device/webgpu/batch.ts";
import type { Dispatch } from "../../../src/device/webgpu/dispatch.ts";
import type { Gpu, Traits } from "../../../src/device/webgpu/gpu.ts";
import {
  type EmbedChosen,
  embedDispatches,
  inputForm,
  matmulDispatches,
} from "../../../src/device/webgpu/matmul.ts";
import type { GpuMatrix } from "../../../src/device/webgpu/matmul-options.ts";
import { packRows } from "../../../src/device/webgpu/pack.ts";
import { partsOf, weightForm } from "../../../src/device/webgpu/weights.ts";
import { type KernelValues, shaderText } from "../../../src/device/webgpu/wgsl.ts";
import { dequantize } from "../../../src/format/blocks.ts";
import { BLOCKS, type TensorType } from "../../../src/format/tensor.ts";
import { TWINS } from "../random-tensor.ts";
import { ALL_TRAITS, describeGpu, NO_TRAITS, nullDevice, softwareDevice } from "./gpu.ts";
import { Buffers, errorOf, matrixOf, methodsOf, runDispatches, stepOf } from "./products.ts";

const TYPES = (Object.keys(BLOCKS) as TensorType[]).filter((type) => !TWINS.has(type));
const ONE_OF_EACH_FORM: TensorType[] = [
  "q4_0",
  "q4_1",
  "q4_k",
  "q8_0",
  "q5_k",
  "q6_k",
  "q2_k",
  "q3_k",
  "iq4_nl",
  "mxfp4",
  "iq3_s",
  "iq3_xxs",
  "iq2_s",
  "iq1_s",
  "nvfp4",
  "q2_0",
  "q1_0",
  "bf16",
];

/** Of kernels for few tokens, which take a second to compile: a type of each kind of codes and scales. */
const FEW_TYPES: readonly TensorType[] = ["q4_0", "q8_0", "q6_k", "q2_k", "mxfp4", "iq2_s", "nvfp4", "bf16"];
/** Without subgroups, where adding up alone differs. */
const PLAIN_TYPES: readonly TensorType[] = ["q4_0", "q4_k", "q8_0", "q6_k", "iq4_nl", "q2_0", "bf16"];

/** Against the same activations the sums differ by rounding, and some scales by the f16 that they are packed to. */
const HALF_SCALES: readonly TensorType[] = [
  ...(["q2_k", "q3_k", "iq4_xs", "mlx4_g32", "mlx4_g64", "mlx4_g128"] as const),
  ...(["mlx8_g32", "mlx8_g64", "mlx8_g128"] as const),
];
const tolerance = (type: TensorType) => (HALF_SCALES.includes(type) ? 1.2e-3 : 2e-6);
const colsOf = (type: TensorType, blocks: number) =>
  (BLOCKS[type].elements === 1 ? 32 : BLOCKS[type].elements) * blocks;

/** One device for all tests: types of one form share pipelines. */
const devices = new Map<boolean, Promise<Gpu>>();
function device(subgroups = true): Promise<Gpu> {
  const made = devices.get(subgroups) ?? softwareDevice({ subgroups });
  devices.set(subgroups, made);
  return made;
}

/** Nothing was chosen: 7 stands for what no id of the step is. */
function embed(
  buffers: Buffers,
  matrix: GpuMatrix,
  { lists }: Batch,
  options: Pick<EmbedChosen, "scale" | "out">,
): Dispatch[] {
  const [chosen, batch] = [buffers.of("chosen", Uint32Array.of(7)), buffers.of("batch", lists)];
  return embedDispatches({ matrix, chosen, batch, ...options });
}

describeGpu("products on a software GPU", () => {
  it.each(TYPES)("%s: odd rows, one and several tokens", async (type) => {
    const gpu = await device();
    for (const [rows, blocks, tokens, few] of [
      [35, 3, 1, 4],
      ...(FEW_TYPES.includes(type) ? [[9, 1, 3, 4]] : []),
      [70, 2, 33, 4],
    ])
      expect(
        await errorOf(gpu, gpu.traits, { type, rows: [rows], cols: colsOf(type, blocks), tokens, few }),
        `${rows} rows, ${tokens} tokens`,
      ).toBeLessThan(tolerance(type));
  });

  it.each(PLAIN_TYPES)("%s without subgroups: blocks of several weights, parts, a bias", async (type) => {
    const gpu = await device(false);
    for (const [tokens, few] of [
      [1, 4],
      [3, 4],
      [5, 4],
    ])
      expect(
        await errorOf(gpu, gpu.traits, {
          type,
          rows: [50, 20, 13],
          cols: colsOf(type, 1),
          tokens,
          few,
          bias: tokens !== 3,
          partRows: 32,
        }),
        `${tokens} tokens, few ${few}`,
      ).toBeLessThan(tolerance(type));
  });

  // SwiftShader compiles these kernels for some seconds.
  it.each([
    ["q4_0", 5, 8],
    ["q4_0", 19, 32],
    ["q6_k", 7, 8],
  ] as const)("%s: %d tokens by kernels for few", async (type, tokens, few) => {
    const gpu = await device();
    const shape = { type, rows: [21, 16], cols: colsOf(type, 3), tokens, few, bias: true };
    expect(await errorOf(gpu, gpu.traits, shape)).toBeLessThan(tolerance(type));
  });

  it.each(["q4_0", "q4_k", "q5_k", "q6_k", "q2_k", "mxfp4"] as const)(
    "%s by float arithmetic",
    async (type) => {
      const gpu = await device(type !== "q4_0");
      const traits = { ...gpu.traits, floats: true };
      // Few tokens, and more than a workgroup's; SwiftShader compiles each kernel for a second.
      for (const [tokens, few] of type === "q4_0"
        ? [
            [2, 4],
            [7, 8],
          ]
        : [[1, 4]])
        expect(
          await errorOf(gpu, traits, {
            ...{ type, rows: [23, 20], cols: colsOf(type, 3), tokens, few },
            ...{ bias: type === "q4_0", partRows: 32 },
          }),
          `${tokens} tokens`,
        ).toBeLessThan(tolerance(type));
    },
  );

  it.each(["f32", "f16", "bf16"] as const)("%s with columns that are no multiple of 4", async (type) => {
    const gpu = await device();
    for (const [tokens, few] of [
      [1, 4],
      [3, 4],
      [7, 8],
      [7, 4],
    ])
      expect(await errorOf(gpu, gpu.traits, { type, rows: [13], cols: 45, tokens, few })).toBeLessThan(
        tolerance(type),
      );
  });

  it("f32 of few long rows, whose teams are workgroups", async () => {
    const gpu = await device();
    for (const traits of [gpu.traits, { ...gpu.traits, subgroup: null }])
      for (const tokens of [1, 3])
        expect(
          await errorOf(gpu, traits, { type: "f32", rows: [5], cols: 1032, tokens, few: 4 }),
        ).toBeLessThan(tolerance("f32"));
  });

  it.each(TYPES)("embed %s, in one part and in several", async (type) => {
    const gpu = await device();
    const cols = BLOCKS[type].elements === 1 ? 45 : BLOCKS[type].elements * 3;
    for (const partRows of [undefined, 128]) {
      const buffers = new Buffers();
      const { matrix, values } = matrixOf({ type, rows: [300], cols, tokens: 3, partRows }, buffers);
      const ids = Uint32Array.of(0, 299, 130);
      const out = buffers.empty("out", 3 * cols);
      const step = stepOf(ids);
      const dispatches = embed(buffers, matrix, step, { scale: 1.5, out });
      expect(dispatches.length).toBe(partRows ? 3 : 1);
      const found = new Float32Array(
        (await runDispatches(methodsOf(gpu), dispatches, buffers, out, step)).buffer,
      );
      let difference = 0;
      let size = 0;
      for (let t = 0; t < 3; t++)
        for (let i = 0; i < cols; i++) {
          const wanted = values[ids[t] * cols + i] * 1.5;
          difference += (wanted - found[t * cols + i]) ** 2;
          size += wanted ** 2;
        }
      expect(Math.sqrt(difference / size)).toBeLessThan(tolerance(type));
    }
  });

  it("keeps scales that are subnormal in f16", async () => {
    const gpu = await device();
    const buffers = new Buffers();
    const cols = 32;
    // Codes 1..16 less 8, scale 37 * 2^-24.
    const bytes = Uint8Array.of(37, 0, ...Array.from({ length: 16 }, (_, i) => i));
    const values = new Float32Array(cols);
    dequantize("q4_0", bytes, values);
    const codes = new Uint32Array(4);
    const scales = new Uint32Array(1);
    packRows("q4_0", bytes, 1, cols, codes, scales);
    const weight: Weight = { id: 0, name: "w", role: "matrix", type: "q4_0", rows: 1, cols };
    const [part] = partsOf([weight], 1 << 20);
    const placed = { ...part, codes: buffers.of("codes", codes), scales: buffers.of("scales", scales) };
    const matrix = { form: weightForm("q4_0"), cols, rows: 1, parts: [placed], bias: null };
    const out = buffers.empty("out", cols);
    const step = stepOf(Uint32Array.of(0));
    const dispatches = embed(buffers, matrix, step, { scale: 1, out });
    const words = await runDispatches(methodsOf(gpu), dispatches, buffers, out, step);
    expect([...new Float32Array(words.buffer)]).toEqual([...values]);
  });
});

describeGpu("product kernels for devices with f16 and matrices", () => {
  const variants: [string, Traits][] = [
    ["matrices, subgroups of 32", ALL_TRAITS],
    ["f16, subgroups of 64", { ...ALL_TRAITS, matrices: false, subgroup: 64 }],
    ["f16, no subgroups", { ...ALL_TRAITS, matrices: false, subgroup: null }],
  ];
  it.each(variants)("compile: %s", async (_, traits) => {
    const gpu = await nullDevice(ALL_TRAITS);
    for (const type of [...ONE_OF_EACH_FORM, "f32", "f16"] as const)
      for (const [mode, tokens] of [
        ["decode", 1],
        ["few", 8],
        ["several", 16],
        ["batch", 32],
        ["prompt", 64],
      ] as const) {
        const buffers = new Buffers();
        const { matrix } = matrixOf({ type, rows: [64], cols: 256, tokens, bias: mode === "few" }, buffers);
        const x = { form: inputForm(traits, matrix, mode), buffer: buffers.of("x", new Uint32Array(4)) };
        const out = buffers.empty("out", 4);
        const scratch = (label: string) => buffers.empty(label, 4);
        const spare = buffers.empty("spare", 4);
        const options = {
          traits,
          matrix,
          x,
          rows: "tokens",
          mode,
          maxRows: tokens,
          out,
          spare,
          scratch,
        } as const;
        for (const { kernel } of matmulDispatches(options)) {
          const code = shaderText(kernel, ["f16", "subgroups", "chromium_experimental_subgroup_matrix"]);
          const info = await gpu.device.createShaderModule({ code }).getCompilationInfo();
          expect([...info.messages].map(({ message }) => message)).toEqual([]);
          // More workgroup memory than the null device has.
          if (["matmulStream", "matmulSquare"].includes(kernel.kernel)) continue;
          // The null device has 16 KiB of workgroup memory, and wants workgroups of whole subgroups of 128.
          const small: KernelValues = kernel.kernel === "matmulMatrix" ? { SUBGROUP: 64, SUBGROUPS: 2 } : {};
          // Four subgroups of 32 are one of them.
          await gpu.pipeline({ ...kernel, values: { ...kernel.values, ...small } });
        }
      }
    gpu.check();
  });
});

describe("inputForm", () => {
  it.each([
    ["q4_0", "decode", ALL_TRAITS, "q8"],
    ["q4_0", "few", NO_TRAITS, "q8"],
    ["q4_0", "few", ALL_TRAITS, "q8"],
    ["q4_0", "several", ALL_TRAITS, "q8"],
    ["bf16", "several", ALL_TRAITS, "f16"],
    ["q4_0", "batch", NO_TRAITS, "q8"],
    ["q4_0", "batch", ALL_TRAITS, "f16"],
    ["q4_0", "prompt", NO_TRAITS, "f32"],
    ["q4_0", "prompt", ALL_TRAITS, "f16"],
    ["f16", "decode", ALL_TRAITS, "f32"],
    ["bf16", "few", ALL_TRAITS, "f32"],
    ["bf16", "prompt", ALL_TRAITS, "f16"],
    ["f32", "prompt", ALL_TRAITS, "f32"],
  ] as const)("%s, %s", (type, mode, traits, wanted) => {
    expect(inputForm(traits, { form: weightForm(type), cols: 256 }, mode)).toBe(wanted);
  });

  it("is f32 where f16 rows would have gaps", () => {
    expect(inputForm(ALL_TRAITS, { form: weightForm("f16"), cols: 40 }, "prompt")).toBe("f32");
  });
});

describe("tiles of matrices", () => {
  // Tiles of 128 rows and 128 tokens, 264 at once: as many rounds of whole ones as are full, then splits of the others' columns.
  it.each([
    [28672, 8192, 512, 198, 5],
    [28672, 8192, 100, 224, 1],
    [10240, 8192, 512, 66, 4],
    [8192, 8192, 512, 64, 1],
    [8192, 8192, 256, 0, 2],
    [4096, 14336, 512, 0, 2],
    [4096, 14336, 256, 0, 4],
    [4096, 14336, 65, 0, 8],
    // Too few columns for more.
    [4096, 256, 65, 32, 1],
    [4096, 512, 65, 0, 2],
  ])("%d rows, %d columns, %d tokens: %d whole, %d splits", (rows, cols, tokens, whole, splits) => {
    const buffers = new Buffers();
    // Nothing runs: weights of few columns are soon made.
    const { matrix } = matrixOf({ type: "q4_0", rows: [rows], cols: 32, tokens }, buffers);
    const options = {
      traits: ALL_TRAITS,
      matrix: { ...matrix, cols },
      x: { form: "f16", buffer: buffers.of("x", new Uint32Array(4)) },
      rows: "tokens",
      mode: "prompt",
      maxRows: 512,
      out: buffers.empty("out", 4),
      spare: buffers.empty("spare", 4),
      scratch: (label: string, bytes: number) => {
        // A kernel that stores matrices of 16x16 there wants room for one, also where it stores none.
        expect(bytes).toBeGreaterThanOrEqual(16 * 16 * 4);
        return buffers.empty(label, 4);
      },
    } as const;
    const { shape: step } = stepOf(new Uint32Array(tokens));
    const running = matmulDispatches(options).filter((dispatch) => dispatch.workgroups(step) !== null);
    const names = splits === 1 ? ["matmulSquare"] : ["matmulSquare", "sumSplits"];
    expect(running.map(({ kernel }) => kernel.kernel)).toEqual(names);
    const divided = Math.ceil(rows / 128) - whole;
    expect(running[0].workgroups(step)).toEqual([Math.ceil(tokens / 128), whole + divided * splits, 1]);
  });
});
