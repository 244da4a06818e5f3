/**
 * A GPU that fails under an allocation, in every phase: one DeviceError, the same for each later call, and no hang. On
 * Dawn's null backend: these are paths of the host, and it compiles fast.
 */
import { describe, expect, it } from "vitest";
import { type Allocation, CHOSEN, type Graph } from "../../../src/device/contract.ts";
import { webgpuDevice } from "../../../src/device/webgpu/webgpu.ts";
import { DeviceError, NibbleError } from "../../../src/format/errors.ts";
import { randomTensor } from "../random-tensor.ts";
import { describeGpu } from "./gpu.ts";
import { smallGraph } from "./graphs.ts";
import { expectLost, LOSSES, losable, rejection } from "./losable.ts";
import { wrapped } from "./wrap.ts";
import { pretended } from "./wrapped.ts";

async function fill(allocation: Allocation, graph: Graph, onBytes?: () => void): Promise<void> {
  for (const weight of graph.weights) {
    const { name, type, rows, cols } = weight;
    await allocation.load(weight, randomTensor(name, type, rows, cols), onBytes);
  }
}

/** A small graph on a device, its weights loaded, and the calls that there are. */
async function ready(gpu: GPU) {
  const graph = smallGraph(1, 64);
  // Four tokens are a prompt.
  const allocation = await (await webgpuDevice(gpu, { traits: { few: 1 } })).allocate(graph);
  await fill(allocation, graph);
  const sampling = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 1, draw: 0 };
  const step = (position: number, ids: Uint32Array, choice: typeof sampling | null = null) =>
    allocation.run({ runs: [{ text: 0, position, ids, outputs: 1, sampling: choice }] });
  const [cache] = graph.caches;
  const place = { cache, part: "keys", kvHead: 0 } as const;
  return {
    allocation,
    graph,
    run: (position: number) => step(position, new Uint32Array(4)),
    /** A step with the id that was chosen last, and the choice of the next. */
    choose: (position: number) => step(position, Uint32Array.of(CHOSEN), sampling),
    read: () => allocation.read(graph.logits, 0, 1),
    candidates: async () => allocation.candidates!(0, 5),
    pages: [
      () => allocation.readPages(place, [1, 0]),
      () => allocation.writePages(place, [1], new Uint8Array(32 * 128)),
      () => allocation.copyPage(cache.pool, 1, 0),
    ],
  };
}

describeGpu("a device that is lost", () => {
  describe.each(LOSSES)("%s", (loss) => {
    it("while kernels compile", async () => {
      const { gpu, lose } = await losable(loss);
      const graph = smallGraph();
      const making = (await webgpuDevice(gpu)).allocate(graph);
      setTimeout(lose);
      // What the loss overtakes may still be made; then the next call fails.
      await expectLost(loss, () =>
        making.then(async (allocation) => {
          await fill(allocation, graph);
          await allocation.read(graph.logits, 0, 1);
        }),
      );
    });

    it("while weights are loaded", async () => {
      const { gpu, lose } = await losable(loss);
      const graph = smallGraph();
      const allocation = await (await webgpuDevice(gpu)).allocate(graph);
      await expectLost(
        loss,
        () => fill(allocation, graph, lose).then(() => allocation.read(graph.logits, 0, 1)),
        () => fill(allocation, graph),
      );
      await allocation.close();
    });

    it("between steps, then also for every other call", async () => {
      const { gpu, lose } = await losable(loss);
      const { allocation, run, read, candidates, choose, pages } = await ready(gpu);
      await run(0);
      lose();
      await expectLost(
        loss,
        read,
        () => run(4),
        candidates,
        () => choose(4),
        ...pages,
        read,
      );
      await allocation.close();
    });

    it("with steps of a prompt under way", async () => {
      const { gpu, lose } = await losable(loss);
      const { allocation, run, read } = await ready(gpu);
      const steps = async () => {
        for (let position = 0; position < 40; position += 4) {
          await run(position);
          if (position === 8) lose();
        }
      };
      await expectLost(loss, () => steps().then(read), read);
      await allocation.close();
    });

    it("while logits are read back", async () => {
      const { gpu, lose } = await losable(loss);
      const { allocation, run, read, candidates } = await ready(gpu);
      await run(0);
      // Kernels of the candidates are compiled then.
      await candidates();
      const both = [read(), candidates()];
      lose();
      await expectLost(loss, ...both.map((call) => () => call), read);
      await allocation.close();
    });

    it("while ids that it chooses are under way", async () => {
      const { gpu, lose } = await losable(loss);
      const { allocation, run, choose, read } = await ready(gpu);
      await run(0);
      // The kernels that choose are compiled then.
      expect(await (await choose(4)).chosen).toEqual([0]);
      const under: Promise<unknown>[] = [];
      for (let position = 5; position < 9; position++) under.push((await choose(position)).chosen);
      lose();
      await expectLost(loss, ...under.map((chosen) => () => chosen), () => choose(9), read);
      await allocation.close();
    });

    it("while it chooses, and nobody waits for the ids", async () => {
      const { gpu, lose } = await losable(loss);
      const { allocation, run, choose, read } = await ready(gpu);
      await run(0);
      const steps = async () => {
        for (let position = 4; position < 40; position++) {
          await choose(position);
          if (position === 8) lose();
        }
      };
      // A promise that is rejected unheard would end the process.
      await expectLost(loss, () => steps().then(read), read);
      await allocation.close();
    });

    it("before it is closed, twice", async () => {
      const { gpu, lose } = await losable(loss);
      const { allocation, read } = await ready(gpu);
      lose();
      await Promise.all([allocation.close(), allocation.close()]);
      expect(await rejection(read())).toBeInstanceOf(DeviceError);
    });
  });
});

