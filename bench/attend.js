// @ts-check
/**
 * Attention over one layer's cache, two worker threads: int4 fused, int4 dequantized and then attended, rq4 fused, f16; one
 * query and prompt chunks, at 1K, 8K and 32K tokens. Medians of rounds that alternate between the rows of a depth.
 *   node bench/attend.js [--plain] [--json] [--heads 32] [--kv-heads 8] [--head-dim 128] [--rounds 5]
 * Run `npm run build` first. The dequantizing rung is lab/kernels/attend, compiled here.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { Worker } from "node:worker_threads";

const { values: options } = parseArgs({
  options: {
    plain: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    heads: { type: "string", default: "32" },
    "kv-heads": { type: "string", default: "8" },
    "head-dim": { type: "string", default: "128" },
    depths: { type: "string", default: "1024,8192,32768" },
    rounds: { type: "string", default: "5" },
  },
});
const heads = Number(options.heads);
const kvHeads = Number(options["kv-heads"]);
const headDim = Number(options["head-dim"]);
const depths = options.depths.split(",").map(Number);
const rounds = Number(options.rounds);
const CHUNKS = [64, 128];
const THREADS = 2;
const root = fileURLToPath(new URL("..", import.meta.url));
if (!options.plain) setFlagsFromString("--experimental-wasm-relaxed-simd");

function compileRung() {
  const out = join(mkdtempSync(join(tmpdir(), "nibble-bench-")), "dequantize.wasm");
  const features = ["simd", "threads", "bulk-memory", ...(options.plain ? [] : ["relaxed-simd"])];
  const args = [
    "lab/kernels/attend/assembly/dequantize.ts",
    "--outFile",
    out,
    "--runtime",
    "stub",
    "-O3",
    "--noAssert",
  ];
  // Its constants lie behind those of the product's binary, with which it shares a memory.
  args.push("--importMemory", "--sharedMemory", "--initialMemory", "1", "--maximumMemory", "65536");
  args.push("--memoryBase", "32768", ...features.flatMap((feature) => ["--enable", feature]));
  const asc = join(root, "node_modules/assemblyscript/bin/asc.js");
  const done = spawnSync(process.execPath, [asc, ...args], { cwd: root, stdio: ["ignore", 2, 2] });
  if (done.status !== 0) throw new Error("lab/kernels/attend/assembly/dequantize.ts does not compile");
  return new WebAssembly.Module(readFileSync(out));
}

const binary = options.plain ? "kernels" : "kernels-relaxed";
const product = new WebAssembly.Module(readFileSync(join(root, `src/device/wasm/${binary}.wasm`)));
const modules = [compileRung(), product];

/** @typedef {"f16" | "int4" | "rq4"} Format */
/** A kernel's calls, [name, arguments], of each thread. @typedef {[string, number[]][][]} Phase */

const fromDist = (/** @type {string} */ path) => import(new URL(`../dist/${path}`, import.meta.url).href);
const { KV_FORMATS, layerPageBytes } = await fromDist("device/wasm/kv-layout.js");
const { kvCodec } = await fromDist("cache/codecs.js");

// Memory: one region after another, never freed.
const memory = new WebAssembly.Memory({ initial: 65535, maximum: 65536, shared: true });
let end = 65536;
/** @param {number} bytes */
function region(bytes) {
  const at = end;
  end = Math.ceil((end + bytes) / 64) * 64;
  if (end > memory.buffer.byteLength) throw new Error(`the bench needs ${end} bytes; a memory holds 4 GiB`);
  return at;
}
/** @param {number} at @param {number} count */
const floats = (at, count) => new Float32Array(memory.buffer, at, count);
/** @type {Record<string, any>} */
const kernels = {};
for (const module of modules)
  Object.assign(kernels, new WebAssembly.Instance(module, { env: { memory } }).exports);

const chunk = Math.max(...CHUNKS);
const slots = Math.max(...depths) + chunk + 32;
const capacity = Math.ceil(slots / 32) * 32;
const groups = headDim / 32;
const meeting = region(128);
const queries = region(chunk * heads * headDim * 4);
const scaledQueries = region(heads * headDim * 4);
const out = region(chunk * heads * headDim * 4);
const partials = region(32 << 20);
const workBytes = kernels.attendWorkBytes(headDim);
const work = region(THREADS * workBytes);
const vectorBytes = kvCodec("int4").vectorBytes(headDim);
const rowMajor = region(2 * kvHeads * capacity * vectorBytes);
const expanded = region(2 * kvHeads * capacity * headDim * 4);
const pages = capacity / 32;
/** @param {Format} format */
const cacheOf = (format) => {
  const cache = { codec: kvCodec(format), kvHeads, headDim, turned: 0 };
  return region(pages * (layerPageBytes(cache, "keys") + layerPageBytes(cache, "values")));
};
/** @type {Record<Format, number>} */
const caches = { f16: cacheOf("f16"), int4: cacheOf("int4"), rq4: cacheOf("rq4") };
// Neighbours lie apart, as after long use.
const table = region(pages * 4);
const stride = [7, 5, 3].find((step) => pages % step !== 0) ?? 1;
new Uint32Array(memory.buffer, table, pages).forEach((_, block, blocks) => {
  blocks[block] = (block * stride) % pages;
});

