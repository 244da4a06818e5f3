// @ts-check
/**
 * What a step costs the host, on a machine without a GPU: Dawn's null backend accepts all calls and computes nothing,
 * and the time that a GPU would need for a step is simulated. The dispatches are those of a shape's layers, with small
 * rows.
 *
 *     node bench/host.js [--shape llama-3.1-8b] [--texts 1,8,16] [--gpu-ms 0] [--generate 128] [--repetitions 4]
 *
 * --gpu-ms 0: as fast as the host can; more: whether the host keeps such a GPU busy. Dawn's own work for a real driver
 * (Vulkan's calls, its submit) is not included.
 */
import { parseArgs } from "node:util";
import { create, globals } from "webgpu";
import { webgpuDevice } from "../dist/device/webgpu/webgpu.js";
import { loadCheckpoint } from "../dist/engine/load-checkpoint.js";
import { SHAPES } from "../dist/model/shapes.js";
import { syntheticCheckpoint } from "../dist/model/synthetic.js";
import { benchBatch } from "../dist/study/bench/bench-batch.js";

const { values: options } = parseArgs({
  options: {
    shape: { type: "string", default: "llama-3.1-8b" },
    texts: { type: "string", default: "1,8,16" },
    "gpu-ms": { type: "string", default: "0" },
    generate: { type: "string", default: "128" },
    repetitions: { type: "string", default: "4" },
  },
});
const gpuMs = Number(options["gpu-ms"]);
const generate = Number(options.generate);
const SMALL = { hidden: 512, headDim: 64, ffn: 1024 };
const [VOCAB, CONTEXT, PROMPT] = [4096, 1024, 64];
/** Fewer dispatches mean a copy or another call that is not a step. */
const LEAST_DISPATCHES = 50;

Object.assign(globalThis, globals);
let [busyUntil, dispatches, steps, counted] = [0, 0, 0, 0];
simulate();

for (const texts of options.texts.split(",").map(Number)) {
  const shape = { ...SHAPES[/** @type {keyof typeof SHAPES} */ (options.shape)], ...SMALL };
  const { scheduler, allocation } = await loadCheckpoint(
    await syntheticCheckpoint(shape, { context: CONTEXT, vocab: VOCAB }),
    async () => ({ ...(await webgpuDevice(nullGpu(), { submitMs: Number.MAX_SAFE_INTEGER })), memory: null }),
    { context: CONTEXT, parallel: texts, cacheTokens: texts * (CONTEXT + 64) },
    async () => ({}),
  );
  const tests = {
    ...{ prompt: [PROMPT], generate: [generate], parallel: [texts], depth: [0] },
    ...{ repetitions: Number(options.repetitions), quote: "", profile: false },
  };
  const random = () => 1 + Math.floor(Math.random() * (VOCAB - 2));
  [steps, counted] = [0, 0];
  const cpu = process.cpuUsage();
  for await (const { generate: found } of benchBatch(scheduler, 0, tests, {
    random,
    report: () => () => {},
  })) {
    const used = process.cpuUsage(cpu);
    const of = gpuMs > 0 ? ` of ${((texts * 1000) / gpuMs).toFixed(0)}` : "";
    console.log(
      `${texts} texts: ${(found.medianMs / generate).toFixed(2)} ms a step (${found.tokensPerSecond.toFixed(0)}${of} tokens/s), ` +
        `${((used.user + used.system) / 1000 / steps).toFixed(2)} ms of CPU, ${(counted / steps).toFixed(0)} dispatches`,
    );
  }
  await allocation.close();
}
process.exit(0);

/** Calls of WebGPU's queue end when a GPU that takes `gpuMs` for a step would have finished them. */
function simulate() {
  const { GPUQueue, GPUBuffer, GPUComputePassEncoder } = globalThis;
  /** @param {number} until */
  const waited = (until) =>
    new Promise((/** @type {(value?: undefined) => void} */ done) => {
      const look = () => (performance.now() < until ? setImmediate(look) : done());
      look();
    });
  const { submit, onSubmittedWorkDone } = GPUQueue.prototype;
  const { mapAsync } = GPUBuffer.prototype;
  const { dispatchWorkgroups } = GPUComputePassEncoder.prototype;
  GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...all) {
    dispatches++;
    dispatchWorkgroups.apply(this, all);
  };
  GPUQueue.prototype.submit = function (buffers) {
    submit.call(this, buffers);
    if (dispatches > LEAST_DISPATCHES) {
      busyUntil = Math.max(busyUntil, performance.now()) + gpuMs;
      steps++;
      counted += dispatches;
    }
    dispatches = 0;
  };
  GPUQueue.prototype.onSubmittedWorkDone = async function () {
    const until = busyUntil;
    await onSubmittedWorkDone.call(this);
    return waited(until);
  };
  GPUBuffer.prototype.mapAsync = async function (...all) {
    const until = busyUntil;
    await mapAsync.apply(this, all);
    return waited(until);
  };
}

/** Dawn's null backend, which webgpuDevice would refuse, under another name and with one subgroup size. */
function nullGpu() {
  const api = create(["backend=null", "enable-dawn-features=allow_unsafe_apis,disable_workgroup_init"]);
  const requestAdapter = async () => {
    const real = await api.requestAdapter();
    if (!real) throw new Error("Dawn has no null backend");
    const info = { vendor: "simulated", subgroupMinSize: 32, subgroupMaxSize: 32, isFallbackAdapter: false };
    return {
      ...{ info, features: real.features, limits: real.limits },
      requestDevice: (/** @type {GPUDeviceDescriptor} */ asked) => real.requestDevice(asked),
    };
  };
  return /** @type {GPU} */ (/** @type {unknown} */ ({ requestAdapter }));
}
