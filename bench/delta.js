// @ts-check
/**
 * The gated delta rule on the CPU, token by token and in chunks. Both run in turn, so that a busy machine slows both
 * equally; ratios are medians over rounds.
 *
 *     node bench/delta.js [--heads 48/16] [--size 128] [--tokens 16,24,64,512] [--threads 2] [--rounds 15] [--plain] [--json FILE]
 *
 * --heads: heads of values and keys, as in Qwen 3.5 27B; --size: dims of a key and a value. Run `npm run build` first.
 */
import { appendFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { compileKernels } from "../dist/device/wasm/module.js";

const WORK_BYTES = 256 * 1024;
const NEVER = 2 ** 30;

/** Computes its share in the requested form and posts the milliseconds. @param {any} setup */
function work({ module, memory, at, heads, keyHeads, size, thread, threads }) {
  const kernels = /** @type {any} */ (new WebAssembly.Instance(module, { env: { memory } }).exports);
  parentPort?.on("message", (/** @type {number} */ least) => {
    const units = kernels.deltaUnits(at.control, heads, size, least);
    const share = (/** @type {number} */ i) => Math.floor((units * i) / threads);
    const started = performance.now();
    kernels.deltaRuns(
      ...[at.control, at.out, at.x, at.a, at.b, at.rates, at.bias, at.states, keyHeads, heads, size, size],
      ...[0, 1e-6, least, at.work + thread * WORK_BYTES, share(thread), share(thread + 1)],
    );
    parentPort?.postMessage(performance.now() - started);
  });
}

async function main() {
  const { values: options } = parseArgs({
    options: {
      heads: { type: "string", default: "48/16" },
      size: { type: "string", default: "128" },
      tokens: { type: "string", default: "16,24,64,512" },
      threads: { type: "string", default: "2" },
      rounds: { type: "string", default: "15" },
      plain: { type: "boolean", default: false },
      json: { type: "string" },
    },
  });
  const [heads, keyHeads] = options.heads.split("/").map(Number);
  const counts = options.tokens.split(",").map(Number);
  const [size, threads] = [Number(options.size), Number(options.threads)];
  const most = Math.max(...counts);
  const { module, relaxed } = await compileKernels(options.plain ? "plain" : "auto");
  let end = 65536;
  const place = (/** @type {number} */ bytes) => {
    const start = end;
    end = Math.ceil((end + bytes) / 64) * 64;
    return start;
  };
  const parts = {
    ...{ x: most * (2 * keyHeads + heads) * size, a: most * heads, b: most * heads, bias: heads },
    ...{ states: 2 * heads * size * size, rates: heads, out: most * heads * size },
  };
  const at = /** @type {Record<string, number>} */ ({ control: place(512), runs: place(64) });
  for (const [name, count] of Object.entries(parts)) at[name] = place(4 * count);
  at.work = place(threads * WORK_BYTES);
  const pages = Math.ceil(end / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  for (const name of /** @type {const} */ (["x", "a", "b", "bias", "states"]))
    new Float32Array(memory.buffer, at[name], parts[name]).forEach((_, i, values) => {
      values[i] = 2 * Math.sin(i * i * 0.37 + i);
    });
  new Float32Array(memory.buffer, at.rates, heads).fill(-0.1);
  // Words of the step and of its one run, which reads slot 0 and writes slot 1 (src/device/wasm/control.ts).
  const control = new Uint32Array(memory.buffer, at.control, 128);
  const run = new Uint32Array(memory.buffer, at.runs, 9);
  control[272 / 4] = 1;
  control[276 / 4] = at.runs;
  run[5] = 1;
  const workers = Array.from({ length: threads }, (_, thread) => {
    const setup = { module, memory, at, heads, keyHeads, size, thread, threads };
    return new Worker(fileURLToPath(import.meta.url), { workerData: setup });
  });
  /** Milliseconds of the slowest thread. @param {number} least */
  const time = async (least) => {
    const done = workers.map((worker) => new Promise((resolve) => worker.once("message", resolve)));
    for (const worker of workers) worker.postMessage(least);
    return Math.max(.../** @type {number[]} */ (await Promise.all(done)));
  };
  for (const tokens of counts) {
    control[264 / 4] = tokens;
    run[3] = tokens;
    const times = /** @type {{ single: number, chunked: number }[]} */ ([]);
    for (let round = -3; round < Number(options.rounds); round++) {
      const found = { single: await time(NEVER), chunked: await time(1) };
      if (round >= 0) times.push(found);
    }
    const row = {
      ...{ op: "gatedDelta", heads: options.heads, size, tokens, threads, relaxed },
      singleMs: round(Math.min(...times.map(({ single }) => single))),
      chunkedMs: round(Math.min(...times.map(({ chunked }) => chunked))),
      chunkedOverSingle: round(middle(times.map(({ single, chunked }) => chunked / single))),
      ...{ cpu: cpus()[0].model, node: process.version, load: round(loadavg()[0]) },
      date: new Date().toISOString().slice(0, 10),
    };
    console.log(
      `${row.heads} heads of ${size}, ${tokens} tokens: single ${row.singleMs} ms, in chunks ${row.chunkedMs} (least), ratio ${row.chunkedOverSingle}`,
    );
    if (options.json) appendFileSync(options.json, `${JSON.stringify(row)}\n`);
  }
  for (const worker of workers) await worker.terminate();
}

/** @param {number[]} numbers */
const middle = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];
/** @param {number} x */
const round = (x) => Number(x.toPrecision(3));

if (isMainThread) await main();
else work(workerData);