describeGpu("closing", () => {
  it("under everything that can be under way ends it", async () => {
    const { gpu } = await pretended();
    const { allocation, graph, run, read, candidates, choose, pages } = await ready(gpu);
    await run(0);
    await run(4);
    await choose(8);
    const { chosen } = await choose(9);
    const calls = [chosen, read(), candidates(), run(12), fill(allocation, graph), pages[0]()].map(rejection);
    await Promise.all([allocation.close(), allocation.close()]);
    const errors = await Promise.all(calls);
    for (const error of [...errors, await rejection(read()), await rejection(run(12))])
      expect(error).toMatchObject({ name: "DeviceError", message: "gpu: the device is closed" });
    await allocation.close();
  });
});

describeGpu("a mistake on the GPU", () => {
  it("is no text: the next call rejects, and nothing is printed", async () => {
    const { gpu, devices } = await pretended();
    const { allocation, run, read } = await ready(gpu);
    await run(0);
    const [device] = devices;
    // Dawn prints events that nobody prevented, past Node's own stdout.
    let isPrinted: boolean | null = null;
    device.addEventListener("uncapturederror", (event) => {
      isPrinted = !event.defaultPrevented;
    });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(
      device.createBuffer({ size: 16, usage: 4 }),
      8,
      device.createBuffer({ size: 16, usage: 8 }),
      0,
      16,
    );
    device.queue.submit([encoder.finish()]);
    const error = await rejection(read());
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.message).toMatch(/^gpu: pretence: [^\n]+$/);
    expect(await rejection(run(4))).toBe(error);
    expect(isPrinted).toBe(false);
    await allocation.close();
  });

  it("in a kernel is named, and the device is closed", async () => {
    const { gpu, devices } = await pretended({
      device: (opened) =>
        wrapped(opened, {
          createShaderModule: (descriptor: GPUShaderModuleDescriptor) => {
            const code = descriptor.label === "embed" ? "fn main() { no_such_function(); }" : descriptor.code;
            return opened.createShaderModule({ ...descriptor, code });
          },
        }),
    });
    const error = await rejection((await webgpuDevice(gpu)).allocate(smallGraph()));
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.message).toMatch(/^gpu: pretence: kernel embed does not compile: [^\n]*no_such_function/);
    expect((await devices[0].lost).reason).toBe("destroyed");
  });

  it("in a binding is an error of the allocation", async () => {
    const { gpu, devices } = await pretended({
      device: (opened) =>
        wrapped(opened, {
          createBuffer: (descriptor: GPUBufferDescriptor) =>
            opened.createBuffer({ ...descriptor, usage: descriptor.usage & ~128 }),
        }),
    });
    const error = await rejection((await webgpuDevice(gpu)).allocate(smallGraph()));
    expect(error).toBeInstanceOf(DeviceError);
    expect(error.message).toMatch(/^gpu: pretence: [^\n]*Storage/);
    expect((await devices[0].lost).reason).toBe("destroyed");
  });
});

describeGpu("memory", () => {
  it("that does not suffice is an error with the way out, and the device is closed", async () => {
    // Dawn's null backend has 512 MiB.
    const { gpu, devices } = await pretended();
    const error = await rejection((await webgpuDevice(gpu)).allocate(smallGraph(3, 2 ** 20)));
    expect(error).toBeInstanceOf(NibbleError);
    expect(error).toMatchObject({
      code: "memory",
      message:
        "pretence cannot hold the 0.75 GiB of weights, cache and workspace. Ask for a shorter context or choose a smaller model.",
    });
    expect((await devices[0].lost).reason).toBe("destroyed");
  });
});
