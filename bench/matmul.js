// @ts-check
/**
 * Packed matrices times one token (GB/s of packed weights) and times a chunk of a prompt (Gop/s; a multiply-add counts
 * as two), with worker threads that share the work as the interpreter does, compared with what a WASM loop reads from
 * the same memory. Weights of one-token rows rotate over 512 MiB, so that no cache holds them. Median and best of the
 * rounds.
 *     node bench/matmul.js [--plain] [--json] [--types q4_0,q8_0] [--shape ROWSxCOLS] [--tokens 1,128] [--rounds 15]
 *         [--threads 2]
 * Run `npm run build` first.
 */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { MATMUL_SCRATCH_BYTES, packedBytes, quantizedBytes, TYPE_IDS } from "../dist/device/wasm/packing.js";
import { rowBytes } from "../dist/format/tensor.js";

/** @typedef {keyof typeof TYPE_IDS} TensorType */
/** @typedef {{ best: number, median: number } | null} Rate */

const COLD_BYTES = 512 * 2 ** 20;
/** Pieces for each thread, as in the interpreter. */
const PIECES = 8;
const WARM_UP = 3;

/** One thread: takes pieces of a job from a shared counter once all threads are there. @param {any} setup */
function work({ memory, modules, control }) {
  const state = new Int32Array(memory.buffer, control, 3);
  const [kernels, reader] = modules.map((/** @type {WebAssembly.Module} */ module) => {
    return /** @type {any} */ (new WebAssembly.Instance(module, { env: { memory } }).exports);
  });
  parentPort?.on("message", ({ job, scratch }) => {
    const { w, y, x, q, rows, cols, tokens, type, pieces, grain } = job;
    Atomics.add(state, 1, 1);
    while (Atomics.load(state, 2) === 0);
    for (let piece = Atomics.add(state, 0, 1); piece < pieces; piece = Atomics.add(state, 0, 1)) {
      if (type === null) reader.readAll(w + piece * grain, grain);
      else {
        const last = Math.min((piece + 1) * grain, Math.ceil(rows / 8));
        kernels.matmul(y, x, q, w, type, rows, cols, tokens, 0, piece * grain, last, scratch);
      }
    }
    parentPort?.postMessage(null);
  });
}

async function main() {
  const { values: options } = parseArgs({
    options: {
      plain: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      types: { type: "string", default: "q4_0,q8_0,q4_k,q6_k,q5_0,q5_k,mlx4_g64" },
      shape: { type: "string", default: "4096x14336" },
      tokens: { type: "string", default: "1,128" },
      rounds: { type: "string", default: "15" },
      threads: { type: "string", default: "2" },
    },
  });
  if (!options.plain) setFlagsFromString("--experimental-wasm-relaxed-simd");
  const binary = new URL(
    `../dist/device/wasm/kernels${options.plain ? "" : "-relaxed"}.wasm`,
    import.meta.url,
  );
  const modules = [new WebAssembly.Module(readFileSync(binary)), await readLoop()];
  const threads = Number(options.threads);
  const [rows, cols] = options.shape.split("x").map(Number);

  const memory = new WebAssembly.Memory({ initial: 32768, maximum: 65536, shared: true });
  let end = 65536;
  const region = (/** @type {number} */ bytes) => {
    const at = end;
    end = Math.ceil((end + bytes) / 64) * 64;
    if (end > memory.buffer.byteLength) throw new Error(`the bench needs ${end} bytes`);
    return at;
  };
  const control = region(64);
  const state = new Int32Array(memory.buffer, control, 3);
  const scratch = Array.from({ length: threads }, () => region(MATMUL_SCRATCH_BYTES));
  const start = end;
  const kernels = /** @type {any} */ (new WebAssembly.Instance(modules[0], { env: { memory } }).exports);
  const setup = { workerData: { memory, modules, control }, execArgv: [] };
  const workers = scratch.map(() => new Worker(fileURLToPath(import.meta.url), setup));

  /** Seconds of one job on all threads. @param {object} job */
  async function time(job) {
    state.fill(0);
    const done = workers.map((worker) => new Promise((resolve) => worker.once("message", resolve)));
    workers.forEach((worker, i) => void worker.postMessage({ job, scratch: scratch[i] }));
    while (Atomics.load(state, 1) < threads) await new Promise((resolve) => setImmediate(resolve));
    const begin = performance.now();
    Atomics.store(state, 2, 1);
    await Promise.all(done);
    return (performance.now() - begin) / 1000;
  }

  /** Copies of one packed matrix that fill COLD_BYTES; if a type has an f16 scale, it is small and positive. */
  function placeWeights(/** @type {TensorType} */ type) {
    const packed = packedBytes(type, rows, cols);
    const copies = Math.ceil(COLD_BYTES / packed);
    const w = region(copies * packed);
    const source = region(8 * rowBytes(type, cols));
    const file = new Uint16Array(memory.buffer, source, 4 * rowBytes(type, cols));
    for (let i = 0; i < file.length; i++) file[i] = 0x2400 + ((i * 40503) & 0x3ff);
    for (let row = 0; row < rows; row += 8)
      kernels.repackRows(TYPE_IDS[type], source, w, rows, cols, row, Math.min(8, rows - row));
    const all = new Uint8Array(memory.buffer);
    for (let copy = 1; copy < copies; copy++) all.copyWithin(w + copy * packed, w, w + packed);
    return { packed, copies, w };
  }

  const report = [];
  for (const type of /** @type {TensorType[]} */ (options.types.split(","))) {
    end = start;
    const { packed, copies, w } = placeWeights(type);
    const afterWeights = end;
    for (const tokens of options.tokens.split(",").map(Number)) {
      end = afterWeights;
      const x = region(tokens * cols * 4);
      const q = region(tokens * quantizedBytes(cols));
      const y = region(tokens * rows * 4);
      const values = new Float32Array(memory.buffer, x, tokens * cols);
      for (let i = 0; i < values.length; i++) values[i] = Math.sin(i * 1.7) * (1 + (i % 7));
      kernels.quantizeRows(x, q, cols, 0, tokens);
      const panels = Math.ceil(rows / 8);
      const grain = Math.max(1, Math.floor(panels / (threads * PIECES)));
      const pieces = Math.ceil(panels / grain);
      const job = { y, x, q, rows, cols, tokens, type: TYPE_IDS[type], pieces, grain };
      const read = { type: null, pieces, grain: Math.floor(packed / pieces / 128) * 128 };
      const isVector = tokens <= 8;
      const products = [];
      const reads = [];
      for (let round = 0; round < WARM_UP + Number(options.rounds); round++) {
        const product = await time({ ...job, w: w + ((2 * round) % copies) * packed });
        const reading = isVector ? await time({ ...read, w: w + ((2 * round + 1) % copies) * packed }) : 0;
        if (round < WARM_UP) continue;
        products.push(product);
        if (isVector) reads.push(reading);
      }
      const row = {
        type,
        shape: options.shape,
        tokens,
        ms: middle(products) * 1000,
        gigabytes: rate(products, packed / 1e9),
        gigaops: rate(products, (2 * rows * cols * tokens) / 1e9),
        reading: rate(reads, packed / 1e9),
      };
      report.push(row);
      if (!options.json) print(row);
    }
  }
  if (options.json) {
    const machine = { cpu: cpus()[0].model, cores: cpus().length, node: process.version };
    console.log(JSON.stringify({ machine, date: new Date().toISOString(), threads, rows: report }));
  }
  for (const worker of workers) worker.terminate();
}

