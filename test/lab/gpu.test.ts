/** Formats measured in a GPU's own caches, on SwiftShader: what they cost there, and that a CPU's results stay apart. */
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { contrast } from "../../src/lab/contrast.ts";
import { LabModel } from "../../src/lab/lab-model.ts";
import { formatOf } from "../../src/lab/methods/cached.ts";
import { Methods } from "../../src/lab/methods/methods.ts";
import { ModelRunner } from "../../src/lab/runner.ts";
import { scoresOf } from "../../src/lab/scores.ts";
import { formatsOf } from "../../src/lab/setup.ts";
import { Snapshot } from "../../src/lab/snapshot.ts";
import { specEntry } from "../../src/lab/space.ts";
import { experimentId, normalSpec, type SpecDraft } from "../../src/lab/spec.ts";
import { experimentsFor, proposals } from "../../src/lab/study.ts";
import type { TextEntry } from "../../src/lab/types.ts";
import { describeGpu } from "../device/webgpu/gpu.ts";
import { compilesLate } from "../device/webgpu/late.ts";
import { type Sharing, shareDevices } from "../device/webgpu/sharing.ts";
import { letters, openTiny, TINY } from "./tiny-lab.ts";

/** The lab opens a device for each format. They are one here, which compiles what runs, once. */
const shared = vi.hoisted(() => ({ devices: null as Promise<Sharing> | null }));
vi.mock(import("../../src/device/webgpu/dawn.ts"), async (original) => {
  const dawn = await original();
  const dawnGpu = async () => {
    shared.devices ??= dawn.dawnGpu().then((root) => shareDevices(compilesLate(root)));
    return (await shared.devices).gpu;
  };
  return { ...dawn, dawnGpu };
});
afterAll(async () => (await shared.devices)?.end());

const methods = new Methods();
const alike = (method: string, more = {}): SpecDraft => ({
  keys: { method, ...more },
  values: { method, ...more },
});
const INT4 = alike("affine", { group: 32 });
const PACKED = alike("k4c-v4r-n32");
const never = new AbortController().signal;

it("a spec is a cache's format when nothing else is said of it", () => {
  const of = (draft: SpecDraft) => formatOf(normalSpec(draft));
  expect([INT4, alike("rq4"), alike("kv4"), PACKED].map(of)).toEqual(["int4", "rq4", "kv4", "k4c-v4r-n32"]);
  const others = [alike("kivi"), { ...INT4, sinks: 4 }, { ...INT4, keyScale: 2 }, { keys: INT4.keys }];
  expect([...others, alike("affine", { group: 32, rotate: true })].map(of)).toEqual(new Array(5).fill(null));
  const { bits } = specEntry(alike("kv4"), methods);
  // 160 of 4,096 tokens are exact, of keys and values; channels have scales and zeros of 8 bits, values one norm a head.
  expect(bits).toBeCloseTo((16 * 160 + (4096 - 160) * ((4.5 + 4.125) / 2)) / 4096, 1);
});

it("of a study's specs a device measures those that a cache holds, and the others are named", () => {
  const { anchors, leftOut } = formatsOf([INT4, alike("kivi"), PACKED], methods);
  expect(anchors.map(({ label }) => label)).toEqual(
    [INT4, PACKED].map((draft) => specEntry(draft, methods).label),
  );
  expect(leftOut).toEqual([specEntry(alike("kivi"), methods).label]);
  expect(() => formatsOf([alike("kivi")], methods)).toThrow(/none that is a cache format/);
});

describeGpu("a GPU's caches", () => {
  let gpu: LabModel;
  let cpu: LabModel;
  let text: TextEntry;
  beforeAll(async () => {
    gpu = await LabModel.open(TINY, { device: "gpu", context: 128 });
    cpu = await openTiny();
    await cpu.calibrate("abcde".repeat(20), 64);
    text = cpu.text("letters", "search", letters(90, 3), 70);
  }, 60_000);
  afterAll(async () => {
    await gpu.close();
    await cpu.close();
  });

  it("lose what rewriting loses, are kept apart from it, and are compared with it when somebody asks", async () => {
    expect([gpu.id, gpu.fused, cpu.fused]).toEqual([cpu.id, true, false]);
    const [runner, onCpu] = [new ModelRunner(methods), new ModelRunner(methods)];
    runner.models.set(gpu.id, gpu);
    onCpu.models.set(cpu.id, cpu);
    expect([runner.can, onCpu.can]).toEqual([[`model:${gpu.id}@gpu`], [`model:${cpu.id}`]]);

    const [int4, packed] = [INT4, PACKED].map((draft) => specEntry(draft, methods));
    const study = {
      ...{ name: "s", models: [gpu.id], texts: [text], cells: [], anchors: [int4], seed: 1 },
      rungs: [{ texts: 1, positions: 20, draws: 3 }],
    };
    const known = new Snapshot([text, int4, packed]);
    const measure = async (device: "gpu" | undefined, entry: typeof int4) => {
      const [experiment] = experimentsFor({ ...study, ...(device && { device }) }, entry.id, gpu.id, 0);
      const why = { proposer: "study", reason: "" };
      for (const proposal of proposals(study, known, [experiment], why)) known.add(proposal);
      const claim = { id: experimentId(experiment), experiment, spec: entry.body, text, attempt: 1 };
      const by = device ? runner : onCpu;
      await expect((device ? onCpu : runner).run(claim, never)).rejects.toThrow(/model of an experiment/);
      const result = await by.run(claim, never);
      known.add(result);
      return result.klMean;
    };
    const [there, here] = [await measure("gpu", int4), await measure(undefined, int4)];
    expect(there / here).toBeGreaterThan(0.9);
    expect(there / here).toBeLessThan(1.1);
    expect(await measure("gpu", packed)).toBeGreaterThan(1e-6);

    expect([...scoresOf(known, gpu.id).keys()]).toEqual([int4.id]);
    expect([...scoresOf(known, gpu.id, "search", "gpu").keys()].sort()).toEqual([int4.id, packed.id].sort());
    const both = contrast(known, int4.id, int4.id, { devices: ["gpu", "cpu"] });
    expect(both.rows).toMatchObject([{ positions: 20, draws: 1 }]);
    expect(both.rows[0].ratio).toBeCloseTo(there / here, 4);
    expect(contrast(known, packed.id, int4.id).rows).toEqual([]);
    expect(contrast(known, packed.id, int4.id, { devices: ["gpu", "gpu"] }).rows).toHaveLength(1);
    expect(experimentsFor({ ...study, device: "gpu" }, int4.id, gpu.id, 0)).toHaveLength(1);
  }, 120_000);

  it("refuse what no cache holds, and another draw", async () => {
    const measure = (draft: SpecDraft, draw: number) =>
      gpu.measure(normalSpec(draft), text, 4, draw, methods);
    await expect(measure(alike("kivi"), 0)).rejects.toThrow(/spec on .*allowed: int4 g32, rq4, kv4/);
    expect(() => gpu.checkFormat("k4r-v4r-n32")).toThrow(
      /k4r-v4r-n32 .* is not supported\. .*packed keys 4c/,
    );
    for (const format of ["int4", "kv3", "k4c-v4r-n32"]) gpu.checkFormat(format);
    await expect(measure(INT4, 1)).rejects.toThrow(/draw on .* is 1; allowed: 0/);
    await expect(cpu.measure(normalSpec(PACKED), text, 20, 0, methods)).rejects.toThrow(/--device gpu/);
  });
});
