/** matmulSquare and matmulMatrix, columns whole and in splits, on a software GPU without matrices. */
import { expect, it } from "vitest";
import type { TensorType } from "../../../src/format/tensor.ts";
import { emulatedGpu } from "./emulated-device.ts";
import { emulatedSubgroups } from "./emulated-subgroups.ts";
import { ALL_TRAITS, describeGpu } from "./gpu.ts";
import { errorOf } from "./products.ts";

/** SwiftShader compiles these kernels for 20 s and more. */
const IS_ASKED = process.env.NIBBLE_EMULATE !== undefined;

/** Scales of a word for each group or for two; codes in one vector or two, upper bits for two groups or four; tables. */
const FORMS: readonly TensorType[] = [
  ...(["q4_1", "q4_k", "q5_0", "q5_k", "q6_k", "q8_0", "q2_k", "q3_k", "iq4_nl"] as const),
  ...(["mxfp4", "nvfp4", "iq3_s", "iq2_s", "q2_0", "q1_0"] as const),
];

/** Weights and activations are rounded to f16. */
const TOLERANCE = 1.2e-3;

describeGpu(`products of prompts${IS_ASKED ? "" : " (slow: only with NIBBLE_EMULATE=1)"}`, () => {
  // A GPU of four slots: the first 256 rows are whole tiles. A bias is not added to splits; 256 columns are too few for any. An odd
  // number of groups is matmulMatrix's, and two splits of 17 pairs differ.
  it.skipIf(!IS_ASKED).each([
    ["matmulSquare", 300, 1024, false],
    ["matmulSquare", 300, 1088, false],
    ["matmulSquare", 100, 1024, true],
    ["matmulSquare", 100, 256, false],
    ["matmulSquare", 100, 64, false],
    ["matmulMatrix", 300, 992, false],
    ["matmulMatrix", 100, 1056, true],
    ["matmulMatrix", 100, 32, false],
  ] as const)(
    "%s: %i rows, %i columns, bias: %s",
    async (kernel, rows, cols, bias) => {
      const gpu = await emulatedGpu(kernel, emulatedSubgroups);
      const shape = { type: "q4_0" as const, rows: [rows, 40], cols, tokens: 150, bias, slots: 4 };
      expect(await errorOf(gpu, ALL_TRAITS, shape)).toBeLessThan(TOLERANCE);
    },
    600_000,
  );

  it.skipIf(!IS_ASKED).each(FORMS)(
    "matmulSquare: %s",
    async (type) => {
      const gpu = await emulatedGpu("matmulSquare", emulatedSubgroups);
      const shape = { type, rows: [140], cols: 512, tokens: 140, slots: 4 };
      expect(await errorOf(gpu, ALL_TRAITS, shape)).toBeLessThan(TOLERANCE);
    },
    600_000,
  );
});
