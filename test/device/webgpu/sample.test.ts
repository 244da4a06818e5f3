/** Sampling on the GPU against the host's: the same ids from the same logits and seed, but for ties within rounding. */
import { beforeAll, describe, expect, it } from "vitest";
import type { Sampling } from "../../../src/device/contract.ts";
import type { Buffer, Dispatch } from "../../../src/device/webgpu/dispatch.ts";
import type { Gpu } from "../../../src/device/webgpu/gpu.ts";
import { KERNELS } from "../../../src/device/webgpu/kernels.ts";
import { RunAhead, WordBack } from "../../../src/device/webgpu/run-ahead.ts";
import {
  MOST_KEPT,
  NOT_PROVEN,
  packChoice,
  planSampling,
  unpackCandidates,
} from "../../../src/device/webgpu/sample.ts";
import type { KernelSource } from "../../../src/device/webgpu/wgsl.ts";
import { sampler } from "../../../src/engine/sample.ts";
import { DeviceError } from "../../../src/format/errors.ts";
import { gaussian, random } from "../random-tensor.ts";
import { ALL_TRAITS, describeGpu, nullDevice, softwareDevice } from "./gpu.ts";

const STORAGE = 128 | 8 | 4;
const UNIFORM = 64 | 8;

/** A vocabulary's samplers on a device: buffers and bind groups made once. */
async function openSampler(gpu: Gpu, vocab: number) {
  const { device } = gpu;
  const made: GPUBuffer[] = [];
  const make = (label: string, bytes: number): Buffer => {
    made.push(device.createBuffer({ label, size: Math.ceil(bytes / 16) * 16, usage: STORAGE }));
    return { id: made.length - 1, label, bytes };
  };
  const logits = make("logits", vocab * 4);
  const ids = make("ids", 16);
  const plan = planSampling({ logits, vocab, ids, make });
  const step = device.createBuffer({ size: 16, usage: UNIFORM });
  const back = device.createBuffer({ size: 32 + MOST_KEPT * 8, usage: 1 | 8 });
  const ready = new Map<Dispatch, { pipeline: GPUComputePipeline; group: GPUBindGroup }>();
  for (const dispatch of plan.all) {
    const params = device.createBuffer({ size: dispatch.params.byteLength, usage: UNIFORM });
    device.queue.writeBuffer(params, 0, dispatch.params);
    const { kernel } = dispatch.kernel;
    const entries = (KERNELS[kernel] as KernelSource).bindings.map(([binding, , variable]) => {
      const own = { params, step }[variable];
      return { binding, resource: { buffer: own ?? made[dispatch.buffers[variable].id] } };
    });
    const group = device.createBindGroup({ layout: gpu.bindLayout(kernel), entries });
    ready.set(dispatch, { pipeline: await gpu.pipeline(dispatch.kernel), group });
  }

  const encode = (dispatches: readonly Dispatch[]) => {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const dispatch of dispatches) {
      const { pipeline, group } = ready.get(dispatch)!;
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...dispatch.workgroups({ tokens: 0, position: 0, outputs: 1 })!);
    }
    pass.end();
    return encoder;
  };
  const setLogits = (values: Float32Array) =>
    device.queue.writeBuffer(made[logits.id], 0, values as Float32Array<ArrayBuffer>);
  const run = async (dispatches: readonly Dispatch[]) => {
    const encoder = encode(dispatches);
    encoder.copyBufferToBuffer(made[ids.id], 0, back, 0, 16);
    encoder.copyBufferToBuffer(made[plan.chosen.id], 0, back, 16, 16);
    encoder.copyBufferToBuffer(made[plan.candidates.id], 0, back, 32, MOST_KEPT * 8);
    device.queue.submit([encoder.finish()]);
    await back.mapAsync(1);
    const bytes = back.getMappedRange().slice(0);
    back.unmap();
    gpu.check();
    return { id: new Uint32Array(bytes)[0], chosen: new Uint32Array(bytes)[4], candidates: bytes.slice(32) };
  };
  return {
    plan,
    setLogits,
    /** Steps are not run: `logitsAt` says what the step of the token before a position would give. */
    runAhead(sampling: Sampling, position: number, logitsAt: (position: number) => Float32Array): RunAhead {
      const word = new WordBack(gpu, made[plan.chosen.id]);
      device.queue.writeBuffer(made[plan.choice.id], 0, packChoice(sampling, position));
      const start = (at: number | null) => {
        setLogits(logitsAt(at === null ? position : at + 1));
        const step4 = at === null ? [0, position, 1, 0] : [1, at, 1, 1];
        device.queue.writeBuffer(step, 0, Uint32Array.from(step4));
        const encoder = encode(plan.dispatchesFor(sampling)!);
        const back = word.encode(encoder);
        device.queue.submit([encoder.finish()]);
        return back();
      };
      return new RunAhead({ position, most: 1000, start });
    },
    /** Sample number `index` of a seed. */
    async sample(sampling: Sampling, index: number) {
      device.queue.writeBuffer(made[plan.choice.id], 0, packChoice(sampling, 1000));
      device.queue.writeBuffer(step, 0, Uint32Array.of(1, 999 + index, 1, 0));
      return run(plan.dispatchesFor(sampling)!);
    },
    async candidates(count: number) {
      const found = unpackCandidates((await run(plan.candidatesFor(count))).candidates, count);
      return [...found.ids].map((id, i) => ({ id, logit: found.logits[i] }));
    },
  };
}

