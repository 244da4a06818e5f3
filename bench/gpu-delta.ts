/**
 * gatedDelta on this machine's GPU, token by token and in chunks: the conformance cases of both, then times of prompts by the GPU's
 * clock, in turn.
 *
 *     npx rolldown bench/gpu-delta.ts --format esm --platform node --external webgpu -o dist/gpu-delta.js
 *     node dist/gpu-delta.js [--heads 48/16,32/16,16/16] [--size 128] [--tokens 128,512] [--rounds 3] [--json FILE] [--check: no times]
 *
 * --heads: of values and keys (Qwen 3.5 27B, 35B-A3B, 0.8B); a time is of one layer, the median over rounds.
 */
import { appendFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { median } from "../src/device/median.ts";
import { Recorder } from "../src/device/recorder.ts";
import { dawnGpu } from "../src/device/webgpu/dawn.ts";
import { webgpuDevice } from "../src/device/webgpu/webgpu.ts";
import { caseError, gpuTolerance } from "../test/device/case-runs.ts";
import { deviceCases } from "../test/device/device-cases.ts";
import { randomTensor } from "../test/device/random-tensor.ts";
import { shareDevices } from "../test/device/webgpu/sharing.ts";

const { values: options } = parseArgs({
  options: {
    heads: { type: "string", default: "48/16,32/16,16/16" },
    size: { type: "string", default: "128" },
    tokens: { type: "string", default: "128,512" },
    rounds: { type: "string", default: "3" },
    json: { type: "string" },
    check: { type: "boolean", default: false },
  },
});
const FORMS = { single: { deltaChunks: false }, chunks: { deltaChunks: true } };
const { gpu } = shareDevices(await dawnGpu());
const { adapter } = await webgpuDevice(gpu);
const date = new Date().toISOString().slice(0, 10);

for (const [form, traits] of Object.entries(FORMS)) {
  // Steps of two rows and more are prompts.
  const cases = deviceCases.filter(({ name }) => /gatedDelta|recurrent/.test(name));
  let failed = 0;
  for (const testCase of cases) {
    const device = await webgpuDevice(gpu, { traits: { ...traits, few: 1, batch: 1 } });
    const error = await caseError(testCase, device);
    if (error <= gpuTolerance(testCase, true)) continue;
    failed++;
    console.log(`FAILED ${form}: ${testCase.name}: ${error}`);
  }
  console.log(`${adapter.name}, ${form}: ${cases.length - failed} of ${cases.length} cases pass`);
}

const ROWS = 97;
const SIZE = Number(options.size);

/** Of one layer's gatedDelta over the first tokens of a text. */
async function open(heads: number, keyHeads: number, tokens: number, traits: { deltaChunks: boolean }) {
  const op = new Recorder(tokens, 1);
  const input = (name: string, cols: number) => op.embed(op.weight(name, "matrix", "f32", ROWS, cols), 5);
  const vector = (name: string) => op.weight(name, "vector", "f32", 1, heads);
  const shape = { layer: 0, keyHeads, valueHeads: heads, keyDim: SIZE, valueDim: SIZE, epsilon: 1e-6 };
  const out = op.gatedDelta(
    { x: input("x", (2 * keyHeads + heads) * SIZE), a: input("a", heads), b: input("b", heads) },
    { rates: vector("rates"), bias: vector("bias") },
    shape,
  );
  const graph = op.finish(op.takeOutputs(out), { texts: 1, blocks: Math.ceil(tokens / 32), stateSlots: 2 });
  const allocation = await (await webgpuDevice(gpu, { traits })).allocate(graph);
  for (const [i, { name, rows, cols }] of graph.weights.entries()) {
    const tensor = randomTensor(name, "f32", rows, cols, i + 1);
    await allocation.load(graph.weights[i], tensor);
  }
  const ids = Uint32Array.from({ length: tokens }, (_, i) => (i * 31) % ROWS);
  const run = { text: 0, position: 0, ids, outputs: 1, state: { from: null, to: 0 } };
  return {
    async time() {
      const { dispatches } = await allocation.profile!({ runs: [run] });
      return dispatches.find(({ label }) => label === "gatedDelta")!.us;
    },
    close: () => allocation.close(),
  };
}

for (const heads of options.check ? [] : options.heads.split(","))
  for (const tokens of options.tokens.split(",").map(Number)) {
    const [valueHeads, keyHeads] = heads.split("/").map(Number);
    const single = await open(valueHeads, keyHeads, tokens, FORMS.single);
    const chunks = await open(valueHeads, keyHeads, tokens, FORMS.chunks);
    const times: { single: number; chunks: number }[] = [];
    for (let round = 0; round < Number(options.rounds); round++)
      times.push({ single: await single.time(), chunks: await chunks.time() });
    await Promise.all([single.close(), chunks.close()]);
    const us = (form: keyof typeof FORMS) => +median(times.map((each) => each[form])).toFixed(1);
    const found = { singleUs: us("single"), chunksUs: us("chunks") };
    const row = { op: "gatedDelta", heads, size: SIZE, tokens, ...found, adapter: adapter.name, date };
    console.log(
      `${heads} heads of ${SIZE}, ${tokens} tokens: ${found.singleUs} us token by token, ${found.chunksUs} us in chunks`,
    );
    if (options.json) appendFileSync(options.json, `${JSON.stringify(row)}\n`);
  }
process.exit(0);
