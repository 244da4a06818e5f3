/** The list of models to begin with: its names are names, its shapes are known, and a machine is told what fits. */
import { describe, expect, it } from "vitest";
import { CATALOG, nearestModels } from "../../src/engine/catalog.ts";
import { findModel } from "../../src/engine/find-model.ts";
import { planContext } from "../../src/engine/plan.ts";
import { hubName } from "../../src/format/hub/name.ts";
import { SHAPES } from "../../src/model/shapes.ts";
import { plannedCpu, plannedModel } from "../../src/study/plan/planned.ts";
import { recommendedModel, suitedModels } from "../../src/study/plan/suited-models.ts";
import { weightBytesOfToken } from "../../src/study/plan/token-bytes.ts";

const GIB = 2 ** 30;

describe("the list", () => {
  it("has names of the Hub and known shapes", () => {
    for (const { name, shape } of CATALOG) {
      expect(hubName(name).owner).not.toBe("");
      expect(SHAPES).toHaveProperty([shape]);
    }
  });

  it("says the longest context that fits, or that none does", async () => {
    const entries = CATALOG.filter(({ shape }) =>
      ["qwen-3-0.6b", "llama-3.3-70b", "llama-3.1-70b"].includes(shape),
    );
    const [small, large] = await suitedModels(plannedCpu(2), { memoryBytes: 4 * GIB }, entries);
    expect(small.context).toBe(40_960);
    expect(large.context).toBe(0);
    const [tight] = await suitedModels(plannedCpu(2), { memoryBytes: 1.3 * GIB }, entries.slice(0, 1));
    expect(tight.context).toBeGreaterThan(0);
    expect(tight.context).toBeLessThan(40_960);
  });

  it("advises what fits with room, on a CPU what is fast enough, and nothing where nothing fits", async () => {
    const cpu = plannedCpu(2);
    expect((await recommendedModel(cpu, { memoryBytes: 2.2 * GIB }))?.shape).toBe("qwen-3-0.6b");
    expect(await recommendedModel(cpu, { memoryBytes: 2 ** 27 })).toBeNull();
  });
});

describe("a token's bytes", () => {
  it("count the experts that it takes, not all", async () => {
    const plan = planContext(await plannedModel("qwen-3-30b-a3b"), plannedCpu(2), { context: 2048 });
    const part = weightBytesOfToken(plan) / plan.weightBytes;
    // 3.3 of 30.5 billion parameters.
    expect(part).toBeGreaterThan(0.08);
    expect(part).toBeLessThan(0.13);
  });
});

describe("names that people type", () => {
  it.each([
    ["llama3", "hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M"],
    ["llama3.1", "hf:bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M"],
    ["qwen3:8b", "hf:Qwen/Qwen3-8B-GGUF:Q4_K_M"],
    ["Qwen/Qwen3-8B", "hf:Qwen/Qwen3-8B-GGUF:Q4_K_M"],
    ["gpt-oss", "hf:ggml-org/gpt-oss-20b-GGUF"],
    ["lama3.2:3b", "hf:bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M"],
    ["mistral", "hf:bartowski/Mistral-Nemo-Instruct-2407-GGUF:Q4_K_M"],
  ])("%s -> %s first", (typed, name) => {
    expect(nearestModels(typed)[0]?.name).toBe(name);
  });

  it("what is like nothing gets no name", () => {
    for (const typed of ["", "ab", "zzzzqqqq"]) expect(nearestModels(typed)).toEqual([]);
  });

  it("an unknown name is answered with real ones; a path stays a path", async () => {
    await expect(findModel("llama3")).rejects.toThrow(/Nearest known models: hf:bartowski\/Llama-3.2/);
    await expect(findModel("needel")).rejects.toThrow(/Nearest known models: needle$/);
    await expect(findModel("zzzz-qqqq")).rejects.toThrow(/nibble models lists some/);
    await expect(findModel("hf:qwen3-8b")).rejects.toThrow(/Nearest known models: hf:Qwen\/Qwen3-8B-GGUF/);
    expect(await findModel("missing/model.gguf")).toBe("missing/model.gguf");
    expect(await findModel("./folder")).toBe("./folder");
    expect(await findModel("/nowhere")).toBe("/nowhere");
  });
});
