/** Weights on their way to the GPU: in bounded pieces, a few at once, and no more of them once something is wrong. */
import { expect, it } from "vitest";
import type { Graph } from "../../../src/device/contract.ts";
import { Recorder } from "../../../src/device/recorder.ts";
import type { WebgpuAllocation } from "../../../src/device/webgpu/allocation.ts";
import { packRows } from "../../../src/device/webgpu/pack.ts";
import { packThreads } from "../../../src/device/webgpu/pack-threads.ts";
import { ReadBack } from "../../../src/device/webgpu/read-back.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { codesRowBytes, scalesRowBytes, weightForm } from "../../../src/device/webgpu/weights.ts";
import { DeviceError, FormatError, UnsupportedError } from "../../../src/format/errors.ts";
import { finiteTensor } from "../../../src/format/finite-tensor.ts";
import { rowBytes, type Tensor } from "../../../src/format/tensor.ts";
import { randomBytes } from "../random-tensor.ts";
import { describeGpu, softwareGpu } from "./gpu.ts";
import { expectLost, LOSSES, losable, rejection } from "./losable.ts";
import { wrapped } from "./wrap.ts";
import { pretended } from "./wrapped.ts";

const MIB = 2 ** 20;
/** A q8_0 row of 4,096 columns. */
const ROW_BYTES = (4096 / 32) * 34;
const ROWS = 5000;

function wideGraph(): Graph {
  const op = new Recorder(1, 1);
  const x = op.embed(op.weight("table", "matrix", "f32", 2, 4096));
  return op.finish(op.matmul(x, op.weight("wide", "matrix", "q8_0", ROWS, 4096)));
}

/** 20 MiB of zeros, and the bytes of each read. */
function wide(): { tensor: Tensor; reads: number[] } {
  const reads: number[] = [];
  const readRows = async (_first: number, _count: number, into: Uint8Array) => {
    reads.push(into.length);
  };
  return { tensor: { name: "wide", type: "q8_0", rows: ROWS, cols: 4096, readRows }, reads };
}

/** A device that tells how much it holds of what was written and is not yet submitted, at most. */
async function watched() {
  const held = { now: 0, most: 0 };
  const { gpu } = await pretended({
    device: (opened) => {
      const { queue } = opened;
      const writeBuffer: GPUQueue["writeBuffer"] = (buffer, at, data, first, size) => {
        queue.writeBuffer(buffer, at, data, first, size);
        held.now += size ?? 0;
        held.most = Math.max(held.most, held.now);
      };
      const onSubmittedWorkDone = async () => {
        await queue.onSubmittedWorkDone();
        held.now = 0;
      };
      return wrapped(opened, { queue: wrapped(queue, { writeBuffer, onSubmittedWorkDone }) });
    },
  });
  const graph = wideGraph();
  const allocation = await (await webgpuDevice(gpu)).allocate(graph);
  return { allocation, weight: graph.weights[1], held };
}

describeGpu("a matrix of 20 MiB", () => {
  it("is read and written in pieces of a few MiB, two at once and each waited for, and all of it is counted", async () => {
    const { allocation, weight, held } = await watched();
    const { tensor, reads } = wide();
    let bytes = 0;
    await allocation.load(weight, tensor, (more) => {
      bytes += more;
    });
    expect(bytes).toBe(ROWS * ROW_BYTES);
    expect(reads.reduce((sum, read) => sum + read)).toBe(bytes);
    expect(reads.length).toBeGreaterThan(2);
    expect(Math.max(...reads)).toBeLessThanOrEqual(8 * MIB);
    // Two pieces at once.
    expect(held.most).toBeLessThanOrEqual(2 * 9 * MIB);
    await allocation.close();
  });

  it("takes no more memory when others are loaded with it, and is read before them", async () => {
    const { allocation, weight, held } = await watched();
    const order: string[] = [];
    const named = (name: string): Tensor => ({
      ...wide().tensor,
      readRows: async (first) => void order.push(`${name} ${first}`),
    });
    await Promise.all(["a", "b"].map((name) => allocation.load(weight, named(name))));
    expect(held.most).toBeLessThanOrEqual(2 * 9 * MIB);
    expect(order.length).toBe(6);
    expect(order).toEqual([...order].sort((a, b) => a.localeCompare(b, "en", { numeric: true })));
    await allocation.close();
  });

  it("is read no further once the device is closed", async () => {
    const { allocation, weight } = await watched();
    const { tensor, reads } = wide();
    const error = await rejection(allocation.load(weight, tensor, () => void allocation.close()));
    expect(error.message).toBe("gpu: the device is closed");
    expect(reads.length).toBeLessThanOrEqual(2);
  });

  it("that cannot be read any more ends with the error of its file", async () => {
    const { allocation, weight } = await watched();
    const { tensor, reads } = wide();
    const failing = async (first: number, count: number, into: Uint8Array) => {
      if (reads.length === 2) throw new RangeError("the file ends here");
      await tensor.readRows(first, count, into);
    };
    const error = await rejection(allocation.load(weight, { ...tensor, readRows: failing }));
    expect(error).toEqual(new RangeError("the file ends here"));
    await allocation.close();
  });
});