/** Uniform numbers in (-1.7, 1.7): unit variance. @param {number} count */
function noise(count) {
  let state = 12345;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state / 2147483648) * Math.sqrt(3);
  });
}

/** The same 1,024 random tokens again and again, in every cache: [keys, values][token][kvHead][headDim]. */
function fill() {
  const period = 1024;
  const width = kvHeads * headDim;
  const source = region(2 * period * width * 4);
  floats(source, 2 * period * width).set(noise(2 * period * width));
  const codec = kvCodec("int4");
  const bytes = new Uint8Array(memory.buffer);
  const encoded = new Uint8Array(vectorBytes);
  for (let part = 0; part < 2; part++)
    for (let head = 0; head < kvHeads; head++)
      for (let token = 0; token < period; token++) {
        codec.encode(
          floats(source + ((part * period + token) * width + head * headDim) * 4, headDim),
          encoded,
          part === 0 ? "keys" : "values",
        );
        for (let slot = token; slot < capacity; slot += period)
          bytes.set(encoded, rowMajor + ((part * kvHeads + head) * capacity + slot) * vectorBytes);
      }
  for (let position = 0; position < capacity; position += period) {
    const tokens = Math.min(period, capacity - position);
    for (const format of /** @type {Format[]} */ (Object.keys(caches))) {
      const shape = [kvHeads, headDim, table, KV_FORMATS[format], work, 0, kvHeads];
      kernels.appendKv(caches[format], source, source + period * width * 4, position, tokens, ...shape);
    }
  }
  floats(queries, chunk * heads * headDim).set(noise(chunk * heads * headDim));
  const factor = Math.LOG2E / Math.sqrt(headDim);
  floats(scaledQueries, heads * headDim).set(floats(queries, heads * headDim).map((x) => x * factor));
}

/** A thread's even share of [0, count). @param {number} count @param {number} thread */
const share = (count, thread) => [
  Math.floor((count * thread) / THREADS),
  Math.floor((count * (thread + 1)) / THREADS),
];
/** @param {(thread: number) => Phase[number]} calls @returns {Phase} */
const perThread = (calls) => Array.from({ length: THREADS }, (_, thread) => calls(thread));

/** @param {Format} format @param {number} tokens @param {number} position @returns {Phase[]} */
function fused(format, tokens, position) {
  const tiles = kernels.attendTiles(tokens, heads, kvHeads);
  const units = kernels.attendUnits(tokens, tiles, heads, kvHeads, position, 0);
  const rows = kernels.attendMergeUnits(tokens, tiles, heads, kvHeads, position, 0);
  const scale = 1 / Math.sqrt(headDim);
  return [
    perThread((thread) => [
      [
        "attend",
        [
          caches[format],
          queries,
          out,
          partials,
          work + thread * workBytes,
          position,
          tokens,
          heads,
          kvHeads,
          headDim,
          table,
          tiles,
          0,
          scale,
          0,
          KV_FORMATS[format],
          ...share(units, thread),
        ],
      ],
    ]),
    perThread((thread) => [
      [
        "attendMerge",
        [
          partials,
          out,
          position,
          tokens,
          heads,
          kvHeads,
          headDim,
          tiles,
          0,
          KV_FORMATS[format],
          ...share(rows, thread),
        ],
      ],
    ]),
  ];
}

/**
 * Expand everything (unless `only` attention is wanted), then attend to floats.
 * @param {number} position @returns {Phase[]}
 */
function dequantized(position, only = false) {
  const tokens = position + 1;
  const spans = kernels.attendSpans(1, 1, kvHeads, position, 0);
  const head = capacity * headDim * 4;
  const partial = (headDim + 4) * 4;
  const expansion = perThread((thread) =>
    Array.from({ length: 2 * kvHeads }, (_, i) => {
      const [first, last] = share(tokens * groups, thread);
      return ["expand", [rowMajor + i * capacity * vectorBytes, expanded + i * head, first, last]];
    }),
  );
  const attention = perThread((thread) => {
    const [first, last] = share(kvHeads * spans, thread);
    return Array.from({ length: last - first }, (_, i) => {
      const kvHead = Math.floor((first + i) / spans);
      const span = (first + i) % spans;
      const from = Math.floor((tokens * span) / spans / 2) * 2;
      const to = span === spans - 1 ? tokens : Math.floor((tokens * (span + 1)) / spans / 2) * 2;
      const keys = expanded + kvHead * head + from * headDim * 4;
      const query = scaledQueries + kvHead * 4 * headDim * 4;
      const target = partials + (kvHead * 4 * spans + span) * partial;
      const scratch = work + thread * workBytes;
      return [
        "attendFloat",
        [keys, keys + kvHeads * head, query, to - from, headDim, scratch, target, spans * partial],
      ];
    });
  });
  const merge = fused("int4", 1, position)[1];
  return only ? [attention, merge] : [expansion, attention, merge];
}

