// @ts-check
/**
 * What each cache format costs a model, on the CPU: `nibble verify`'s study (src/study/verify/verify.ts) with every position of
 * a long text measured, by depth, with more needles, and with a format that does not ship: rq4 without rotation. Prints
 * JSON rows.
 *   node lab/kv/accuracy.js MODEL [--text FILE ...] [--tokens 20480] [--lengths 1024,4096,16384] [--documents 4,4,2]
 *     [--formats "int4,rq4,rq4 without rotation"] [--threads 2]
 * Run `npm run build` first. --tokens 0 leaves out the text, --lengths 0 the needles.
 */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { root, unrotatedBuild } from "./unrotated.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    text: {
      type: "string",
      multiple: true,
      default: ["models/texts/persuasion.txt", "examples/texts/northanger-abbey.txt"],
    },
    tokens: { type: "string", default: "20480" },
    lengths: { type: "string", default: "1024,4096,16384" },
    documents: { type: "string", default: "4,4,2" },
    formats: { type: "string", default: "int4,rq4,rq4 without rotation" },
    threads: { type: "string", default: "2" },
  },
});
const model = positionals[0] ?? "models/needle-14m/needle-14m-Q8_0.gguf";
const CHUNK = 64;
const DEPTHS = [0, 1024, 4096, 16_384];
const UNROTATED = "rq4 without rotation";

const dist = join(root, "dist");
/** @param {string} folder @param {string} path */
const from = (folder, path) => import(pathToFileURL(join(folder, path)).href);
const { openCheckpoint } = await from(dist, "format/open.js");
const { planStudy } = await from(dist, "study/verify/verify-tests.js");
const { verify } = await from(dist, "study/verify/verify.js");
const { haystack } = await from(dist, "study/verify/needles.js");
const { LogitsFile } = await from(dist, "study/verify/logits-file.js");
const unrotated = options.formats.includes(UNROTATED) ? unrotatedBuild() : "";

const texts = options.text.map((file) => readFileSync(join(root, file), "utf8"));
const tokens = Number(options.tokens);
const lengths = options.lengths
  .split(",")
  .map(Number)
  .filter((length) => length > 0);

const documents = options.documents.split(",").map(Number);

async function plan() {
  const checkpoint = await openCheckpoint(model);
  const [tokenizer, template] = [await checkpoint.tokenizer(), await checkpoint.chatTemplate()];
  await checkpoint.close();
  const text = texts.join("\n");
  // Any name is a format here.
  const subject = { tokenizer, template, trainedContext: 32_768, device: { name: "wasm", kvFormats: null } };
  const study = planStudy(subject, text, {
    depths: [0],
    positions: tokens || 1,
    needles: 0,
  });
  const windows = DEPTHS.map((from, i) => ({ from, to: Math.min(DEPTHS[i + 1] ?? tokens, tokens) })).filter(
    ({ from, to }) => to > from,
  );
  // Each document has other facts, and every second one another text.
  const haystacks = lengths.flatMap((length, i) =>
    Array.from({ length: documents[i] ?? documents[0] }, (_, number) => {
      const own = texts[number % texts.length];
      return haystack(tokenizer, template, own.length > 6 * length ? own : text, length, number);
    }),
  );
  const context = Math.max(tokens, ...lengths.map((length) => length + 256));
  return { ...study, windows, haystacks, context, formats: options.formats.split(",") };
}

const study = await plan();

/** @param {string} kv */
async function open(kv) {
  const folder = kv === UNROTATED ? unrotated : dist;
  const { wasmDevice } = await from(folder, "device/wasm/wasm.js");
  const { loadCheckpoint } = await from(folder, "engine/load-checkpoint.js");
  const checkpoint = await (await from(folder, "format/open.js")).openCheckpoint(model);
  const { Text } = await from(folder, "engine/text.js");
  const { scheduler, plan, allocation, extra } = await loadCheckpoint(
    checkpoint,
    () => wasmDevice({ threads: Number(options.threads) }),
    { kv: kv === UNROTATED ? "rq4" : kv, context: study.context, chunk: CHUNK, outputs: CHUNK },
    async () => ({ tokenizer: await checkpoint.tokenizer() }),
  );
  return {
    text: new Text(scheduler),
    tokenizer: extra.tokenizer,
    device: "the CPU",
    cacheBytes: plan.cacheBytes,
    close: async () => {
      await allocation.close();
      await checkpoint.close();
    },
  };
}

const machine = `${cpus()[0].model}, Node ${process.version}`;
const truth = new LogitsFile();
let doing = "";
try {
  for await (const { divergence, ...row } of verify(study, open, truth, {
    onProgress(/** @type {{ doing: string, done: number, total: number }} */ now) {
      if (now.doing !== doing)
        process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${now.doing}\n`);
      doing = now.doing;
    },
  })) {
    if (row.kind === "format" || row.kind === "verdict") continue;
    const text = options.text.map((file) => basename(file)).join(" + ");
    const date = new Date().toISOString().slice(0, 10);
    console.log(JSON.stringify({ model: basename(model), ...row, ...divergence, text, machine, date }));
  }
} finally {
  await truth.close();
}
