/** The worker threads' life: traps, lost threads, closing at any time, a free event loop, and no threads left. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Allocation, Graph, Step } from "../../src/device/contract.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { CONTROL, RECORD_WORDS } from "../../src/device/wasm/abi.js";
import type { Placed } from "../../src/device/wasm/program.ts";
import { KIND, WORD } from "../../src/device/wasm/records.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { Workers } from "../../src/device/wasm/workers.ts";
import { DeviceError } from "../../src/format/errors.ts";
import { requireFreshBuild, root } from "../app/nibble.ts";
import { TELLS_RESOURCES, threads as threadCount, tinyModel } from "../engine/tiny-model.ts";
import { randomTensor } from "./random-tensor.ts";

type WasmAllocation = Allocation & { memories: WebAssembly.Memory[]; placed: Placed; workers: Workers };

const VOCAB = 32;
const open: Allocation[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((allocation) => allocation.close()));
});

/** embed, then `matmuls` products in a row: each waits for the one before. */
function graph(matmuls: number, size: number, maxTokens = 8): Graph {
  const op = new Recorder(maxTokens, maxTokens);
  let x = op.embed(op.weight("embedding", "matrix", "f32", VOCAB, size));
  for (let i = 0; i < matmuls; i++) x = op.matmul(x, op.weight("square", "matrix", "q8_0", size, size));
  return op.finish(x);
}

async function allocate(
  options: { threads?: number; matmuls?: number; size?: number } = {},
): Promise<WasmAllocation> {
  const { threads = 2, matmuls = 4, size = 64 } = options;
  const device = await wasmDevice({ threads });
  const made = graph(matmuls, size);
  const allocation = (await device.allocate(made)) as WasmAllocation;
  open.push(allocation);
  for (const weight of made.weights) {
    const { name, type, rows, cols } = weight;
    await allocation.load(weight, randomTensor(name, type, rows, cols));
  }
  return allocation;
}

const step = (tokens = 1, id = 1, outputs = tokens): Step => ({
  runs: [{ text: 0, position: 0, ids: new Uint32Array(tokens).fill(id), outputs }],
});

/** A graph that takes a second or so, so that things can happen during a step. */
const LONG = { matmuls: 400, size: 1024 };

const failure = (run: Promise<unknown>) =>
  run.then(
    () => null,
    (error: unknown) => error as Error,
  );

describe("a trap in a worker", () => {
  it.each([1, 2, 5])(
    "an id beyond the table fails the step and all later ones: %i threads",
    async (threads) => {
      const allocation = await allocate({ threads });
      await allocation.run(step());
      const error = await failure(allocation.run(step(3, VOCAB)));
      expect(error).toBeInstanceOf(DeviceError);
      expect(error?.message).toContain("a worker thread failed");
      expect(await failure(allocation.run(step()))).toBe(error);
      await allocation.close();
      expect(await failure(allocation.run(step()))).toBe(error);
    },
  );

  it.each([0, 2, 4])(
    "an unknown operation at place %i ends in an error, wherever the others wait",
    async (place) => {
      const allocation = await allocate({ threads: 3 });
      const words = new Uint32Array(allocation.memories[0].buffer, allocation.placed.layouts[0].operations);
      words[place * RECORD_WORDS + WORD.kind] = 99;
      expect(await failure(allocation.run(step()))).toBeInstanceOf(DeviceError);
      expect(await failure(allocation.run(step()))).toBeInstanceOf(DeviceError);
    },
  );

  it("an address beyond the memory is one too", async () => {
    const allocation = await allocate();
    const words = new Uint32Array(allocation.memories[0].buffer, allocation.placed.layouts[0].operations);
    expect(words[WORD.kind]).toBe(KIND.embed);
    words[WORD.first] = 0xffff0000;
    expect((await failure(allocation.run(step())))?.message).toMatch(/memory access out of bounds/);
  });
});

