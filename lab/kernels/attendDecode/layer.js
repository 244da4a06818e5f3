/**
 * One layer's cache and attention on a real GPU, for variants.js: opens the device, makes buffers, runs the dispatches of
 * attend.ts. Refuses to know what is timed.
 */
import { kvCodec } from "../../../dist/cache/codecs.js";
import { appendDispatch } from "../../../dist/device/webgpu/append.js";
import { attendDispatches } from "../../../dist/device/webgpu/attend.js";
import { batchBytes, batchOf, STEP_BYTES } from "../../../dist/device/webgpu/batch.js";
import { dawnGpu } from "../../../dist/device/webgpu/dawn.js";
import { Gpu, traitsOf } from "../../../dist/device/webgpu/gpu.js";
import { cacheBufferBytes } from "../../../dist/device/webgpu/kv.js";
import { encodeReady, makeReady } from "../../../dist/device/webgpu/ready.js";
import { fillingRuns, scatteredPages } from "../../../dist/study/attend/attend-timer.js";

const TOGGLES = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", "disable_workgroup_init"];

/** @type {InstanceType<typeof Gpu>} */
export let gpu;
/** @type {GPUDevice} */
let device;
/** @type {ReturnType<typeof traitsOf>} */
export let traits;

/** Opens the GPU with Dawn's toggles beside the usual ones. @param {readonly string[]} toggles */
export async function open(toggles) {
  const api = await dawnGpu({}, [...TOGGLES, ...toggles]);
  const adapter = await api.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Error("no adapter");
  traits = traitsOf(adapter);
  const { maxStorageBufferBindingSize, maxBufferSize, maxComputeWorkgroupStorageSize } = adapter.limits;
  const limits = { maxStorageBufferBindingSize, maxBufferSize, maxComputeWorkgroupStorageSize };
  gpu = await Gpu.open(adapter, traits, limits, api);
  device = gpu.device;
  console.error(gpu.name, JSON.stringify(traits), maxComputeWorkgroupStorageSize);
}

/** A random generator of normal floats, by sums of uniform ones. @param {number} seed */
function generator(seed) {
  let state = seed * 747796405 + 1;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / 2 ** 24;
  };
  return () => (uniform() + uniform() + uniform() + uniform() - 2) * Math.sqrt(3);
}
/** @param {number} count @param {number} seed */
export function noise(count, seed) {
  const next = generator(seed);
  return Float32Array.from({ length: count }, next);
}

/** @typedef {{ id: number, label: string, bytes: number }} Planned */
/** @type {GPUBuffer[]} */
export const buffers = [];
/** @param {string} label @param {number} bytes @returns {Planned} */
export function make(label, bytes) {
  const size = Math.ceil(bytes / 16) * 16;
  const usage = 4 | 8 | 128 | (size <= 65536 ? 64 : 0);
  buffers.push(device.createBuffer({ label, size, usage }));
  return { id: buffers.length - 1, label, bytes };
}
/** @param {string} label @param {Float32Array<ArrayBuffer>} data */
export function upload(label, data) {
  const made = make(label, data.byteLength);
  device.queue.writeBuffer(buffers[made.id], 0, data);
  return made;
}
/** Everything made since then. @param {number} mark */
export function free(mark) {
  for (const buffer of buffers.splice(mark)) buffer.destroy();
}

/** Scratch of a step, which layers share as in a model. @type {Map<string, Planned>} */
const shared = new Map();
/** @param {string} label @param {number} bytes */
function share(label, bytes) {
  const key = `${label} ${bytes}`;
  const found = shared.get(key);
  if (found && buffers[found.id]?.label === label && buffers[found.id].size >= bytes) return found;
  const made = make(label, bytes);
  shared.set(key, made);
  return made;
}

/** Most tokens of a step. */
const MOST = 2048;

/** One text of `tokens` tokens, a multiple of 32, whose pages lie scattered. @param {any} shape @param {number} copies */
export function layer(shape, copies = 1) {
  const { format, kvHeads, headDim, tokens, window = null } = shape;
  const pool = { id: 0, window, pages: tokens / 32 };
  const cache = { id: 0, layer: 0, codec: kvCodec(format), kvHeads, headDim, pool };
  const bytes = cacheBufferBytes(cache);
  const caches = Array.from({ length: copies }, () => ({
    keys: make("keys", bytes),
    values: make("values", bytes),
  }));
  const graph = { maxTokens: MOST, maxOutputs: 1, texts: 1, blocks: pool.pages, pools: [pool] };
  const batch = make("batch", batchBytes(graph));
  device.queue.writeBuffer(buffers[batch.id], 0, scatteredPages(cache, pool.pages));
  const step = device.createBuffer({ size: STEP_BYTES, usage: 8 | 64 });
  return {
    shape,
    cache,
    caches,
    graph,
    batch,
    step,
    runs: fillingRuns(cache, tokens),
    spare: make("spare", 16),
  };
}

/** @param {ReturnType<typeof layer>} it @param {number} copy @param {Planned} keys @param {Planned} values */
export function appendOf(it, copy, keys, values) {
  const width = it.shape.kvHeads * it.shape.headDim;
  /** @param {Planned} buffer */
  const view = (buffer) => ({ buffer, offset: 0, stride: width });
  return appendDispatch({
    cache: it.cache,
    keys: { view: view(keys), norm: null },
    values: view(values),
    rope: null,
    queries: null,
    cacheKeys: it.caches[copy].keys,
    cacheValues: it.caches[copy].values,
    batch: it.batch,
    table: 0,
    spare: it.spare,
    scratch: make,
  });
}

/** Pipelines and bind groups. @param {ReturnType<typeof layer>} it @param {readonly any[]} dispatches */
export function prepare({ step }, dispatches) {
  return makeReady(gpu, dispatches, { bufferOf: ({ id }) => buffers[id], step });
}

/**
 * New tokens at a position, as the kernels see them. few: so many at most attend one by one.
 * @param {ReturnType<typeof layer>} it @param {number} position @param {number} tokens
 */
export function batchAt({ graph }, position, tokens, few = traits.few) {
  return batchOf(graph, { runs: [{ text: 0, position, ids: new Uint32Array(tokens), outputs: 0 }] }, few);
}

/** For what is encoded from now on. @param {ReturnType<typeof layer>} it @param {ReturnType<typeof batchAt>} batch */
export function writeStep({ step, batch: lists }, batch) {
  device.queue.writeBuffer(step, 0, batch.uniform);
  device.queue.writeBuffer(buffers[lists.id], batch.at * 4, batch.lists);
}

/** @param {GPUComputePassEncoder} pass @param {readonly any[]} ready @param {ReturnType<typeof batchAt>} batch */
export function encode(pass, ready, { shape }) {
  encodeReady(pass, ready, shape);
}
/** @param {ReturnType<typeof layer>} it @param {number} copy @param {any} more */
export function attendOf(it, copy, more) {
  const { heads, headDim, softcap = 0 } = it.shape;
  return attendDispatches({
    traits,
    cache: it.cache,
    heads,
    scale: 1 / Math.sqrt(headDim),
    softcap,
    cacheKeys: it.caches[copy].keys,
    cacheValues: it.caches[copy].values,
    batch: it.batch,
    table: 0,
    form: "f32",
    rotated: false,
    scratch: share,
    maxTokens: MOST,
    maxSingles: 1,
    mostPositions: it.shape.tokens,
    ...more,
  });
}
