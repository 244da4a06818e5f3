/** matmulMatrix, its columns whole and in splits, on a software GPU without matrices. */
import { expect, it } from "vitest";
import { emulatedGpu } from "./emulated-device.ts";
import { emulatedSubgroups } from "./emulated-subgroups.ts";
import { ALL_TRAITS, describeGpu } from "./gpu.ts";
import { errorOf } from "./products.ts";

/** SwiftShader compiles the kernel for 20 s and more. */
const IS_ASKED = process.env.NIBBLE_EMULATE !== undefined;

describeGpu(`matmulMatrix${IS_ASKED ? "" : " (slow: only with NIBBLE_EMULATE=1)"}`, () => {
  // A GPU of four slots: the first 256 rows are whole tiles. A bias is not added to splits; 256 columns are too few for any.
  it.skipIf(!IS_ASKED).each([
    [300, 1024, false],
    [100, 1024, true],
    [100, 256, false],
  ])(
    "%i rows, %i columns, bias: %s",
    async (rows, cols, bias) => {
      const gpu = await emulatedGpu("matmulMatrix", emulatedSubgroups);
      const shape = { type: "q4_0" as const, rows: [rows, 40], cols, tokens: 150, bias, slots: 4 };
      // Weights and activations are rounded to f16.
      expect(await errorOf(gpu, ALL_TRAITS, shape)).toBeLessThan(1.2e-3);
    },
    600_000,
  );
});
