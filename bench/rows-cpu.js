// @ts-check
/**
 * The cost of a step on the CPU by its number of rows, each of its own text. Steps of all sizes run in turn, round
 * after round, so that a busy machine slows all of them equally. Times of steps alone, and with their logits read as
 * generation does.
 *
 *     node bench/rows-cpu.js MODEL.gguf | --shape NAME [--layers N] [--vocab N] [--rows 1,2,3,4,8]
 *         [--depth 64] [--kv int4] [--threads 2] [--rounds 200] [--json FILE]
 *
 * Ratios are the median over rounds of N times the round's one-row step divided by its N-row step, and the same for the
 * least times. Caches hold zeros: time does not depend on their contents. Run `npm run build` first.
 */
import { appendFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { kvCodec } from "../dist/cache/codecs.js";
import { wasmDevice } from "../dist/device/wasm/wasm.js";
import { openCheckpoint } from "../dist/format/open.js";
import { openModel } from "../dist/model/model.js";
import { syntheticCheckpoint } from "../dist/model/synthetic.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    shape: { type: "string" },
    layers: { type: "string" },
    vocab: { type: "string" },
    rows: { type: "string", default: "1,2,3,4,8" },
    depth: { type: "string", default: "64" },
    kv: { type: "string", default: "int4" },
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "200" },
    json: { type: "string" },
  },
});
const counts = options.rows.split(",").map(Number);
if (counts[0] !== 1) throw new Error("--rows begins with 1, to which the others are compared");
const depth = Number(options.depth);
const texts = Math.max(...counts);
const device = await wasmDevice({ threads: Number(options.threads) });
const context = Math.ceil((depth + 1) / 32) * 32;
const number = (/** @type {string | undefined} */ text) => (text === undefined ? undefined : Number(text));
const sizes = { layers: number(options.layers), vocab: number(options.vocab), context };
const model = await openModel(
  await (options.shape ? syntheticCheckpoint(options.shape, sizes) : openCheckpoint(positionals[0])),
);
const graph = model.record({
  ...{ context, texts, cacheTokens: texts * context, codec: kvCodec(options.kv) },
  ...{ maxTokens: texts, maxOutputs: texts },
});
const allocation = await device.allocate(graph);
for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
for (const pool of graph.pools)
  for (let text = 0; text < texts; text++) {
    const pages = Array.from(
      { length: graph.blocks },
      (_, block) => (text * graph.blocks + block) % pool.pages,
    );
    allocation.setPages(pool, text, 0, pages);
  }

/** Milliseconds of a step with this many rows, and with its logits. @param {number} count */
async function time(count) {
  const runs = Array.from({ length: count }, (_, text) => ({
    ...{ text, position: depth, outputs: 1 },
    ids: Uint32Array.of(100 + text),
  }));
  const started = performance.now();
  await allocation.run({ runs });
  const step = performance.now() - started;
  await allocation.read(graph.logits, 0, count);
  return { step, all: performance.now() - started };
}

/** @type {Map<number, { step: number, all: number }[]>} */
const times = new Map(counts.map((count) => [count, []]));
const warmUp = 20;
for (let round = -warmUp; round < Number(options.rounds); round++)
  for (const count of counts) {
    const found = await time(count);
    if (round >= 0) times.get(count)?.push(found);
  }

/** @param {number[]} numbers */
const middle = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];
/** @param {number} x */
const round = (x) => Number(x.toPrecision(3));
const ones = times.get(1) ?? [];
for (const [count, found] of times) {
  const ratio = (/** @type {"step" | "all"} */ what) => ({
    median: round(middle(found.map((each, i) => (count * ones[i][what]) / each[what]))),
    least: round((count * Math.min(...ones.map((o) => o[what]))) / Math.min(...found.map((f) => f[what]))),
  });
  const row = {
    ...{
      op: "step",
      model: options.shape ?? basename(positionals[0]),
      layers: model.config.layers.length,
      kv: options.kv,
      depth,
      rows: count,
    },
    ...{
      ms: round(middle(found.map(({ step }) => step))),
      leastMs: round(Math.min(...found.map(({ step }) => step))),
    },
    ...{ rowsOverOne: ratio("step"), withLogits: ratio("all") },
    ...{ device: device.description, threads: device.threads, cpu: cpus()[0].model, node: process.version },
    ...{ load: round(loadavg()[0]), date: new Date().toISOString().slice(0, 10) },
  };
  const { rowsOverOne: steps, withLogits: all } = row;
  console.log(
    `rows ${count}: ${row.ms} ms (least ${row.leastMs}), ${steps.median} times the rows of one (least times: ${steps.least}); with logits ${all.median} (${all.least})`,
  );
  if (options.json) appendFileSync(options.json, `${JSON.stringify(row)}\n`);
}
await allocation.close();
