/**
 * Compares the results of a GPU with those of the CPU: both read a text chunk by chunk, and the next-token
 * distributions are compared at every position. The CPU rounds activations to 8 bits before a product with quantized
 * weights, as llama.cpp does; the GPU does not while it reads a prompt. Two more devices show what each rounding costs:
 * the GPU without subgroup matrices and float16, and the CPU with all weights as float32, which rounds nothing.
 *
 *     node bench/gpu-against-cpu.js MODEL [--text FILE] [--tokens 8192] [--kv f16] [--threads N] [--chunk 512] [--json
 * FILE]
 *
 * One row for each pair: mean KL in nats with its standard error, quantiles, and how often the most likely token is the
 * same. It fails if a logit is not finite.
 */
import { on } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { wasmDevice } from "../dist/device/wasm/wasm.js";
import { dawnGpu } from "../dist/device/webgpu/dawn.js";
import { webgpuDevice } from "../dist/device/webgpu/webgpu.js";
import { findModel } from "../dist/engine/find-model.js";
import { loadCheckpoint } from "../dist/engine/load-checkpoint.js";
import { Text } from "../dist/engine/text.js";
import { dequantize } from "../dist/format/blocks.js";
import { openCheckpoint } from "../dist/format/open.js";
import { encodePrompt } from "../dist/format/template-prompt.js";
import { rowBytes } from "../dist/format/tensor.js";
import { distribution, measured, Tally } from "../dist/study/verify/divergence.js";

const DEVICES = ["gpu", "gpu in float32", "cpu", "cpu in float32"];
/** Pairs of DEVICES: the one that is tested, and the one that counts as the truth. */
const PAIRS = [
  [0, 3],
  [1, 3],
  [2, 3],
  [0, 1],
  [0, 2],
];
/** Sums over a large vocabulary take longer than the devices, so threads share the positions. */
const THREADS = Math.max(1, Math.min(12, availableParallelism() - 2));

if (!isMainThread)
  parentPort.on("message", ({ logits, next }) => {
    const all = logits.map(distribution);
    parentPort.postMessage(PAIRS.map(([found, truth]) => measured(all[found], next, all[truth])));
  });
else await main();

/** The checkpoint with every weight as float32. */
function inFloat32(checkpoint) {
  const widened = (tensor) => ({
    ...{ name: tensor.name, type: "f32", rows: tensor.rows, cols: tensor.cols },
    async readRows(first, count, into) {
      const bytes = new Uint8Array(count * rowBytes(tensor.type, tensor.cols));
      await tensor.readRows(first, count, bytes);
      const floats = new Float32Array(count * tensor.cols);
      dequantize(tensor.type, bytes, floats);
      into.set(new Uint8Array(floats.buffer));
    },
  });
  return {
    ...{ kind: checkpoint.kind, name: checkpoint.name, metadata: checkpoint.metadata },
    tensors: new Map([...checkpoint.tensors].map(([name, tensor]) => [name, widened(tensor)])),
    tokenizer: () => checkpoint.tokenizer(),
    chatTemplate: () => checkpoint.chatTemplate(),
    close: () => checkpoint.close(),
  };
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      text: { type: "string", default: new URL("../models/texts/persuasion.txt", import.meta.url).pathname },
      tokens: { type: "string", default: "8192" },
      kv: { type: "string", default: "f16" },
      threads: { type: "string" },
      chunk: { type: "string", default: "512" },
      json: { type: "string" },
    },
  });
  const [name] = positionals;
  if (!name) throw new Error("usage: node bench/gpu-against-cpu.js MODEL [options]");
  const tokens = Number(values.tokens);
  const chunk = Number(values.chunk);
  const path = await findModel(name);
  const gpu = await dawnGpu();
  const open = [
    () => webgpuDevice(gpu),
    () => webgpuDevice(gpu, { traits: { matrices: false, f16: false } }),
    () => wasmDevice(values.threads ? { threads: Number(values.threads) } : {}),
    () => wasmDevice(values.threads ? { threads: Number(values.threads) } : {}),
  ];

  const opened = [];
  let ids = [];
  for (const [i, device] of DEVICES.entries()) {
    const file = await openCheckpoint(path);
    const checkpoint = device === "cpu in float32" ? inFloat32(file) : file;
    const options = { kv: values.kv, context: tokens, chunk, outputs: chunk };
    const ready = await loadCheckpoint(checkpoint, open[i], options, () => checkpoint.tokenizer());
    ids = encodePrompt(ready.extra, readFileSync(values.text, "utf8"), { template: false });
    if (ids.length <= tokens) throw new Error(`the text has ${ids.length} tokens; ${tokens + 1} are needed`);
    opened.push({ ...ready, rows: new Text(ready.scheduler).each(ids.slice(0, tokens)) });
    console.error(`${device}: ${ready.device.description}`);
  }

  const workers = Array.from({ length: THREADS }, () => {
    const worker = new Worker(new URL(import.meta.url));
    const answers = on(worker, "message");
    return { worker, answer: async () => (await answers.next()).value[0] };
  });
  const tallies = PAIRS.map(() => new Tally());
  const take = async ({ answer }) => {
    for (const [i, one] of (await answer()).entries()) tallies[i].addMeasured(one);
  };
  for (let position = 0; position < tokens; position++) {
    // Together, so that the devices compute at the same time.
    const logits = await Promise.all(opened.map(async ({ rows }) => (await rows.next()).value));
    const thread = workers[position % THREADS];
    if (position >= THREADS) await take(thread);
    thread.worker.postMessage(
      { logits, next: ids[position + 1] },
      logits.map(({ buffer }) => buffer),
    );
    if ((position + 1) % 1024 === 0) console.error(`${position + 1} of ${tokens}`);
  }
  for (let i = 0; i < Math.min(THREADS, tokens); i++) await take(workers[(tokens + i) % THREADS]);
  const rows = PAIRS.map(([found, truth], i) => ({
    op: "gpu against cpu",
    model: basename(path),
    kv: values.kv,
    found: DEVICES[found],
    truth: DEVICES[truth],
    devices: [found, truth].map((i) => opened[i].device.description),
    positions: tallies[i].positions,
    perplexity: tallies[i].perplexity,
    ...tallies[i].divergence,
    text: basename(values.text),
    cpu: cpus()[0].model,
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
  }));
  for (const row of rows) console.log(JSON.stringify(row));
  if (values.json) writeFileSync(values.json, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  for (const { allocation, model } of opened) {
    await allocation.close();
    await model.checkpoint.close();
  }
  process.exit(0);
}