const GREEDY: Sampling = { temperature: 0, topK: 40, topP: 1, minP: 0, seed: 1, first: 0 };

/** What the host may choose as sample `index`: of cuts within 2e-5 of an edge either side is right. */
function right(logits: Float32Array, sampling: Sampling, index: number): Set<number> {
  const ids = new Set<number>();
  for (const by of [-2e-5, 0, 2e-5]) {
    const { seed, temperature, topK } = sampling;
    const sample = sampler({
      seed,
      temperature,
      topK,
      topP: Math.min(1, sampling.topP * (1 + by)),
      minP: Math.min(1, sampling.minP * (1 + by)),
    });
    for (let i = 0; i < index; i++) sample.skip();
    ids.add(sample.next(logits.slice(), []));
  }
  return ids;
}

const KINDS: Record<string, (next: () => number, i: number) => number> = {
  random: (next) => 3 * gaussian(next),
  // Eighths: many equals.
  coarse: (next) => Math.round(8 * gaussian(next)) / 8,
  equal: () => 1.5,
  peaked: (next, i) => (i % 97 === 5 ? 20 : 0) + gaussian(next),
  rising: (_, i) => i / 64,
  odd: (next) =>
    [Number.NaN, Number.NEGATIVE_INFINITY, -0, 0, -3e38, 1, gaussian(next)][Math.floor(7 * next())],
  infinite: (next) => (next() < 0.01 ? Number.POSITIVE_INFINITY : gaussian(next)),
  nothing: (next) => (next() < 0.5 ? Number.NaN : Number.NEGATIVE_INFINITY),
};

