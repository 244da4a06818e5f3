/** What every device refuses with the same errors, before anything is touched; and that copying a cache leaves the event loop free. */
import { afterAll, describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Allocation, Device, Graph, KvCodec } from "../../src/device/contract.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { webgpuDevice } from "../../src/device/webgpu/webgpu.ts";
import { ArgumentError, UnsupportedError } from "../../src/format/errors.ts";
import { NO_GPU, softwareGpu } from "./webgpu/gpu.ts";

const CAPACITY = 64;

function graphOf(codec: KvCodec, { capacity = CAPACITY, window = null as number | null } = {}): Graph {
  const op = new Recorder(4, 2);
  const x = op.embed(op.weight("table", "matrix", "f32", 8, 64));
  const cache = op.cache({ layer: 0, codec, kvHeads: 1, headDim: 64, window, capacity });
  op.appendKv(cache, x, x);
  return op.finish(op.takeOutputs(op.attend(cache, x, { heads: 1, scale: 1 })), { timelines: 2 });
}

const DEVICES: [string, () => Promise<Device>][] = [
  ["reference", async () => referenceDevice()],
  ["wasm", () => wasmDevice({ threads: 2 })],
  ["gpu", async () => webgpuDevice(await softwareGpu())],
];

describe.each(DEVICES)("%s", (name, open) => {
  const skip = name === "gpu" && NO_GPU !== null;
  const opened: Allocation[] = [];
  afterAll(() => Promise.all(opened.map((allocation) => allocation.close())));
  const allocate = async (graph: Graph) => {
    const allocation = await (await open()).allocate(graph);
    opened.push(allocation);
    return allocation;
  };

  it.skipIf(skip)("refuses steps that a graph was not made for, by number", async () => {
    const allocation = await allocate(graphOf(kvCodec("f16")));
    const step = { ids: Uint32Array.of(1, 2), position: 0, outputs: 1 };
    const positions = [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, CAPACITY - 1, CAPACITY, 2 ** 32];
    for (const position of positions) {
      const run = allocation.run({ ...step, position });
      await expect(run).rejects.toThrow(ArgumentError);
      await expect(run).rejects.toThrow(
        `position of a step is ${position}; allowed: integers 0 to ${CAPACITY - 2}`,
      );
    }
    for (const outputs of [-1, 0.5, 3, Number.NaN])
      await expect(allocation.run({ ...step, outputs })).rejects.toThrow(
        /^outputs of a step is .*; allowed: 0 to 2$/,
      );
    await expect(allocation.run({ ...step, ids: new Uint32Array(0) })).rejects.toThrow(
      /^tokens of a step is 0/,
    );
    await expect(allocation.run({ ...step, timeline: 2 })).rejects.toThrow("timeline is 2; allowed: 0 to 1");
    for (const tokens of [-1, 1.5, Number.NaN])
      await expect(allocation.copyCache(0, 1, tokens)).rejects.toThrow(
        /^tokens to copy is .*; allowed: integers/,
      );
    await allocation.run({ ...step, position: CAPACITY - 2 });
  });

  it.skipIf(skip)("takes any position that a ring goes on to", async () => {
    const allocation = await allocate(graphOf(kvCodec("int4"), { window: 40 }));
    const step = { ids: Uint32Array.of(1, 2), outputs: 1 };
    await allocation.run({ ...step, position: 1000 });
    await expect(allocation.run({ ...step, position: 2 ** 31 - 1 })).rejects.toThrow(ArgumentError);
  });
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
      const message = `KV format ${codec.name} on the ${name} device is not supported. It has: f16, int4, rq4.`;
      expect(() => device.measure(graph)).toThrow(message);
      const allocated = device.allocate(graph);
      await expect(allocated).rejects.toThrow(UnsupportedError);
      await expect(allocated).rejects.toThrow(message);
    }
  });
});

it("wasm: copying a large cache leaves the event loop free, and no step runs meanwhile", async () => {
  const capacity = 2 ** 17;
  const allocation = await (await wasmDevice({ threads: 1 })).allocate(graphOf(kvCodec("f16"), { capacity }));
  try {
    let turns = 0;
    let copying = true;
    const copied = allocation.copyCache(0, 1, capacity).finally(() => {
      copying = false;
    });
    await expect(allocation.run({ ids: Uint32Array.of(1), position: 0, outputs: 1 })).rejects.toThrow(
      "a cache is being copied",
    );
    while (copying) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
    }
    await copied;
    // 32 MiB in pieces of 4.
    expect(turns).toBeGreaterThanOrEqual(8);
  } finally {
    await allocation.close();
  }
});