describe("a lost worker", () => {
  it("between steps fails the next one", async () => {
    const allocation = await allocate();
    await allocation.run(step());
    await allocation.workers.terminateOne();
    expect((await failure(allocation.run(step())))?.message).toContain("a worker thread ended");
  });

  it.each([1, 3])("during a step fails it: %i threads", async (threads) => {
    const allocation = await allocate({ ...LONG, threads });
    const running = failure(allocation.run(step(8)));
    await allocation.workers.terminateOne();
    expect(await running).toBeInstanceOf(DeviceError);
    expect(await failure(allocation.run(step()))).toBeInstanceOf(DeviceError);
    // The others wait for the lost one at a meeting: this lets them go.
    const words = new Int32Array(allocation.memories[0].buffer, allocation.placed.layouts[0].control);
    expect(Atomics.load(words, CONTROL.stop / 4)).toBe(1);
  });
});

describe("closing", () => {
  it("during a step fails the step and ends the threads", async () => {
    const allocation = await allocate(LONG);
    const running = failure(allocation.run(step(8)));
    await allocation.close();
    expect((await running)?.message).toContain("closed during a step");
  });

  it("twice, at once and in a row, is once; a step afterwards is refused", async () => {
    const allocation = await allocate();
    await Promise.all([allocation.close(), allocation.close()]);
    await allocation.close();
    expect((await failure(allocation.run(step())))?.message).toContain("the device is closed");
  });

  it("lets go of the memory, though the allocation is still held", async () => {
    const allocation = await allocate();
    await allocation.run(step());
    const memory = new WeakRef(allocation.memories[0]);
    const { logits } = graph(4, 64);
    await allocation.close();
    await expect(allocation.read(logits, 0, 1)).rejects.toThrow("the device is closed");
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const isFree = () => {
      collect();
      return memory.deref() === undefined;
    };
    await expect.poll(isFree).toBe(true);
  });

  it.runIf(TELLS_RESOURCES)("20 times leaves no thread", async () => {
    await (await allocate({ threads: 2 })).close();
    const before = threadCount();
    for (let i = 0; i < 20; i++) {
      const allocation = await allocate({ threads: 2 });
      await allocation.run(step());
      expect(threadCount()).toBeGreaterThanOrEqual(before + 2);
      await allocation.close();
    }
    await expect.poll(threadCount).toBeLessThanOrEqual(before);
  });

  it.runIf(TELLS_RESOURCES)("a device that does not start leaves no thread", async () => {
    const before = threadCount();
    // (start: if the counter at 8 was 0 before adding 1, trap): one worker fails, the others come up.
    const module = new WebAssembly.Module(
      new Uint8Array([
        ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0],
        ...[2, 16, 1, 3, 101, 110, 118, 6, 109, 101, 109, 111, 114, 121, 2, 3, 1, 1],
        ...[3, 2, 1, 0, 7, 7, 1, 3, 114, 117, 110, 0, 0, 8, 1, 0],
        ...[10, 17, 1, 15, 0, 65, 8, 65, 1, 254, 30, 2, 0, 69, 4, 64, 0, 11, 11],
      ]),
    );
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    const memories = [{ memory, control: 1024, operations: 4096 }];
    const setup = { module, memories, stretches: [], threads: 3, cores: 2 };
    await expect(Workers.start(setup)).rejects.toThrow(DeviceError);
    await expect.poll(threadCount).toBeLessThanOrEqual(before);
  });
});

