// @ts-check
/**
 * What each cache format costs one layer's attention: the output of one query over made-up keys and values, against
 * float64 attention over the same numbers unquantized. `format`: float64 attention over what the codec gives back, the
 * format alone; `kernel`: the CPU's own kernels, which also round queries and weights to 8 bits. Prints JSON rows.
 *   node lab/kv/attention.js [--contexts 256,1024,4096,16384] [--head-dims 64,128,256]
 * Run `npm run build` first.
 */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { root, unrotatedBuild } from "./unrotated.js";

const { values: options } = parseArgs({
  options: {
    contexts: { type: "string", default: "256,1024,4096,16384" },
    "head-dims": { type: "string", default: "64,128,256" },
  },
});
const contexts = options.contexts.split(",").map(Number);
const headDims = options["head-dims"].split(",").map(Number);
const KV_HEADS = 2;
const HEADS = 8;
/** Single tokens that attend, one after another, over the same cache. */
const QUERIES = 4;
setFlagsFromString("--experimental-wasm-relaxed-simd");

/** @param {string} folder @param {string} path */
const from = (folder, path) => import(pathToFileURL(join(folder, path)).href);
const dist = join(root, "dist");
const unrotated = unrotatedBuild();
const FORMATS = [
  { kv: "f16", name: "f16", folder: dist },
  { kv: "int4", name: "int4", folder: dist },
  { kv: "rq4", name: "rq4", folder: dist },
  { kv: "rq4", name: "rq4 without rotation", folder: unrotated },
];

