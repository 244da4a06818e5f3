/** What every device refuses with the same errors, before anything is touched; and that numbers which are none show. */
import { afterAll, describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import {
  type Allocation,
  type Device,
  type Graph,
  type KvCodec,
  PAGE_SLOTS,
} from "../../src/device/contract.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { webgpuDevice } from "../../src/device/webgpu/webgpu.ts";
import { ArgumentError, UnsupportedError } from "../../src/format/errors.ts";
import { memoryTensor, randomTensor } from "./random-tensor.ts";
import { NO_GPU } from "./webgpu/gpu.ts";
import { sharedGpu } from "./webgpu/shared.ts";

const PAGES = 2;
const POSITIONS = PAGES * PAGE_SLOTS;

function graphOf(codec: KvCodec): Graph {
  const op = new Recorder(4, 2);
  const x = op.embed(op.weight("table", "matrix", "f32", 8, 64));
  const cache = op.cache({ layer: 0, codec, kvHeads: 1, headDim: 64, pool: op.pool(null, PAGES) });
  op.appendKv(cache, x, x);
  return op.finish(op.takeOutputs(op.attend(cache, x, { heads: 1, scale: 1 })), { texts: 2 });
}

const DEVICES: [string, () => Promise<Device>][] = [
  ["reference", async () => referenceDevice()],
  ["wasm", () => wasmDevice({ threads: 2 })],
  ["gpu", async () => webgpuDevice(await sharedGpu())],
];

describe.each(DEVICES)("%s", (name, open) => {
  const opened: Allocation[] = [];
  afterAll(() => Promise.all(opened.map((allocation) => allocation.close())));

  it.skipIf(name === "gpu" && NO_GPU !== null)("refuses steps that a graph was not made for", async () => {
    const graph = graphOf(kvCodec("f16"));
    const allocation = await (await open()).allocate(graph);
    opened.push(allocation);
    allocation.setPages(graph.pools[0], 0, 0, [0, 1]);
    const run = { text: 0, ids: Uint32Array.of(1, 2), position: 0, outputs: 1 };
    const refusal = async (...runs: (typeof run)[]) => {
      const ran = allocation.run({ runs });
      await expect(ran).rejects.toThrow(ArgumentError);
      return ran.then(String, (error: Error) => error.message);
    };
    const positions = [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, POSITIONS - 1, POSITIONS, 2 ** 32];
    for (const position of positions)
      expect(await refusal({ ...run, position })).toBe(
        `position of a run is ${position}; allowed: integers 0 to ${POSITIONS - 2}`,
      );
    for (const outputs of [-1, 0.5, 3, Number.NaN])
      expect(await refusal({ ...run, outputs })).toBe(
        `outputs of a run is ${outputs}; allowed: integers 0 to 2`,
      );
    for (const text of [-1, 0.5, 2, Number.NaN])
      expect(await refusal({ ...run, text })).toBe(`text is ${text}; allowed: integers 0 to 1`);
    expect(await refusal({ ...run, ids: new Uint32Array(0), outputs: 0 })).toMatch(/^tokens of a run is 0/);
    expect(await refusal({ ...run, ids: new Uint32Array(5) })).toBe("tokens of a step is 5; allowed: 1 to 4");
    expect(await refusal()).toBe("tokens of a step is 0; allowed: 1 to 4");
    expect(await refusal(run, run)).toMatch(/^text of a run is 0/);
    await allocation.run({ runs: [{ ...run, position: POSITIONS - 2 }] });
  });
});

describe.each(DEVICES)("%s", (name, open) => {
  it.skipIf(name === "gpu" && NO_GPU !== null).each(["q8_0", "f16"] as const)(
    "an infinity or a NaN shows in every product with its row, weights %s",
    async (type) => {
      const op = new Recorder(8, 8);
      const [cols, rows] = [64, 5];
      const x = op.embed(op.weight("table", "matrix", "f32", 8, cols));
      const graph = op.finish(op.matmul(x, op.weight("w", "matrix", type, rows, cols)));
      const values = new Float32Array(8 * cols).fill(1);
      values[1 * cols + 40] = Number.NaN;
      values[3 * cols + 1] = Number.NEGATIVE_INFINITY;
      values.fill(Number.NaN, 5 * cols, 6 * cols);
      const allocation = await (await open()).allocate(graph);
      const [table, weight] = graph.weights;
      await allocation.load(table, memoryTensor("table", "f32", 8, cols, new Uint8Array(values.buffer)));
      await allocation.load(weight, randomTensor("w", type, rows, cols));
      for (const ids of [
        Uint32Array.from({ length: 8 }, (_, i) => i),
        Uint32Array.of(1),
        Uint32Array.of(0),
      ]) {
        await allocation.run({ runs: [{ text: 0, ids, position: 0, outputs: ids.length }] });
        const found = await allocation.read(graph.logits, 0, ids.length);
        for (const [t, id] of ids.entries()) {
          const row = [...found.subarray(t * rows, (t + 1) * rows)];
          expect(row.map(Number.isFinite), `row ${id}`).toEqual(row.map(() => ![1, 3, 5].includes(id)));
        }
      }
      await allocation.close();
    },
  );
});

describe.each(DEVICES.slice(1))("%s", (name, open) => {
  it.skipIf(name === "gpu" && NO_GPU !== null)("refuses formats that it has no kernels for", async () => {
    const device = await open();
    for (const codec of [
      kvCodec("f32"),
      { ...kvCodec("f16"), name: "zz" },
      { ...kvCodec("f16"), name: "constructor" },
    ]) {
      const graph = graphOf(codec);
      const message = `KV format ${codec.name} on the ${name} device is not supported. Supported: f16, int4, rq4, and packed keys 4c, 3c`;
      expect(() => device.measure(graph)).toThrow(message);
      const allocated = device.allocate(graph);
      await expect(allocated).rejects.toThrow(UnsupportedError);
      await expect(allocated).rejects.toThrow(message);
    }
  });
});