describe("steps", () => {
  it("two at once: the second is refused and does not disturb the first", async () => {
    const allocation = await allocate({ ...LONG, matmuls: 40 });
    const { logits } = graph(40, LONG.size);
    await allocation.run(step(8));
    const wanted = await allocation.read(logits, 0, 8);
    for (let i = 0; i < 5; i++) {
      const first = allocation.run(step(8));
      expect((await failure(allocation.run(step(2, 5))))?.message).toContain("a step is already running");
      await first;
      expect(await allocation.read(logits, 0, 8)).toEqual(wanted);
    }
  });

  it("run once, though a thread is woken late", async () => {
    const allocation = await allocate({ threads: 1 });
    const [memory] = allocation.memories;
    const [layout] = allocation.placed.layouts;
    const { logits } = graph(4, 64);
    await allocation.run(step(1, 1));
    const wanted = await allocation.read(logits, 0, 1);
    // What the host writes for the next step must not be read before that step.
    new Uint32Array(memory.buffer)[layout.ids / 4] = 2;
    const word = (layout.control + CONTROL.step) / 4;
    const state = new Int32Array(memory.buffer);
    // Waits, if need be, until the thread sleeps.
    await expect.poll(() => Atomics.notify(state, word)).toBe(1);
    await expect.poll(() => Atomics.notify(state, word)).toBe(1);
    expect(await allocation.read(logits, 0, 1)).toEqual(wanted);
    await allocation.run(step(1, 2));
    expect(await allocation.read(logits, 0, 1)).not.toEqual(wanted);
  });

  it("of no tokens, too many tokens or too many outputs are refused", async () => {
    const allocation = await allocate();
    for (const wrong of [step(0), step(9), step(2, 1, 3), step(2, 1, -1)])
      expect(await failure(allocation.run(wrong))).toMatchObject({ code: "argument" });
    await allocation.run(step(2, 1, 0));
  });

  it("are the same with more threads than cores", async () => {
    const found: Float32Array[] = [];
    for (const threads of [1, 7]) {
      const allocation = await allocate({ threads, matmuls: 6 });
      for (let i = 0; i < 20; i++) await allocation.run(step(5, i));
      found.push(await allocation.read(graph(6, 64).logits, 0, 5));
    }
    expect(found[1]).toEqual(found[0]);
  });

  it("leave the event loop free", async () => {
    const allocation = await allocate(LONG);
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await allocation.run(step(8));
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(3);
  });

  it("that attend from the first position on see one token", async () => {
    const op = new Recorder(1, 1);
    const x = op.embed(op.weight("embedding", "matrix", "f32", VOCAB, 64));
    const cache = op.cache({
      layer: 0,
      codec: kvCodec("int4"),
      kvHeads: 1,
      headDim: 64,
      pool: op.pool(null, 1),
    });
    op.appendKv(cache, x, x);
    const made = op.finish(op.attend(cache, x, { heads: 1, scale: 1 }));
    const allocation = await (await wasmDevice({ threads: 2 })).allocate(made);
    open.push(allocation);
    await allocation.load(made.weights[0], randomTensor("embedding", "f32", VOCAB, 64));
    await allocation.run(step());
    const found = await allocation.read(made.logits, 0, 1);
    expect(found.every(Number.isFinite)).toBe(true);
  });
});

/** A process of its own: what a user's program does at its end. */
describe("a process", () => {
  let folder: string;
  let model: string;
  beforeAll(() => {
    requireFreshBuild();
    folder = mkdtempSync(join(tmpdir(), "nibble-workers-"));
    model = join(folder, "tiny.gguf");
    writeFileSync(model, tinyModel());
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  const run = (program: string) =>
    new Promise<{ code: number | null; out: string }>((resolve, reject) => {
      const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: "pipe" });
      let out = "";
      child.stdout.on("data", (data) => {
        out += data;
      });
      child.stderr.on("data", (data) => {
        out += data;
      });
      const timer = setTimeout(() => child.kill("SIGKILL"), 30_000);
      child.on("error", reject);
      child.on("close", (code) => {
        clearTimeout(timer);
        resolve({ code, out });
      });
    });

  it.each([
    ["when a model is not closed", ""],
    ["when a model is closed", 'await model.close(); console.log("closed");'],
    ["when a generation goes on that nobody waits for", 'model.generate("b").text().catch(() => {});'],
    ["when a generation was left", 'for await (const _ of model.generate("c")) break;'],
  ])("ends by itself %s", async (_, end) => {
    const { code, out } = await run(`
      const { load } = await import(${JSON.stringify(pathToFileURL(join(root, "dist/index.js")).href)});
      const model = await load(${JSON.stringify(model)}, { threads: 2 });
      const { ids } = await model.generate("a", { maxTokens: 2, ignoreEnd: true }).result();
      console.log("tokens", ids.length);
      ${end}`);
    expect(out).toContain("tokens 2");
    if (end.includes("closed")) expect(out).toContain("closed");
    expect(code).toBe(0);
  });
});
