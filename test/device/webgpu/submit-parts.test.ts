/** Steps in several submits: where they are cut, that they compute the same, and that work which was stopped is an error. */
import { describe, expect, it } from "vitest";
import type { Dispatch } from "../../../src/device/webgpu/dispatch.ts";
import { type SubmitPart, submitPartsOf, WorkRates } from "../../../src/device/webgpu/submit-parts.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { DeviceError } from "../../../src/format/errors.ts";
import { caseError, gpuTolerance } from "../case-runs.ts";
import { type DeviceCase, ordinaryCases, TOLERANCES } from "../device-cases.ts";
import { packedCases } from "../packed-cases.ts";
import { randomTensor } from "../random-tensor.ts";
import { describeGpu } from "./gpu.ts";
import { smallGraph } from "./graphs.ts";
import { rejection } from "./losable.ts";
import { stepOf } from "./products.ts";
import { sharedGpu } from "./shared.ts";
import { wrapped } from "./wrap.ts";
import { pretended } from "./wrapped.ts";

type Job = { dispatch: Pick<Dispatch, "label" | "workgroups" | "bytes"> };
const job = (label: string, bytes: number, needed = true): Job => ({
  dispatch: { label, workgroups: () => (needed ? [1, 1, 1] : null), bytes: () => bytes },
});
const labels = (parts: Iterable<SubmitPart<Job>>) =>
  [...parts].map(({ jobs, units }) => [
    jobs.map(({ dispatch }) => dispatch.label).join(" "),
    units?.map(({ first, tokens, before }) => `${first}+${tokens}<${before}`).join(" ") ?? null,
  ]);

describe("submitPartsOf", () => {
  const decode = stepOf(new Uint32Array(1));
  // A token alone, then 150 rows of one text.
  const prompt = {
    ...stepOf(new Uint32Array(150)),
    longs: [{ first: 1, position: 9, tokens: 149, packed: 0 }],
  };

  it("ends a part before it is too long, and leaves out what a step does not need", () => {
    // 1e7 bytes a millisecond at first.
    const list = [
      job("a", 6e7),
      job("b", 6e7),
      job("c", 1e9),
      job("d", 0),
      job("e", 1e7),
      job("f", 1e9, false),
    ];
    const cut = labels(submitPartsOf(list, decode, new WorkRates(), 10));
    expect(cut).toEqual([
      ["a", null],
      ["b", null],
      ["c", null],
      ["d e", null],
    ]);
    expect(labels(submitPartsOf(list, decode, new WorkRates(), 1000))).toEqual([["a b c d e", null]]);
    expect(labels(submitPartsOf([job("a", 1, false)], decode, new WorkRates(), 1000))).toEqual([["", null]]);
  });

  it("cuts attention of many rows by whole tiles of them", () => {
    const list = [job("matmul", 1), job("attendPrompt", 1e6), job("matmul", 1)];
    // 64e6 bytes times rows, at 1e7 a millisecond.
    const cut = labels(submitPartsOf(list, prompt, new WorkRates(), 13));
    expect(cut).toEqual([
      ["matmul", null],
      ["attendPrompt", "1+64<0 65+64<64"],
      ["attendPrompt", "129+21<128"],
      ["matmul", null],
    ]);
    expect(labels(submitPartsOf(list, prompt, new WorkRates(), 20))).toEqual([
      ["matmul attendPrompt matmul", null],
    ]);
    // Few rows share spans, which are not cut.
    expect(labels(submitPartsOf(list, { ...prompt, mode: "batch" }, new WorkRates(), 0.05))).toEqual([
      ["matmul", null],
      ["attendPrompt", null],
      ["matmul", null],
    ]);
  });

  it("by what parts took so far: slower at once, faster by steps", () => {
    const pace = new WorkRates();
    const took = (ms: number) => {
      const [part] = submitPartsOf([job("a", 1e8)], decode, pace, 1e9);
      pace.took(part, ms);
      return pace.ms("few a", 1e8);
    };
    expect(pace.ms("few a", 1e8)).toBe(10);
    expect(took(40)).toBeCloseTo(40);
    expect(took(1e6)).toBeCloseTo(320);
    const times = Array.from({ length: 8 }, () => took(20));
    expect(times[0]).toBeCloseTo(160);
    expect(times[7]).toBeCloseTo(20);
    expect(pace.knows({ kinds: new Map([["few a", 1]]) })).toBe(true);
    expect(pace.knows({ kinds: new Map([["few b", 1]]) })).toBe(false);
  });
});

describeGpu("a step in many submits", () => {
  const int4 = ordinaryCases.find(({ name }) => name.includes("attend int4, 6/2 heads of 96"))!;
  const [packed] = packedCases("k3c-v3r-n32", TOLERANCES.attendInt4, [2]);
  // In the last step runs of several units, rows alone before and behind them.
  const cases: [string, DeviceCase][] = [
    [
      "int4",
      {
        ...int4,
        steps: [
          [65, 32, 1, 2],
          [1, 100, 33, 1],
        ],
      },
    ],
    [
      "packed",
      {
        ...packed,
        steps: [
          [1, 80],
          [1, 70],
        ],
      },
    ],
  ];
  it.each(cases)("computes the same: %s", async (_, testCase) => {
    // Each dispatch alone, attention by 64 rows.
    const device = await webgpuDevice(await sharedGpu(), { traits: { few: 1 }, submitMs: 1e-9 });
    expect(await caseError(testCase, device)).toBeLessThanOrEqual(gpuTolerance(testCase));
  });

  it("of which one was stopped is an error, whatever the driver says", async () => {
    // From some submit on the GPU does nothing.
    let works = true;
    const { gpu } = await pretended({
      backend: "software",
      device: (opened) => {
        const submit = (commands: GPUCommandBuffer[]) => works && opened.queue.submit(commands);
        return wrapped(opened, { queue: wrapped(opened.queue, { submit }) });
      },
    });
    const graph = smallGraph();
    const allocation = await (await webgpuDevice(gpu, { submitMs: 1e-9 })).allocate(graph);
    for (const weight of graph.weights) {
      const { name, type, rows, cols } = weight;
      await allocation.load(weight, randomTensor(name, type, rows, cols));
    }
    const run = (position: number) =>
      allocation.run({ runs: [{ text: 0, position, ids: new Uint32Array(4), outputs: 1 }] });
    await run(0);
    await allocation.read(graph.logits, 0, 1);
    works = false;
    const error = await rejection(run(4).then(() => allocation.read(graph.logits, 0, 1)));
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.message).toMatch(
      /^gpu: .*: the GPU did not finish a step: after \d+\.\d s its last kernel had not run\. [^\n]+$/,
    );
    expect(await rejection(run(8))).toBe(error);
    await allocation.close();
  });
});
