/** What `nibble doctor --kernels` writes: every kernel, whole. */
import { expect, it } from "vitest";
import { KERNELS } from "../../src/device/webgpu/kernels.ts";
import { kernelTexts } from "../../src/study/kernel-texts.ts";

it("every kernel is there, unrolled, with its libraries in each variant", () => {
  const texts = new Map(kernelTexts().map(({ name, text }) => [name, text]));
  const kernels = new Set([...texts.keys()].map((name) => name.split(".")[0]));
  expect([...kernels].sort()).toEqual(Object.keys(KERNELS).sort());
  for (const [name, text] of texts) {
    expect(text, name).toMatch(/@compute/);
    expect(text, name).not.toMatch(/\/\/ each [A-Z] \d|\{[G-R]\}/);
  }
  expect(texts.get("attendDecodeMatrix")).toContain("sum3 = subgroupMatrixMultiplyAccumulate(");
  expect([...texts.keys()]).toContain("attendDecode.lanes-shared");
});
