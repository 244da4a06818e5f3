// @ts-check
/**
 * What cache formats cost over a long text, on the CPU, every position measured: `nibble verify`'s arithmetic with all
 * formats side by side, a page of 32 tokens after another. So nothing waits in a file, each page's losses are appended to
 * OUT when they are known, and the same command goes on where it was stopped (what is measured is read again, unmeasured).
 * Steps are pages, so a position sees packed what it would see packed when generated one at a time: `verify`, whose
 * steps have 64 rows on a CPU, keeps half a page more of each text exact.
 *   node lab/kv/long.js MODEL OUT [--text FILE] [--skip 0] [--tokens 8192] [--kv kv4,kv3] [--threads 1]
 * Run `npm run build` first. `node lab/kv/long.js --sum OUT ...` prints rows as `verify --json` has them.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    text: { type: "string" },
    skip: { type: "string", default: "0" },
    tokens: { type: "string", default: "8192" },
    kv: { type: "string", default: "kv4,kv3" },
    threads: { type: "string", default: "1" },
    dist: { type: "string" },
    sum: { type: "boolean", default: false },
  },
});
const root = fileURLToPath(new URL("../..", import.meta.url));
const dist = options.dist ?? join(root, "dist");
/** @param {string} path */
const from = (path) => import(pathToFileURL(join(dist, path)).href);
const { Tally, divergence, distribution, surprise } = await from("study/verify/divergence.js");
const PAGE = 32;
const DEPTHS = [0, 1024, 4096, 8192, 16_384];

/** @param {string} path */
const lines = (path) =>
  readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line.endsWith("}"))
    .map((line) => JSON.parse(line));

if (options.sum) sum();
else await measure(positionals[0], positionals[1]);

/** @param {string} model @param {string} out */
async function measure(model, out) {
  const { openCheckpoint } = await from("format/open.js");
  const { loadCheckpoint } = await from("engine/load-checkpoint.js");
  const { wasmDevice } = await from("device/wasm/wasm.js");
  const { Text } = await from("engine/text.js");
  const { encodePrompt } = await from("format/template.js");
  const { withBos } = await from("format/tokenizer.js");
  const file = options.text ?? join(root, "models/texts/persuasion.txt");
  const [skip, tokens] = [Number(options.skip), Number(options.tokens)];
  const formats = options.kv.split(",");

  /** @param {string} kv */
  const open = async (kv) => {
    const checkpoint = await openCheckpoint(model);
    const { scheduler, allocation } = await loadCheckpoint(
      checkpoint,
      () => wasmDevice({ threads: Number(options.threads) }),
      { kv, context: tokens, chunk: PAGE, outputs: PAGE },
      async () => ({ tokenizer: await checkpoint.tokenizer() }),
    );
    const close = () => allocation.close().then(() => checkpoint.close());
    return { text: new Text(scheduler), tokenizer: await checkpoint.tokenizer(), close };
  };
  const exact = await open("f16");
  const all = encodePrompt(exact.tokenizer, readFileSync(file, "utf8"), { template: false });
  // What stands before a text (Gemma's first token) stands before each piece of it.
  const piece = skip === 0 ? all : withBos(exact.tokenizer, all.slice(skip));
  const ids = piece.slice(0, tokens);
  const key = { model: basename(model), text: basename(file), skip, kv: options.kv };
  const isKey = (/** @type {any} */ row) => Object.entries(key).every(([name, value]) => row[name] === value);
  const known = existsSync(out)
    ? lines(out)
        .filter(isKey)
        .reduce((most, { to }) => Math.max(most, to), 0)
    : 0;
  const others = await Promise.all(formats.map(open));
  const started = Date.now();
  for (let at = 0; at < ids.length - 1; at += PAGE) {
    const some = ids.slice(at, Math.min(at + PAGE, ids.length - 1));
    if (at + some.length <= known) {
      for (const { text } of [exact, ...others]) await text.read([...text.ids, ...some]);
      continue;
    }
    /** @type {any[]} */
    const truths = [];
    for await (const logits of exact.text.each(some)) truths.push(distribution(logits, at + truths.length));
    const next = (/** @type {number} */ i) => ids[at + i + 1];
    const surprises = [truths.map((truth, i) => surprise(truth, next(i)))];
    const kl = [];
    const same = [];
    for (const { text } of others) {
      /** @type {any[]} */
      const found = [];
      for await (const logits of text.each(some)) found.push(distribution(logits, at + found.length));
      surprises.push(found.map((one, i) => surprise(one, next(i))));
      kl.push(found.map((one, i) => divergence(truths[i], one)));
      same.push(found.map((one, i) => Number(one.top === truths[i].top)).join(""));
    }
    const short = (/** @type {number[][]} */ rows) =>
      rows.map((row) => row.map((x) => Number(x.toPrecision(5))));
    const row = { ...key, from: at, to: at + some.length, kl: short(kl), same, surprises: short(surprises) };
    appendFileSync(out, `${JSON.stringify(row)}\n`);
    if (at % 1024 === 0)
      console.error(
        `${new Date().toISOString().slice(11, 19)} ${key.model} ${key.text} ${at} ${Date.now() - started} ms ${process.cpuUsage().user / 1e3} ms CPU`,
      );
  }
  for (const { close } of [exact, ...others]) await close();
}

/** Prints for each model and format the means over all positions of all files, and over the positions of each depth. */
function sum() {
  const rows = positionals.flatMap(lines);
  for (const model of new Set(rows.map((row) => row.model))) {
    const own = rows.filter((row) => row.model === model).sort((a, b) => a.skip - b.skip || a.from - b.from);
    const texts = [...new Set(own.map(({ text, skip }) => `${text} from ${skip}`))].join(", ");
    const formats = own[0].kv.split(",");
    for (const [i, kv] of ["f16", ...formats].entries())
      for (const depth of [null, ...DEPTHS.slice(0, -1)]) {
        const next = depth === null ? Number.POSITIVE_INFINITY : DEPTHS[DEPTHS.indexOf(depth) + 1];
        const tally = new Tally();
        for (const row of own.filter(({ from }) => from >= (depth ?? 0) && from < next))
          for (const [at, surprise] of row.surprises[i].entries())
            tally.addMeasured({
              surprise,
              compared:
                i === 0 ? null : { divergence: row.kl[i - 1][at], sameTop: row.same[i - 1][at] === "1" },
            });
        if (tally.positions === 0) continue;
        const { positions, perplexity, divergence } = tally;
        const found = { model, kind: "depth", kv, depth, positions, perplexity, ...divergence, texts };
        console.log(
          JSON.stringify({
            ...found,
            machine: `${cpus()[0].model}, Node ${process.version}`,
            date: new Date().toISOString().slice(0, 10),
          }),
        );
      }
  }
}