describeGpu("sampling on the GPU", () => {
  let gpu: Gpu;
  beforeAll(async () => {
    gpu = await softwareDevice({ subgroups: false });
  }, 60_000);

  // SwiftShader takes 10 ms for a tree: barriers are slow there.
  describe.each([
    { vocab: 1, draws: 1, kinds: ["random", "odd", "infinite", "nothing"] },
    { vocab: 40, draws: 2, kinds: ["random", "coarse", "equal", "odd"] },
    { vocab: 256, draws: 2, kinds: ["random", "coarse", "equal", "odd"] },
    { vocab: 1000, draws: 2, kinds: Object.keys(KINDS) },
    { vocab: 4097, draws: 1, kinds: ["coarse", "peaked", "odd"] },
    { vocab: 262_144, draws: 1, kinds: ["coarse"], cuts: 1 },
  ])("$vocab words", ({ vocab, draws, kinds, cuts = 5 }) => {
    let device: Awaited<ReturnType<typeof openSampler>>;
    beforeAll(async () => {
      device = await openSampler(gpu, vocab);
    }, 60_000);

    it.each(kinds)("%s logits: the host's ids", async (kind) => {
      const next = random(vocab);
      const logits = Float32Array.from({ length: vocab }, (_, i) => KINDS[kind](next, i));
      device.setLogits(logits);
      expect((await device.sample(GREEDY, 0)).chosen).toBe(sampler().next(logits, []));
      for (const [at, cut] of [
        { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05 },
        { temperature: 100, topK: 256, topP: 0.9, minP: 0 },
        { temperature: 1e-9, topK: 1, topP: 0.5, minP: 1 },
        { temperature: 1.5, topK: 64, topP: 1, minP: 0 },
        { temperature: 1, topK: 0, topP: 0.7, minP: 0.1 },
      ]
        .slice(0, cuts)
        .entries()) {
        for (let draw = 0; draw < draws; draw++) {
          const sampling = { ...cut, seed: 7919 * at + draw, first: 3 };
          const { chosen, id } = await device.sample(sampling, draw);
          if (chosen === NOT_PROVEN) {
            expect(cut.topK).toBe(0);
            expect(logits[id]).toBeGreaterThan(Number.NEGATIVE_INFINITY);
            continue;
          }
          expect(right(logits, sampling, 3 + draw)).toContain(chosen);
          expect(id).toBe(chosen);
        }
      }
      const finite = [...logits.keys()].filter((id) => logits[id] > Number.NEGATIVE_INFINITY);
      const sorted = finite.sort((a, b) => logits[b] - logits[a] || a - b);
      for (const count of [60, 256]) {
        const wanted = sorted.slice(0, count).map((id) => ({ id, logit: logits[id] + 0 }));
        expect(await device.candidates(count)).toEqual(wanted);
      }
    });
  });

  it("without top-k is proven where the cut lies within the largest, and said to be unproven elsewhere", async () => {
    const device = await openSampler(gpu, 2000);
    const cut = { temperature: 1, topK: 0, seed: 5, first: 0 };
    // 300 words of equal weight, the others beneath notice.
    device.setLogits(Float32Array.from({ length: 2000 }, (_, i) => (i < 300 ? 5 : -50)));
    expect((await device.sample({ ...cut, topP: 0.8, minP: 0 }, 0)).chosen).toBeLessThan(240);
    expect((await device.sample({ ...cut, topP: 0.9, minP: 0 }, 0)).chosen).toBe(NOT_PROVEN);
    expect((await device.sample({ ...cut, topP: 1, minP: 0.5 }, 0)).chosen).toBe(NOT_PROVEN);
    device.setLogits(Float32Array.from({ length: 2000 }, (_, i) => (i < 200 ? 5 : Number.NaN)));
    expect((await device.sample({ ...cut, topP: 1, minP: 0 }, 0)).chosen).toBeLessThan(200);
  });

  it("follows the probabilities", async () => {
    const device = await openSampler(gpu, 4);
    device.setLogits(Float32Array.of(Math.log(0.1), Math.log(0.6), Math.log(0.2), Math.log(0.1)));
    const counts = [0, 0, 0, 0];
    const sampling = { temperature: 1, topK: 4, topP: 1, minP: 0, seed: 42, first: 0 };
    for (let i = 0; i < 100; i++) counts[(await device.sample(sampling, i)).chosen]++;
    [10, 60, 20, 10].forEach((wanted, id) => {
      expect(Math.abs(counts[id] - wanted)).toBeLessThan(4 * Math.sqrt(wanted));
    });
  });

  describe("running ahead", () => {
    const logitsAt = (position: number) => {
      const next = random(position);
      return Float32Array.from({ length: 500 }, () => 2 * gaussian(next));
    };

    it("takes the numbers of the seed in turn, whatever was taken before", async () => {
      const device = await openSampler(gpu, 500);
      const cut = { temperature: 1, topK: 40, topP: 0.95, minP: 0.05, seed: 11 };
      const ahead = device.runAhead({ ...cut, first: 2 }, 70, logitsAt);
      const sample = sampler(cut);
      sample.skip();
      sample.skip();
      for (let i = 0; i < 12; i++) expect(await ahead.next()).toBe(sample.next(logitsAt(70 + i), []));
      expect(await ahead.stop()).toEqual({ position: 70 + 14 });
    });
  });

  it("leaves more than 256 to the host", async () => {
    const { plan } = await openSampler(gpu, 1000);
    expect(plan.dispatchesFor({ ...GREEDY, temperature: 1, topK: 257 })).toBeNull();
    expect(plan.dispatchesFor(GREEDY)!.length).toBe(2);
  });

  it("compiles with every feature on", async () => {
    await openSampler(await nullDevice(ALL_TRAITS), 128_256);
  });

  // The last one: another device would have to compile everything again.
  it("rejects, and stops, when the device is lost while it runs ahead", async () => {
    const device = await openSampler(gpu, 500);
    const ahead = device.runAhead(GREEDY, 0, () => new Float32Array(500));
    await ahead.next();
    gpu.device.destroy();
    const run = async () => {
      for (let i = 0; i < 9; i++) await ahead.next();
    };
    await expect(run()).rejects.toThrow(DeviceError);
    await ahead.stop();
  });
});