/** Numbers in [0, 1) (mulberry32). @param {number} seed */
function uniform(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
/** @param {() => number} next */
const gaussian = (next) => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
/** Three degrees of freedom, variance 1. @param {() => number} next */
const student = (next) =>
  gaussian(next) / Math.sqrt(gaussian(next) ** 2 + gaussian(next) ** 2 + gaussian(next) ** 2);

/**
 * How a dim of a key, a value and a query is drawn. Queries are scaled so that scores spread by `spread`: at 1 every
 * token counts, at 4 few of them do, as in heads that retrieve.
 * @typedef {(next: () => number, dim: number) => number} Draw
 * @type {Record<string, { key: Draw, value: Draw, spread: number }>}
 */
const DATA = {
  gaussian: { key: gaussian, value: gaussian, spread: 1 },
  "gaussian, peaked": { key: gaussian, value: gaussian, spread: 4 },
  "student t, 3 degrees": { key: student, value: student, spread: 1 },
  "1 channel of 32 ten times as large": {
    key: (next, dim) => gaussian(next) * (dim % 32 === 5 ? 10 : 1),
    value: gaussian,
    spread: 1,
  },
  "2 channels with an offset of 20": {
    key: (next, dim) => gaussian(next) + (dim === 7 || dim === 40 ? 20 : 0),
    value: gaussian,
    spread: 1,
  },
};

/** @param {number} count @param {number} headDim @param {Draw} draw @param {() => number} next */
function drawn(count, headDim, draw, next) {
  return Float32Array.from({ length: count * headDim }, (_, i) => draw(next, i % headDim));
}

/** Keys and values [tokens, KV_HEADS, headDim], queries [QUERIES, HEADS, headDim]. */
function made(/** @type {string} */ data, /** @type {number} */ tokens, /** @type {number} */ headDim) {
  const { key, value, spread } = DATA[data];
  const next = uniform(tokens * 1000 + headDim);
  const keys = drawn(tokens * KV_HEADS, headDim, key, next);
  const values = drawn(tokens * KV_HEADS, headDim, value, next);
  const queries = drawn(QUERIES * HEADS, headDim, gaussian, next);
  // A constant of all keys moves all scores alike: what spreads them is what is left.
  let variance = 0;
  for (let dim = 0; dim < headDim; dim++) {
    let [sum, squares] = [0, 0];
    for (let i = dim; i < keys.length; i += headDim) {
      sum += keys[i];
      squares += keys[i] ** 2;
    }
    const count = keys.length / headDim;
    variance += squares / count - (sum / count) ** 2;
  }
  const factor = spread / Math.sqrt(variance / headDim);
  return { keys, values, queries: queries.map((x) => x * factor) };
}

/** Softmax attention in float64, [QUERIES, HEADS, headDim]. @param {ReturnType<typeof made>} data @param {number} headDim */
function exact({ keys, values, queries }, headDim) {
  const tokens = keys.length / KV_HEADS / headDim;
  const out = new Float64Array(queries.length);
  const weights = new Float64Array(tokens);
  for (let row = 0; row < QUERIES * HEADS; row++) {
    const head = Math.floor((row % HEADS) / (HEADS / KV_HEADS));
    let largest = Number.NEGATIVE_INFINITY;
    for (let token = 0; token < tokens; token++) {
      const at = (token * KV_HEADS + head) * headDim;
      let score = 0;
      for (let i = 0; i < headDim; i++) score += queries[row * headDim + i] * keys[at + i];
      weights[token] = score / Math.sqrt(headDim);
      largest = Math.max(largest, weights[token]);
    }
    let sum = 0;
    for (let token = 0; token < tokens; token++) sum += weights[token] = Math.exp(weights[token] - largest);
    for (let token = 0; token < tokens; token++) {
      const at = (token * KV_HEADS + head) * headDim;
      for (let i = 0; i < headDim; i++) out[row * headDim + i] += (weights[token] / sum) * values[at + i];
    }
  }
  return out;
}

/** Every head vector through the codec. @param {any} codec @param {Float32Array} vectors @param {number} headDim @param {"keys" | "values"} part */
function roundTrip(codec, vectors, headDim, part) {
  const bytes = new Uint8Array(codec.vectorBytes(headDim));
  const back = new Float32Array(vectors.length);
  for (let at = 0; at < vectors.length; at += headDim) {
    codec.encode(vectors.subarray(at, at + headDim), bytes, part);
    codec.decode(bytes, back.subarray(at, at + headDim));
  }
  return back;
}

/** The device's kernels: append all, then attend with each query from the last position. */
async function throughKernels(
  /** @type {{ kv: string, folder: string }} */ { kv, folder },
  /** @type {ReturnType<typeof made>} */ { keys, values, queries },
  /** @type {number} */ headDim,
) {
  const layout = await from(folder, "device/wasm/kv-layout.js");
  const format = layout.KV_FORMATS.indexOf(kv);
  const tokens = keys.length / KV_HEADS / headDim;
  const pages = Math.ceil(tokens / 32);
  const module = new WebAssembly.Module(readFileSync(join(folder, "device/wasm/kernels-relaxed.wasm")));
  const memory = new WebAssembly.Memory({ initial: 8192, maximum: 65536, shared: true });
  /** @type {any} */
  const kernels = new WebAssembly.Instance(module, { env: { memory } }).exports;
  let end = 65536;
  const region = (/** @type {number} */ bytes) => {
    const at = end;
    end = Math.ceil((end + bytes) / 64) * 64;
    if (end > memory.buffer.byteLength) throw new Error(`${end} bytes are needed`);
    return at;
  };
  const floats = (/** @type {number} */ at, /** @type {number} */ count) =>
    new Float32Array(memory.buffer, at, count);
  const cache = region(pages * layout.kvPageBytes(KV_HEADS, headDim, kv));
  const table = region(pages * 4);
  new Uint32Array(memory.buffer, table, pages).forEach((_, block, blocks) => {
    blocks[block] = block;
  });
  const work = region(layout.attendWorkBytes(headDim));
  const partials = region(layout.attendPartialBytes(1, 1, HEADS, KV_HEADS, headDim));
  const [k, v] = [region(keys.byteLength), region(values.byteLength)];
  const width = HEADS * headDim;
  const [q, out] = [region(width * 4), region(width * 4)];
  floats(k, keys.length).set(keys);
  floats(v, values.length).set(values);
  kernels.appendKv(cache, k, v, 0, tokens, KV_HEADS, headDim, table, format, work, 0, KV_HEADS);
  const found = new Float32Array(queries.length);
  const position = tokens - 1;
  const shape = [HEADS, KV_HEADS, headDim];
  for (let i = 0; i < QUERIES; i++) {
    floats(q, width).set(queries.subarray(i * width, (i + 1) * width));
    const units = kernels.attendUnits(1, 1, HEADS, KV_HEADS, position, 0);
    const rest = [table, 1, 0, 1 / Math.sqrt(headDim), 0, format, 0, units];
    kernels.attend(cache, q, out, partials, work, position, 1, ...shape, ...rest);
    const rows = kernels.attendMergeUnits(1, 1, HEADS, KV_HEADS, position, 0);
    kernels.attendMerge(partials, out, position, 1, ...shape, 1, 0, format, 0, rows);
    found.set(floats(out, width), i * width);
  }
  return found;
}

/** Root of the square error over the square size. @param {ArrayLike<number>} found @param {Float64Array} wanted */
function relativeError(found, wanted) {
  let [error, size] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    error += (found[i] - wanted[i]) ** 2;
    size += wanted[i] ** 2;
  }
  return Number(Math.sqrt(error / size).toPrecision(4));
}

const machine = `${cpus()[0].model}, Node ${process.version}, relaxed SIMD`;
for (const data of Object.keys(DATA))
  for (const headDim of headDims)
    for (const tokens of contexts) {
      const vectors = made(data, tokens, headDim);
      const wanted = exact(vectors, headDim);
      for (const format of FORMATS) {
        const codec = (await from(format.folder, "cache/codecs.js")).kvCodec(format.kv);
        const keys = roundTrip(codec, vectors.keys, headDim, "keys");
        const values = roundTrip(codec, vectors.values, headDim, "values");
        const row = {
          ...{ data, kv: format.name, headDim, tokens },
          bitsPerValue: (8 * codec.vectorBytes(headDim)) / headDim,
          format: relativeError(exact({ ...vectors, keys, values }, headDim), wanted),
          kernel: relativeError(await throughKernels(format, vectors, headDim), wanted),
        };
        console.log(JSON.stringify({ ...row, machine, date: new Date().toISOString().slice(0, 10) }));
      }
    }
