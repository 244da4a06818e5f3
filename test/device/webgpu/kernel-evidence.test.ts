/** Kernels that only a real GPU runs have passed the conformance suite there as they are now, or are admitted to be newer. */
import { describe, expect, it } from "vitest";
import type { KernelSource } from "../../../src/device/webgpu/kernel-source.ts";
import { KERNELS } from "../../../src/device/webgpu/kernels.ts";
import { type EvidenceRow, evidenceOf, readEvidence, TextSets } from "./evidence.ts";
import { ALL_TRAITS } from "./gpu.ts";
import { declarations, GPU_CASES, gpuTexts, VARIANTS } from "./kernel-texts.ts";

const FILE = "bench/results/h200-kernels.jsonl";
const RENEW = `On an NVIDIA GPU, from the repository's root:
  npx rolldown bench/conformance.ts --format esm --platform node --external webgpu -o dist/conformance.js
  node dist/conformance.js --kernels new.jsonl && mv new.jsonl ${FILE}
Until then a line {"newer":"<kernel>","reason":"..."} in ${FILE} admits it.`;

/** Kernels and a variant of matrices that NVIDIA's GPUs have not: attend-matrix8.test.ts emulates them. */
const OF_METAL = ["attendDecodeMatrix8", "attendPromptMatrix8", "matmulTile8", "matrices of 8"];

const evidence = readEvidence(FILE);

describe("evidence of kernels", () => {
  const name = "each text that only a GPU runs has passed there";
  if (evidence === null)
    it.skip(`${name} (skipped: no ${FILE} yet; bench/conformance.ts --kernels writes it)`);
  else
    it(name, async () => {
      const never = Object.keys(VARIANTS).filter(
        (variant) => !evidence.traits.has(variant) && !OF_METAL.includes(variant),
      );
      expect(never, `variants that were never run. ${RENEW}`).toEqual([]);
      const texts = new TextSets();
      for (const traits of evidence.traits.values())
        for (const testCase of GPU_CASES) texts.add(await gpuTexts(testCase, traits));
      expect(evidence.unproven(texts.texts), `texts by kernel without evidence. ${RENEW}`).toEqual({});
    });

  it("is asked of every kernel that mentions float16 or subgroup matrices", async () => {
    const texts = new TextSets();
    const fewRows = { ...ALL_TRAITS, few: 1, several: 1, batch: 1 };
    for (const traits of [ALL_TRAITS, fewRows])
      for (const testCase of GPU_CASES) texts.add(await gpuTexts(testCase, traits));
    const kernels = Object.values<KernelSource>(KERNELS).filter(({ text }) =>
      /\bf16\b|subgroup_matrix/.test(text.replace(/\/\/.*$/gm, "")),
    );
    expect(kernels.length).toBeGreaterThan(5);
    expect(
      kernels.map(({ name }) => name).filter((name) => !texts.texts.has(name) && !OF_METAL.includes(name)),
    ).toEqual([]);
  });

  it("is the same for a function that has moved", () => {
    const text =
      "enable f16;\nstruct A { b: u32 }\nconst C = array(1, 2); // a\nfn d() { if (C[0] > 1) { e(); } }\n";
    const one = "fn e() {\n}";
    expect(declarations(text + one).sort()).toEqual(declarations(`${one}\n// f\n${text}`).sort());
    expect(declarations(text)).toEqual([
      ...["enable f16;", "struct A { b: u32 }", "const C = array(1, 2);"],
      "fn d() { if (C[0] > 1) { e(); } }",
    ]);
  });

  it("is a hash of the text without comments, by what passed and nothing that failed", () => {
    const row: EvidenceRow = {
      ...{ op: "kernels", adapter: "a", date: "2026-11-28", variant: "all", traits: ALL_TRAITS },
      passed: { add: ["1", "2"], gate: ["3"] },
      failed: { add: ["2"] },
    };
    const texts = new Map([
      ["add", new Set(["1", "2", "4"])],
      ["gate", new Set(["3"])],
    ]);
    const lines = (...rows: unknown[]) => rows.map((row) => JSON.stringify(row)).join("\n");
    expect(evidenceOf(lines(row)).unproven(texts)).toEqual({ add: 2 });
    expect(evidenceOf(lines(row, { ...row, passed: { add: ["4"] } })).unproven(texts)).toEqual({ add: 1 });
    expect(evidenceOf(lines(row, { newer: "gate", reason: "r" })).unproven(texts)).toEqual({ add: 2 });
    expect(evidenceOf(lines(row, { newer: "add", reason: "r" })).unproven(texts)).toEqual({});
    expect(evidenceOf(lines(row, { newer: "*", reason: "r" })).unproven(texts)).toEqual({});
  });
});
