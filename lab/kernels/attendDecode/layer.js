/**
 * One layer's cache and attention on a real GPU, for variants.js: opens the device, makes buffers, runs the dispatches of
 * attend.ts. Refuses to know what is timed.
 */
import { kvCodec } from "../../../dist/cache/codecs.js";
import { appendDispatch } from "../../../dist/device/webgpu/append.js";
import { attendDispatches } from "../../../dist/device/webgpu/attend.js";
import { dawnGpu } from "../../../dist/device/webgpu/dawn.js";
import { Gpu, traitsOf } from "../../../dist/device/webgpu/gpu.js";
import { KERNELS } from "../../../dist/device/webgpu/kernels.js";
import { kvBytes } from "../../../dist/device/webgpu/kv.js";

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

/** @param {any} shape @param {number} copies */
export function layer(shape, copies = 1) {
  const { format, kvHeads, headDim, capacity, window = null } = shape;
  const cache = { id: 0, layer: 0, codec: kvCodec(format), kvHeads, headDim, capacity, window };
  const bytes = kvBytes(cache);
  const caches = Array.from({ length: copies }, () => ({
    keys: make("keys", bytes.keys),
    values: make("values", bytes.values),
  }));
  return { shape, cache, caches, spare: make("spare", 16) };
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
    spare: it.spare,
    scratch: make,
  });
}

/** Pipelines and bind groups of dispatches. @param {readonly any[]} dispatches @param {GPUBuffer} stepBuffer */
export async function prepare(dispatches, stepBuffer) {
  const ready = [];
  for (const dispatch of dispatches) {
    const pipeline = await gpu.pipeline(dispatch.kernel);
    const params = device.createBuffer({ size: dispatch.params.byteLength, usage: 8 | 64 });
    device.queue.writeBuffer(params, 0, dispatch.params);
    const source = /** @type {any} */ (KERNELS)[dispatch.kernel.kernel];
    const entries = source.bindings.map((/** @type {[number, string, string]} */ [binding, , name]) => ({
      binding,
      resource: {
        buffer:
          name === "params" ? params : name === "step" ? stepBuffer : buffers[dispatch.buffers[name].id],
      },
    }));
    const group = device.createBindGroup({ layout: gpu.bindLayout(dispatch.kernel.kernel), entries });
    ready.push({ dispatch, pipeline, group });
  }
  return ready;
}
/** @param {{ tokens: number, position: number }} step */
export function stepOf({ tokens, position }) {
  const buffer = device.createBuffer({ size: 16, usage: 8 | 64 });
  device.queue.writeBuffer(buffer, 0, Uint32Array.of(tokens, position, 0, 0));
  return buffer;
}
/** @param {GPUComputePassEncoder} pass @param {readonly any[]} ready @param {any} step */
export function encode(pass, ready, step) {
  for (const { dispatch, pipeline, group } of ready) {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...dispatch.workgroups(step));
  }
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
    form: "f32",
    rotated: false,
    scratch: share,
    maxTokens: 2048,
    ...more,
  });
}
