/** A step that waits for the host behind each appendKv: what the host writes there is what attention reads. */
import { expect, it } from "vitest";
import { f16 } from "../../src/cache/codec-f16.ts";
import { type AfterAppend, type Device, PAGE_SLOTS } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { pageGraph } from "./page-cases.ts";
import { randomTensor } from "./random-tensor.ts";

const TOKENS = 20;
const PAGE = 1;

/** Two layers attend to the same 20 tokens, whose values of KV head 0 the host may halve: what comes out, and its calls. */
async function run(device: Device, halves: boolean) {
  const graph = pageGraph("f16", 1);
  const allocation = await device.allocate(graph);
  const layers: number[] = [];
  const halve: AfterAppend = async (cache) => {
    layers.push(cache.layer);
    const place = { cache, part: "values", kvHead: 0 } as const;
    const bytes = await allocation.readPages(place, [PAGE]);
    const vector = new Float32Array(cache.headDim);
    const size = f16.vectorBytes(cache.headDim);
    for (let slot = 0; slot < PAGE_SLOTS; slot++) {
      const own = bytes.subarray(slot * size, (slot + 1) * size);
      f16.decode(own, vector);
      const half = vector.map((x) => x / 2);
      f16.encode(half, own, "values");
    }
    await allocation.writePages(place, [PAGE], bytes);
  };
  try {
    for (const [i, weight] of graph.weights.entries())
      await allocation.load(weight, randomTensor(weight.name, weight.type, weight.rows, weight.cols, i + 1));
    for (const pool of graph.pools) allocation.setPages(pool, 0, 0, [PAGE]);
    const ids = Uint32Array.from({ length: TOKENS }, (_, i) => (i * 31) % 97);
    await allocation.run({ runs: [{ text: 0, position: 0, ids, outputs: 1 }] }, halves ? halve : undefined);
    return { logits: await allocation.read(graph.logits, 0, 1), layers };
  } finally {
    await allocation.close();
  }
}

it.each([
  ["the reference", async () => referenceDevice()],
  ["the CPU device", () => wasmDevice({ threads: 2 })],
  ["the CPU device with three memories", () => wasmDevice({ threads: 2, memory: { dealTo: 3 } })],
] as const)("%s waits behind each layer's appendKv", async (_, open) => {
  const device = await open();
  expect(device.pauses).toBe(true);
  const plain = await run(device, false);
  const halved = await run(device, true);
  expect(halved.layers).toEqual([0, 1]);
  // Query heads 0 and 1 read KV head 0; the others read KV head 1, which nobody touched.
  const half = plain.logits.length / 2;
  plain.logits.forEach((x, i) => {
    expect(halved.logits[i]).toBeCloseTo(i < half ? x / 2 : x, 5);
  });
});
