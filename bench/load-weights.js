/**
 * How fast weights go from a file to the GPU's buffers: reading, packing, and without a GPU the copy that a driver makes
 * of them; with --gpu to a GPU.
 *
 *     node scripts/build.js --ts && node bench/load-weights.js FILE [--gpu] [--types q4_0,q4_k,q6_k] [--threads 0,1,2] [--rounds 3] [--make GB]
 *
 * The bytes of FILE are used as rows of any type, so one file serves for all types; --make writes it first, with bytes
 * that are small numbers in all of them. Medians, each round in turn. The system's cached pages of the file are read
 * from memory; drop them first to measure the disk:
 *
 *     dd if=FILE iflag=nocache count=0
 */
import { randomBytes } from "node:crypto";
import { closeSync, openSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { Recorder } from "../dist/device/recorder.js";
import { dawnGpu } from "../dist/device/webgpu/dawn.js";
import { packThreads } from "../dist/device/webgpu/pack-threads.js";
import { webgpuDevice } from "../dist/device/webgpu/webgpu.js";
import { loadWeight } from "../dist/device/webgpu/weight-loading.js";
import { WeightPacking } from "../dist/device/webgpu/weight-packing.js";
import { codesRowBytes, scalesRowBytes, weightForm } from "../dist/device/webgpu/weights.js";
import { fileSource } from "../dist/format/file-source.js";
import { rowBytes } from "../dist/format/tensor.js";

/** Columns and rows of one matrix; a model has many. */
const COLS = 8192;
/** Parallel loads, as in the GPU's device (webgpu.ts). */
const LOADS = 4;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    types: { type: "string", default: "q4_0,q4_k,q6_k" },
    threads: { type: "string", default: "0,1,2" },
    rounds: { type: "string", default: "3" },
    make: { type: "string" },
    gpu: { type: "boolean", default: false },
  },
});
const [path] = positionals;
if (!path) throw new Error("which file? See the head of bench/load-weights.js");
if (options.make) makeFile(path, +options.make);
const source = await fileSource(path);
const gpu = options.gpu ? await dawnGpu() : null;

/** Random bytes; every second one is such that it cannot be the upper byte of a large float16. */
function makeFile(file, gigabytes) {
  const chunk = randomBytes(2 ** 20).map((byte, i) => (i % 2 ? byte & 0x2b : byte));
  const out = openSync(file, "w");
  for (let bytes = 0; bytes < gigabytes * 1e9; bytes += chunk.length) writeSync(out, chunk);
  closeSync(out);
}

/** Writes that are copies to memory that is reused. */
function copying() {
  const staging = new Uint8Array(16 * 2 ** 20);
  return { write: async (packed) => staging.set(packed), async done() {}, end() {} };
}

/** What of a GPU loading uses besides writes. */
const pretend = { device: {}, check() {} };
const threadsOf = (threads) => (threads === 0 ? null : packThreads(threads));

/** Loads a tensor as a GPU would. */
function pretended(type, threads) {
  const form = weightForm(type);
  const buffer = (id, bytes) => ({ id, label: "", bytes: COLS * bytes });
  const codes = buffer(0, codesRowBytes(form, COLS));
  const scales = buffer(1, scalesRowBytes(form, COLS));
  const places = [{ codes, scales, from: 0, rows: COLS, at: 0 }];
  const packing = new WeightPacking(threadsOf(threads), copying());
  const load = (tensor) => loadWeight(pretend, { kind: "matrix", places }, tensor, () => null, packing);
  return { load, close() {} };
}

/** Loads tensors into an allocation of so many matrices. */
async function real(type, threads, matrices) {
  const op = new Recorder(1, 1);
  let x = op.embed(op.weight("table", "matrix", "f32", 2, COLS));
  for (let i = 0; i < matrices; i++) x = op.matmul(x, op.weight(`w${i}`, "matrix", type, COLS, COLS));
  const graph = op.finish(x);
  const allocation = await (await webgpuDevice(gpu, { packing: threadsOf(threads) })).allocate(graph);
  const load = (tensor, i) => allocation.load(graph.weights[i + 1], tensor);
  return { load, close: () => allocation.close() };
}

/** GB of the file per second, and seconds of all threads' time for each GB. */
async function measure(type, threads) {
  const stride = rowBytes(type, COLS);
  const matrices = Math.floor(source.size / (COLS * stride));
  const { load: loadOne, close } = await (gpu ? real : pretended)(type, threads, matrices);
  let next = 0;
  const load = async () => {
    while (next < matrices) {
      const i = next++;
      const readRows = (first, _, into) => source.read((i * COLS + first) * stride, into);
      await loadOne({ name: `w${i}`, type, rows: COLS, cols: COLS, readRows }, i);
    }
  };
  const [begun, before] = [performance.now(), process.cpuUsage()];
  await Promise.all(Array.from({ length: LOADS }, load));
  const ms = performance.now() - begun;
  const gigabytes = (matrices * COLS * stride) / 1e9;
  const { user, system } = process.cpuUsage(before);
  await close();
  return {
    rate: (gigabytes * 1000) / ms,
    ...{ user: user / 1e6 / gigabytes, system: system / 1e6 / gigabytes },
  };
}

const kinds = options.types
  .split(",")
  .flatMap((type) => options.threads.split(",").map((threads) => ({ type, threads: +threads, runs: [] })));
for (let round = 0; round < +options.rounds; round++)
  for (const kind of kinds) kind.runs.push(await measure(kind.type, kind.threads));
const median = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1].toFixed(2);
for (const { type, threads, runs } of kinds) {
  const [rate, user, system] = ["rate", "user", "system"].map((part) => median(runs.map((run) => run[part])));
  console.log(
    `${type}, ${threads} threads: ${rate} GB/s; a GB takes ${user} s of threads and ${system} s of the system`,
  );
}
await source.close();
