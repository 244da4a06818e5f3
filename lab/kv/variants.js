// @ts-check
/**
 * What would bring rq4 nearer to f16? Formats that have no kernels yet, tried on real models: the CPU device runs over an
 * f16 cache, a token a step, and behind each step the token's keys and values are replaced by what a format would give
 * back. Prints JSON rows, on Gemma of a text, on needle-14m of its answers too (its prose means nothing: README.md).
 *   node lab/kv/variants.js [--model needle|FILE] [--tokens 768] [--documents 4] [--only "NAME;NAME"]
 * Run `npm run build` first.
 */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { root } from "./unrotated.js";

const { values: options } = parseArgs({
  options: {
    model: { type: "string", default: "needle" },
    tokens: { type: "string", default: "768" },
    documents: { type: "string", default: "4" },
    only: { type: "string" },
  },
});
/** @param {string} path */
const from = (path) => import(pathToFileURL(join(root, "dist", path)).href);
const { openCheckpoint } = await from("format/open.js");
const { findModel } = await from("engine/find-model.js");
const { wasmDevice } = await from("device/wasm/wasm.js");
const { loadCheckpoint } = await from("engine/load-checkpoint.js");
const { planStudy } = await from("study/verify/verify-tests.js");
const { verify } = await from("study/verify/verify.js");
const { haystack } = await from("study/verify/needles.js");
const { LogitsFile } = await from("study/verify/logits-file.js");
const { Text } = await from("engine/text.js");
const { rotate, rotateBack } = await from("device/rotation.js");
const { kvCodec } = await from("cache/codecs.js");
const { f16ToF32, f32ToF16 } = await from("format/float16.js");

/** @typedef {"keys" | "values"} Part */
/** What a vector comes back as. @typedef {(x: Float32Array, part: Part) => Float32Array} RoundTrip */

/** @param {string} name @returns {RoundTrip} */
const shipped = (name) => (x, part) => {
  const codec = kvCodec(name);
  const bytes = new Uint8Array(codec.vectorBytes(x.length));
  const back = new Float32Array(x.length);
  codec.encode(x, bytes, part);
  codec.decode(bytes, back);
  return back;
};
const exact = /** @type {RoundTrip} */ (x) => x;
const int4 = shipped("int4");
const rq4 = shipped("rq4");

/** Rotated, brought back, and freed of the 2 that an odd power of two brings. @param {RoundTrip} inner @returns {RoundTrip} */
const rotated = (inner) => (x, part) => {
  const y = x.slice();
  rotate(y);
  const back = inner(y, part).slice();
  rotateBack(back);
  const gain = Math.log2(x.length & -x.length) % 2 === 0 ? 1 : 2;
  return back.map((value) => value / gain);
};

/**
 * Even codes about zero, one scale for each `group` dims (0: the whole vector), the best of a few steps; keys' scale
 * unbiased along the key, as rq4's.
 * @param {number} bits @param {number} size @returns {RoundTrip}
 */
const linear = (bits, size) => (x, part) => {
  const out = new Float32Array(x.length);
  const group = size || x.length;
  const half = 2 ** (bits - 1);
  for (let at = 0; at < x.length; at += group) {
    const w = x.subarray(at, at + group);
    const rms = Math.sqrt(w.reduce((sum, v) => sum + v * v, 0) / w.length);
    let best = { gain: -1, codes: w, products: 1, squares: 1 };
    for (let i = 0; i < 12; i++) {
      const step = (rms * (0.5 + 0.08 * i) * 5.4) / 2 ** bits || 1;
      const codes = w.map((v) => Math.min(half - 0.5, Math.max(0.5 - half, Math.floor(v / step) + 0.5)));
      const products = codes.reduce((sum, c, j) => sum + c * w[j], 0);
      const squares = codes.reduce((sum, c) => sum + c * c, 0);
      const gain = (products * products) / squares;
      if (gain > best.gain) best = { gain, codes, products, squares };
    }
    const size2 = w.reduce((sum, v) => sum + v * v, 0);
    const scale = part === "keys" ? size2 / best.products : best.products / best.squares;
    for (let j = 0; j < w.length; j++) out[at + j] = (size2 > 0 ? scale : 0) * best.codes[j];
  }
  return out;
};

/** @param {RoundTrip} keys @param {RoundTrip} values @returns {RoundTrip} */
const apart = (keys, values) => (x, part) => (part === "keys" ? keys : values)(x, part);