describeGpu("experts that lie beside those of another weight", () => {
  it("are read from their file at once", async () => {
    const op = new Recorder(1, 1);
    const x = op.embed(op.weight("table", "matrix", "f32", 2, 32));
    const picks = op.route(op.matmul(x, op.weight("router", "matrix", "f32", 16, 32)), {
      k: 2,
      normalise: true,
    });
    const experts = (name: string) =>
      op.expertMatmul(x, picks, op.weight(name, "matrix", "q8_0", 16 * 8, 32), { experts: 16 });
    const graph = op.finish(op.gate(experts("gate"), experts("up"), "silu"));
    const allocation = await (await webgpuDevice((await pretended()).gpu)).allocate(graph);
    const { tensor, reads } = wide();
    const weight = graph.weights.find(({ name }) => name === "up")!;
    await allocation.load(weight, { ...tensor, name: "up", rows: 16 * 8, cols: 32 });
    expect(reads).toEqual([16 * 8 * 34]);
    await allocation.close();
  });
});

/** What threads run: built by `node scripts/build.js --ts`, since Node 20 runs no TypeScript. */
const BUILT = new URL("../../../dist/device/webgpu/pack-slab.js", import.meta.url);
const code = (text: string) => new URL(`data:text/javascript,${encodeURIComponent(text)}`);

/** A device that keeps what is copied to buffers, by their labels, and counts the buffers that the host writes. */
async function staging() {
  const written = new Map<string, Uint8Array>();
  const staged = { now: 0, most: 0 };
  const memory = new Map<GPUBuffer, Uint8Array>();
  const { gpu } = await pretended({
    device: (opened) =>
      wrapped(opened, {
        createBuffer(descriptor: GPUBufferDescriptor) {
          const buffer = opened.createBuffer(descriptor);
          if (descriptor.label !== "weights, staged") return buffer;
          staged.most = Math.max(staged.most, ++staged.now);
          const { destroy } = buffer;
          buffer.destroy = () => {
            staged.now--;
            destroy.call(buffer);
          };
          const bytes = new Uint8Array(descriptor.size);
          buffer.getMappedRange = () => bytes.buffer;
          memory.set(buffer, bytes);
          return buffer;
        },
        createCommandEncoder() {
          const encoder = opened.createCommandEncoder();
          const copyBufferToBuffer = (...copy: [GPUBuffer, number, GPUBuffer, number, number]) => {
            const [source, from, to, at, size] = copy;
            const bytes = written.get(to.label) ?? new Uint8Array(to.size);
            bytes.set(memory.get(source)!.subarray(from, from + size), at);
            written.set(to.label, bytes);
            encoder.copyBufferToBuffer(...copy);
          };
          return wrapped(encoder, { copyBufferToBuffer });
        },
      }),
  });
  return { gpu, written, staged };
}