/** @param {number[]} seconds */
const middle = (seconds) => [...seconds].sort((a, b) => a - b)[seconds.length >> 1];

/** @param {number[]} seconds @param {number} amount @returns {Rate} */
const rate = (seconds, amount) =>
  seconds.length === 0 ? null : { best: amount / Math.min(...seconds), median: amount / middle(seconds) };

/** @param {{type: string, shape: string, tokens: number, ms: number, gigabytes: Rate, gigaops: Rate, reading: Rate}} row */
function print({ type, shape, tokens, ms, gigabytes, gigaops, reading }) {
  const pair = (/** @type {Rate} */ r) => (r ? `${r.median.toFixed(1)} (best ${r.best.toFixed(1)})` : "-");
  const amount = reading
    ? `${pair(gigabytes)} GB/s, reading ${pair(reading)} GB/s`
    : `${pair(gigaops)} Gop/s`;
  console.log(
    `${type.padEnd(9)} ${shape} x ${String(tokens).padEnd(4)}${ms.toFixed(2).padStart(8)} ms  ${amount}`,
  );
}

/** A module that only reads memory: the upper bound for any kernel. */
async function readLoop() {
  const { default: asc } = await import("assemblyscript/asc");
  const source = `export function readAll(at: usize, bytes: usize): i32 {
    const end = at + bytes;
    let a = i64x2.splat(0), b = a, c = a, d = a;
    for (; at < end; at += 128) {
      a = v128.or(a, v128.or(v128.load(at), v128.load(at, 16)));
      b = v128.or(b, v128.or(v128.load(at, 32), v128.load(at, 48)));
      c = v128.or(c, v128.or(v128.load(at, 64), v128.load(at, 80)));
      d = v128.or(d, v128.or(v128.load(at, 96), v128.load(at, 112)));
    }
    return v128.any_true(v128.or(v128.or(a, b), v128.or(c, d))) ? 1 : 0;
  }`;
  const { binary, error, stderr } = await asc.compileString(source, {
    runtime: "stub",
    optimizeLevel: 3,
    noAssert: true,
    importMemory: true,
    sharedMemory: true,
    initialMemory: 1,
    maximumMemory: 65536,
    enable: ["simd", "threads"],
  });
  if (error || !binary) throw new Error(`the read loop does not compile: ${stderr.toString()}`);
  return new WebAssembly.Module(/** @type {BufferSource} */ (binary));
}

if (isMainThread) await main();
else work(workerData);