/**
 * first, newest: tokens that stay f16; layers: which are compressed; mean: the keys' mean is taken off before and added
 * after, of the first 64 tokens of the same text, or of 256 tokens of another ("other"). bits: a value, at a head size of
 * 256, without what stays f16.
 * @typedef {{ trip: RoundTrip, bits: number, first?: number, newest?: number, layers?: "full", mean?: "own" | "other" }} Variant
 * @type {Record<string, Variant>}
 */
const VARIANTS = {
  int4: { trip: int4, bits: 5 },
  rq4: { trip: rq4, bits: 4.06 },
  "rq4 keys, f16 values": { trip: apart(rq4, exact), bits: 10.03 },
  "f16 keys, rq4 values": { trip: apart(exact, rq4), bits: 10.03 },
  "rq4, first 4 tokens f16": { trip: rq4, bits: 4.06, first: 4 },
  "rq4, newest 32 tokens f16": { trip: rq4, bits: 4.06, newest: 32 },
  "rq4, keys less their mean": { trip: rq4, bits: 4.06, mean: "own" },
  "rq4, keys less another text's mean": { trip: rq4, bits: 4.06, mean: "other" },
  "rq4, keys less their mean, newest 32 f16": { trip: rq4, bits: 4.06, mean: "own", newest: 32 },
  "rq4, first 4 and newest 32 f16": { trip: rq4, bits: 4.06, first: 4, newest: 32 },
  "rq4, keys less their mean, first 4 and newest 32 f16": {
    ...{ trip: rq4, bits: 4.06, mean: "own", first: 4, newest: 32 },
  },
  "rq4, a scale for each 32": { trip: rotated(linear(4, 32)), bits: 4.5 },
  "rq4, keys of 5 bits": { trip: apart(rotated(linear(5, 0)), rq4), bits: 4.56 },
  "int4, rotated": { trip: rotated(int4), bits: 5 },
  "rq4 in full layers, f16 in sliding": { trip: rq4, bits: 4.06, layers: "full" },
};

const path = await findModel(options.model);
const tokens = Number(options.tokens);
const text = readFileSync(join(root, "models/texts/persuasion.txt"), "utf8");
const names = options.only?.split(";") ?? Object.keys(VARIANTS);

async function plan() {
  const checkpoint = await openCheckpoint(path);
  const [tokenizer, template] = [await checkpoint.tokenizer(), await checkpoint.chatTemplate()];
  await checkpoint.close();
  const from = Math.floor(tokens / 3);
  const subject = { tokenizer, template, trainedContext: 32_768, device: { name: "wasm", kvFormats: null } };
  const study = planStudy(subject, text, {
    depths: [from],
    positions: tokens - from,
    needles: 0,
  });
  const haystacks = Array.from({ length: Number(options.documents) }, (_, number) =>
    haystack(tokenizer, template, text, 1024, number),
  );
  return { ...study, haystacks, context: Math.max(tokens, haystacks.length > 0 ? 1280 : 0), formats: names };
}

/** Where the dims of a vector lie in an f16 cache of the CPU: in octets of rows, as device/wasm/kv-layout.ts has them. */
function addresses(
  /** @type {number} */ headDim,
  /** @type {number} */ kvHeads,
  /** @type {number} */ kvHead,
  /** @type {number} */ page,
  /** @type {number} */ token,
  /** @type {Part} */ part,
) {
  const half = 2 * 32 * headDim;
  const start = ((page * kvHeads + kvHead) * 2 + (part === "values" ? 1 : 0)) * half;
  return Array.from({ length: headDim }, (_, dim) => {
    const row = part === "keys" ? token : dim;
    const k = part === "keys" ? (row >> 3) * headDim + dim : (row >> 3) * 32 + token;
    return start + k * 16 + (2 * (row & 3) + ((row >> 2) & 1)) * 2;
  });
}

/** Keys' means over f16 by whose, cache and head. @type {Map<string, Float32Array>} */
const means = new Map();

/** @param {string} key @param {Float32Array} x @param {number} count */
function addToMean(key, x, count) {
  const mean = means.get(key) ?? new Float32Array(x.length);
  for (let i = 0; i < x.length; i++) mean[i] += x[i] / count;
  means.set(key, mean);
}

