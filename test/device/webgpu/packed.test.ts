/**
 * Packed caches on a GPU in software: attention is the reference's, and pages are packed bit for bit as the codec packs them.
 */
import { expect, it } from "vitest";
import { kvCodec } from "../../../src/cache/codecs.ts";
import { PAGE_SLOTS } from "../../../src/device/contract.ts";
import { Recorder } from "../../../src/device/recorder.ts";
import { referenceDevice } from "../../../src/device/reference/reference.ts";
import { type WebgpuDevice, webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { TOLERANCES } from "../device-cases.ts";
import { packedCases } from "../packed-cases.ts";
import { gaussian, memoryTensor, random } from "../random-tensor.ts";
import { conform } from "./conformance.ts";
import { describeGpu } from "./gpu.ts";
import { sharedGpu } from "./shared.ts";

/** SwiftShader compiles slowly: of the shapes few. bench/conformance.js runs all of them on a GPU. */
const { attendInt4 } = TOLERANCES;
conform("packed, subgroups of 4", { few: 8 }, packedCases("k4c-v4r-n32-f32", attendInt4, [1]));
conform(
  "packed, no subgroups, prompts from two rows on",
  { subgroups: false, few: 1 },
  packedCases("k3c-v3r-n32", attendInt4, [3]),
);

/** Rows of a page whose channels and vectors are unlike: ordinary ones, constant, tiny, huge, and of all sizes. */
function unlike(headDim: number, seed: number): Float32Array<ArrayBuffer> {
  const next = random(seed);
  return Float32Array.from({ length: PAGE_SLOTS * headDim }, (_, i) => {
    const [slot, dim] = [Math.floor(i / headDim), i % headDim];
    const x = gaussian(next);
    const byDim = [x, 3, 6e-8 * Math.round(x), 60_000 * x, x * 2 ** (dim % 30) * 1e-6, -0, x + 605][dim % 7];
    return slot % 8 === 5 ? [0, 1e-7, 1e5, -x][(slot >> 3) % 4] * x : byDim;
  });
}

describeGpu("packKv", () => {
  it.each([
    ["k4c-v4r-n32", 80],
    ["k3c-v3r-n32", 64],
    ["k3c-v3r-n32", 80],
  ])("%s, heads of %d: pages are the codec's, bit for bit", async (kv, headDim) => {
    const graphOf = () => {
      const op = new Recorder(PAGE_SLOTS, 1);
      const pool = op.pool(null, 3);
      const cache = op.cache({ layer: 0, codec: kvCodec(kv), kvHeads: 1, headDim, pool });
      const inputs = ["keys", "values"].map((name) =>
        op.embed(op.weight(name, "matrix", "f32", 32, headDim)),
      );
      op.appendKv(cache, inputs[0], inputs[1]);
      op.recentPool(2);
      return op.finish(op.takeOutputs(inputs[0]), { texts: 1, blocks: 1 });
    };
    const packed = async (device: WebgpuDevice | ReturnType<typeof referenceDevice>) => {
      const graph = graphOf();
      const allocation = await device.allocate(graph);
      try {
        for (const [i, weight] of graph.weights.entries()) {
          const bytes = new Uint8Array(unlike(headDim, i + 1).buffer);
          await allocation.load(weight, memoryTensor(weight.name, "f32", PAGE_SLOTS, headDim, bytes));
        }
        const [cache] = graph.caches;
        allocation.setPages(cache.pool, 0, 0, [2]);
        allocation.setPages(graph.recentPool!, 0, 0, [1]);
        const ids = Uint32Array.from({ length: PAGE_SLOTS }, (_, i) => i);
        await allocation.run({
          runs: [{ text: 0, position: 0, ids, outputs: 1, packed: { blocks: 0, pack: [0] } }],
        });
        const read = (part: "keys" | "values", isRecent: boolean) =>
          allocation.readPages({ cache, part, kvHead: 0, isRecent }, [isRecent ? 1 : 2]);
        const found = [];
        for (const part of ["keys", "values"] as const)
          for (const isRecent of [true, false]) found.push([...(await read(part, isRecent))]);
        return found;
      } finally {
        await allocation.close();
      }
    };
    const found = await packed(await webgpuDevice(await sharedGpu()));
    expect(found).toEqual(await packed(referenceDevice()));
  });
});