const workers = Array.from(
  { length: THREADS },
  (_, thread) =>
    new Worker(new URL("./attend-worker.js", import.meta.url), {
      workerData: { memory, modules, thread, threads: THREADS, meeting },
    }),
);

/** @param {Phase[]} phases @param {number} count @returns {Promise<number[]>} ms of each round */
function time(phases, count) {
  const answers = workers.map((worker) => new Promise((resolve) => worker.once("message", resolve)));
  for (const worker of workers) worker.postMessage({ phases, rounds: count });
  return Promise.all(answers).then(([times]) => times);
}

const median = (/** @type {number[]} */ times) =>
  [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)];
const difference = (/** @type {Float32Array} */ a, /** @type {Float32Array} */ b) => {
  const error = a.reduce((sum, x, i) => sum + (x - b[i]) ** 2, 0);
  return Math.sqrt(error / b.reduce((sum, x) => sum + x * x, 0));
};

fill();
const comparable = heads === 4 * kvHeads && headDim % 32 === 0;
const rows = [];
for (const depth of depths) {
  const cases = [
    { row: "int4 fused", tokens: 1, phases: fused("int4", 1, depth - 1) },
    ...(comparable
      ? [
          { row: "int4 dequantize, attend", tokens: 1, phases: dequantized(depth - 1) },
          { row: "f32 (of the row above)", tokens: 1, phases: dequantized(depth - 1, true) },
        ]
      : []),
    { row: "rq4 fused", tokens: 1, phases: fused("rq4", 1, depth - 1) },
    { row: "f16", tokens: 1, phases: fused("f16", 1, depth - 1) },
    ...CHUNKS.flatMap((tokens) =>
      /** @type {const} */ (["int4", "rq4", "f16"]).map((format) => ({
        row: `${format} prompt`,
        tokens,
        phases: fused(format, tokens, depth),
      })),
    ),
  ].map((entry) => ({ ...entry, times: /** @type {number[]} */ ([]) }));
  /** @type {Record<string, Float32Array>} */
  const outputs = {};
  for (const entry of cases) {
    // Until the optimizing compiler has taken over: 300 ms.
    for (let spent = 0; spent < 300; ) spent += (await time(entry.phases, 3)).reduce((a, b) => a + b, 0);
    if (entry.tokens === 1) outputs[entry.row] = floats(out, heads * headDim).slice();
  }
  for (let round = 0; round < rounds; round++)
    for (const entry of cases)
      entry.times.push(
        ...(await time(entry.phases, Math.max(1, Math.min(20, Math.round(50 / (entry.times[0] ?? 50)))))),
      );
  if (comparable && difference(outputs["int4 fused"], outputs["int4 dequantize, attend"]) > 0.03)
    throw new Error("the fused and the dequantizing kernel disagree");
  for (const { row, tokens, times } of cases) {
    const ms = median(times);
    // Products of queries with visible keys and of weights with values.
    const seen = tokens === 1 ? depth : tokens * depth + (tokens * (tokens + 1)) / 2;
    rows.push({
      depth,
      row,
      tokens,
      ms,
      least: Math.min(...times),
      gops: (4 * heads * headDim * seen) / ms / 1e6,
    });
  }
}
await Promise.all(workers.map((worker) => worker.terminate()));

const machine = `${cpus()[0].model}, ${THREADS} threads, Node ${process.version}, ${binary}`;
const shape = `${heads}/${kvHeads} heads of ${headDim}`;
if (options.json) {
  console.log(JSON.stringify({ machine, shape, date: new Date().toISOString().slice(0, 10), rows }, null, 1));
} else {
  console.log(`${machine}; one layer, ${shape}; ${new Date().toISOString().slice(0, 10)}`);
  console.log("| depth | row | queries | ms, median | least | Gop/s |\n|---|---|---|---|---|---|");
  for (const { depth, row, tokens, ms, least, gops } of rows)
    console.log(
      `| ${depth} | ${row} | ${tokens} | ${ms.toFixed(2)} | ${least.toFixed(2)} | ${gops.toFixed(1)} |`,
    );
}