describeGpu("threads that pack", () => {
  const [rows, cols] = [3000, 4096];

  /** Reads of a q6_k matrix, by a device whose threads run `module`. */
  async function load(
    module: URL,
    readRows?: Tensor["readRows"],
    damage: (file: Uint8Array) => void = () => {},
  ) {
    const { gpu, written, staged } = await staging();
    const op = new Recorder(1, 1);
    const x = op.embed(op.weight("table", "matrix", "f32", 2, cols));
    const graph = op.finish(op.matmul(x, op.weight("wide", "matrix", "q6_k", rows, cols)));
    const device = await webgpuDevice(gpu, { packing: packThreads(2, module) });
    const allocation = await device.allocate(graph);
    const part = randomBytes("q6_k", 64, cols, 3);
    const stride = rowBytes("q6_k", cols);
    const file = Uint8Array.from({ length: rows * stride }, (_, i) => part[i % part.length]);
    damage(file);
    const whole: Tensor["readRows"] = async (first, count, into) =>
      into.set(file.subarray(first * stride, (first + count) * stride));
    const tensor = { name: "wide", type: "q6_k", rows, cols, readRows: readRows ?? whole } as const;
    try {
      await allocation.load(graph.weights[1], finiteTensor(tensor));
    } finally {
      await allocation.close();
    }
    return { written, staged, file };
  }

  it("write what is packed without them", async () => {
    const { written, file } = await load(BUILT);
    const form = weightForm("q6_k");
    const codes = new Uint32Array((rows * codesRowBytes(form, cols)) / 4);
    const scales = new Uint32Array((rows * scalesRowBytes(form, cols)) / 4);
    packRows("q6_k", file, rows, cols, codes, scales);
    expect(Buffer.compare(written.get("wide")!, new Uint8Array(codes.buffer))).toBe(0);
    expect(Buffer.compare(written.get("scales of wide")!, new Uint8Array(scales.buffer))).toBe(0);
  });

  it("write through at most four buffers, of which none is left", async () => {
    const { gpu, staged } = await staging();
    const graph = wideGraph();
    const allocation = await (await webgpuDevice(gpu, { packing: packThreads(2, BUILT) })).allocate(graph);
    const { tensor, reads } = wide();
    await Promise.all([1, 2, 3].map(() => allocation.load(graph.weights[1], tensor)));
    // 481 rows each.
    expect(reads.length).toBe(3 * 11);
    expect(Math.max(...reads)).toBeLessThanOrEqual(2 * MIB);
    await expect.poll(() => staged).toEqual({ now: 0, most: 4 });
    await allocation.load(graph.weights[1], tensor);
    await expect.poll(() => staged).toEqual({ now: 0, most: 4 });
    await allocation.close();
  });

  it.each(LOSSES)("end when the device is lost (%s) between two pieces", async (loss) => {
    const { gpu, lose } = await losable(loss);
    const graph = wideGraph();
    const allocation = await (await webgpuDevice(gpu, { packing: packThreads(2, BUILT) })).allocate(graph);
    const { tensor } = wide();
    const load = () => allocation.load(graph.weights[1], tensor, () => lose());
    await expectLost(loss, load, () => allocation.load(graph.weights[1], tensor));
    await allocation.close();
  });

  it("fill a GPU's buffer, also one larger than all that are written at once", async () => {
    const device = await webgpuDevice(await softwareGpu(), { packing: packThreads(2, BUILT) });
    const op = new Recorder(1, 1);
    const [height, width] = [5000, 4096];
    const x = op.embed(op.weight("table", "matrix", "f32", 2, width));
    const graph = op.finish(op.matmul(x, op.weight("tall", "matrix", "f16", height, width)));
    const allocation = (await device.allocate(graph)) as WebgpuAllocation;
    const readRows: Tensor["readRows"] = async (first, count, into) => {
      const halves = new Uint16Array(into.buffer, into.byteOffset, into.length / 2);
      for (let row = 0; row < count; row++) halves.fill(first + row, row * width, (row + 1) * width);
    };
    const tensor = { name: "tall", type: "f16", rows: height, cols: width, readRows } as const;
    await allocation.load(graph.weights[1], finiteTensor(tensor));
    const tall = [...allocation.buffers.values()].find(({ label }) => label === "tall")!;
    const rows = Array.from({ length: height }, (_, row) => row);
    const ends = await new ReadBack(allocation.gpu).read(
      tall,
      rows.map((row) => (row + 1) * width * 2 - 4),
      4,
    );
    expect([...new Uint32Array(ends)]).toEqual(rows.map((row) => row * 0x10001));
    await allocation.close();
  });

  // Of a block in the last piece: a NaN, and 60,000, times which no code fits float16.
  it.each([
    [0x7e00, FormatError, /^tensor wide, rows \d+ to 2999: an infinity or a NaN; .*finite numbers/],
    [0x7b53, UnsupportedError, /^Weight wide with numbers of up to .* \(float16's largest is 65504\)/],
  ])("find a d of %i", async (half, kind, wanted) => {
    const error = await rejection(
      load(BUILT, undefined, (file) => new DataView(file.buffer).setUint16(file.length - 2, half, true)),
    );
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toMatch(wanted);
  });

  it("end with the error of the file", async () => {
    let reads = 0;
    const failing = async () => {
      if (++reads === 2) throw new RangeError("the disk fails here");
    };
    expect(await rejection(load(BUILT, failing))).toEqual(new RangeError("the disk fails here"));
  });

  it.each([
    [
      "are not there",
      new URL("file:///nowhere/pack-slab.js"),
      /threads that pack weights failed: Cannot find module/,
    ],
    ["end", code("export const packSlab = () => process.exit(3)"), /threads that pack weights ended/],
    [
      "throw",
      code("export const packSlab = () => { throw new Error('no') }"),
      /threads that pack weights failed: no/,
    ],
  ])("that %s are one error", async (_, module, wanted) => {
    const error = await rejection(load(module));
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.message).toMatch(wanted);
  });
});
