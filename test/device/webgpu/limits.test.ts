/** Limits of an adapter: what a device is opened with, which contexts fit, and matrices larger than one binding. */
import { expect, it } from "vitest";
import { kvCodec } from "../../../src/cache/codecs.ts";
import type { Device } from "../../../src/device/contract.ts";
import { referenceDevice } from "../../../src/device/reference/reference.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { planMemory } from "../../../src/engine/plan.ts";
import { bufferSource } from "../../../src/format/buffer-source.ts";
import { ggufCheckpoint } from "../../../src/format/checkpoints.ts";
import { MemoryError } from "../../../src/format/errors.ts";
import { type Model, openModel } from "../../../src/model/model.ts";
import { type TinyModel, tinyModel } from "../../engine/tiny-model.ts";
import { T } from "../../format/write-gguf.ts";
import { relativeError } from "../../model/golden.ts";
import { PagedTexts } from "../paged.ts";
import { describeGpu } from "./gpu.ts";
import { smallGraph } from "./graphs.ts";
import { pretended } from "./wrapped.ts";

const MIB = 2 ** 20;

async function tiny(options: TinyModel = {}): Promise<Model> {
  return openModel(await ggufCheckpoint(bufferSource("tiny.gguf", tinyModel(options))));
}

/** Both limits of a buffer. */
const buffers = (bytes: number) => ({ maxBufferSize: bytes, maxStorageBufferBindingSize: bytes });

describeGpu("a device is opened", () => {
  /** The limits that an allocation asks for. */
  async function asked(layers: number, slots: number, matrices: boolean): Promise<unknown> {
    const info = {
      subgroupMinSize: 32,
      subgroupMaxSize: 32,
      subgroupMatrixConfigs: [8, 16].map((N) => ({
        componentType: "f16",
        resultComponentType: "f32",
        M: 16,
        N,
        K: 16,
      })),
    };
    const { gpu, requests } = await pretended({
      info,
      limits: { ...buffers(1024 * MIB), maxComputeWorkgroupStorageSize: 65_536 },
    });
    const device = await webgpuDevice(gpu, { traits: { matrices } });
    // Dawn's null backend has no more than the default limits, and refuses.
    await device.allocate(smallGraph(layers, slots)).then(
      (allocation) => allocation.close(),
      () => {},
    );
    expect(requests.length).toBe(1);
    return requests[0].requiredLimits;
  }

  it("with the default limits where a model fits them", async () => {
    expect(await asked(1, 32, false)).toEqual({});
    expect(await asked(3, MIB, false)).toEqual({});
  });

  it("with the memory of a workgroup that subgroup matrices need", async () => {
    expect(await asked(1, 32, true)).toEqual({ maxComputeWorkgroupStorageSize: 32_768 });
  });

  it("with as large a binding, and a buffer, as the largest needs", async () => {
    expect(await asked(1, 1.5 * MIB, false)).toEqual({ maxStorageBufferBindingSize: 192 * MIB });
    expect(await asked(1, 2 * MIB + 32, false)).toEqual(buffers(256 * MIB + 32 * 128));
  });
});

describeGpu("a cache larger than one buffer", () => {
  const LIMIT = MIB;
  /** f16: 64 bytes a token and layer, in keys and in values each. */
  const FITS = LIMIT / 64;
  const long = () =>
    tiny({
      keys: (all) =>
        all.map((entry) => (entry[0] === "llama.context_length" ? [entry[0], T.u32, MIB] : entry)),
    });
  const small = async () => webgpuDevice((await pretended({ limits: buffers(LIMIT + 12) })).gpu);

  it("is refused with the longest context that fits", async () => {
    const [model, device] = [await long(), await small()];
    const planned = () => planMemory(model, device, { kv: "f16", context: MIB });
    expect(planned).toThrow(MemoryError);
    expect(planned).toThrow(
      `"keys of layer 0" needs 64 MiB in one buffer; the gpu device allows 1 MiB. Longest context that fits: ${FITS} tokens.`,
    );
  });

  it("is not planned where no context was asked for", async () => {
    const plan = planMemory(await long(), await small(), { kv: "f16" });
    expect(plan.context).toBe(FITS);
    expect(plan.footprint.largest).toMatchObject({ bytes: LIMIT });
  });
});

/** Logits after two chunks and two single tokens, of each. */
async function logits(model: Model, device: Device, chunk: number): Promise<Float32Array> {
  const graph = model.record({ context: 32, maxTokens: chunk, maxOutputs: 1, codec: kvCodec("f16") });
  const { largest } = device.measure(graph);
  expect(largest?.bytes ?? 0).toBeLessThanOrEqual(device.bufferBytes ?? Number.POSITIVE_INFINITY);
  const allocation = await device.allocate(graph);
  try {
    for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
    const { cols } = graph.logits;
    const texts = new PagedTexts(allocation, graph);
    const found: number[] = [];
    for (const tokens of [chunk, chunk - 1, 1, 1]) {
      const [position] = texts.positions;
      const ids = Array.from({ length: tokens }, (_, i) => ((position + i) * 37) % cols);
      await texts.run([{ text: 0, ids }]);
      found.push(...(await allocation.read(graph.logits, 0, 1)));
    }
    return Float32Array.from(found);
  } finally {
    await allocation.close();
  }
}

describeGpu("matrices larger than one binding", () => {
  it.each([
    { rows: 128, chunk: 8, few: 1 },
    // No whole tiles.
    { rows: 75, chunk: 4, few: 4 },
  ])("are split: $rows rows fit", async ({ rows, chunk, few }) => {
    const model = await tiny();
    const split = await pretended({ backend: "software", limits: buffers(rows * 64) });
    const found = await logits(model, await webgpuDevice(split.gpu, { traits: { few } }), chunk);
    const wanted = await logits(model, referenceDevice(), chunk);
    // Activations rounded to 8 bits a block of 32, in two layers of random weights: 0.02 to 0.06.
    expect(relativeError(found, wanted)).toBeLessThan(0.1);
  });
});