/** Another text over f16, for its means. */
async function calibrate() {
  const other = readFileSync(join(root, "examples/texts/northanger-abbey.txt"), "utf8");
  const source = await open("f16", { whose: "other", tokens: 256 });
  await source.text.sync(source.tokenizer.encode(other.slice(0, 4000)).slice(0, 256));
  await source.close();
}

/** @param {string} name @param {{ whose: string, tokens: number }} counted What f16 is averaged for, and over how many tokens. */
async function open(name, counted = { whose: "own", tokens: 64 }) {
  const checkpoint = await openCheckpoint(path);
  const {
    scheduler,
    device,
    plan: made,
    allocation,
    extra,
  } = await loadCheckpoint(
    checkpoint,
    () => wasmDevice({ threads: 1 }),
    { kv: "f16", context: study.context, chunk: 1, outputs: 1 },
    async () => ({ tokenizer: await checkpoint.tokenizer() }),
  );
  const variant = VARIANTS[name];
  const run = allocation.run.bind(allocation);
  const setPages = allocation.setPages.bind(allocation);
  /** By pool: the page of each block of the one text. @type {Map<number, number[]>} */
  const tables = new Map();
  allocation.setPages = (
    /** @type {any} */ pool,
    /** @type {number} */ text,
    /** @type {number} */ first,
    /** @type {ArrayLike<number>} */ pages,
  ) => {
    setPages(pool, text, first, pages);
    const table = tables.get(pool.id) ?? [];
    tables.set(pool.id, table);
    for (let i = 0; i < pages.length; i++) table[first + i] = pages[i];
  };
  /** Positions that have been counted. @type {Set<number>} */
  const done = new Set();
  allocation.run = async (/** @type {any} */ step) => {
    const ran = await run(step);
    const { first = 0, newest = 0, layers, mean } = variant ?? /** @type {Partial<Variant>} */ ({});
    const position = step.runs[0].position - newest;
    if (position < first) return ran;
    for (const cache of made.graph.caches) {
      const { headDim, kvHeads, pool, id } = cache;
      const { buffer, byteOffset, byteLength } = allocation.cacheBytes(cache);
      if (layers === "full" && pool.window !== null) continue;
      const page = tables.get(pool.id)?.[position >> 5] ?? 0;
      const halves = new DataView(buffer, byteOffset, byteLength);
      for (let kvHead = 0; kvHead < kvHeads; kvHead++)
        for (const part of /** @type {const} */ (["keys", "values"])) {
          const at = addresses(headDim, kvHeads, kvHead, page, position & 31, part);
          const x = Float32Array.from(at, (address) => f16ToF32(halves.getUint16(address, true)));
          if (!variant) {
            // Over f16 nothing is replaced; the first tokens of the first text give the means.
            const { whose, tokens: count } = counted;
            const isFirst = part === "keys" && position < count && !done.has(position);
            if (isFirst) addToMean(`${whose} ${id} ${kvHead}`, x, count);
            continue;
          }
          const off = mean && part === "keys" ? means.get(`${mean} ${id} ${kvHead}`) : null;
          const back = variant.trip(off ? x.map((v, i) => v - off[i]) : x, part);
          for (let i = 0; i < headDim; i++)
            halves.setUint16(at[i], f32ToF16(back[i] + (off ? off[i] : 0)), true);
        }
    }
    done.add(position);
    return ran;
  };
  const close = async () => {
    await allocation.close();
    await checkpoint.close();
  };
  return {
    text: new Text(scheduler),
    tokenizer: extra.tokenizer,
    device: device.description,
    cacheBytes: 0,
    close,
  };
}

const study = await plan();
const machine = `${cpus()[0].model}, Node ${process.version}`;
if (names.some((name) => VARIANTS[name].mean === "other")) await calibrate();
const store = new LogitsFile();
try {
  let right = 0;
  for await (const { divergence, ...row } of verify(study, open, store)) {
    if (row.kind === "needle") right += row.right;
    if (row.kind === "format") right = 0;
    if (row.kind !== "depth" && row.kind !== "answer") continue;
    const bits = VARIANTS[row.kv]?.bits ?? 16;
    const needles = row.kind === "answer" ? { right, asked: 5 * study.haystacks.length } : {};
    const date = new Date().toISOString().slice(0, 10);
    console.log(
      JSON.stringify({ model: basename(path), ...row, bits, ...divergence, ...needles, machine, date }),
    );
  }
} finally {
  await store.close();
}
