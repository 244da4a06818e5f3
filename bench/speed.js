/**
 * Prompt and generation speed of a model at several depths, in llama-bench's rows, and of node-llama-cpp for comparison
 * if `--peer FOLDER` names a folder where it is installed. Both run in child processes, in turn, so that one sitting
 * gives the ratio.
 *
 *     node bench/speed.js MODEL [--kv int4] [--threads 2] [--chunk N] [--depths 128,4096] [--rounds 3] [--peer FOLDER]
 * [--json]
 */
import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const PROMPT_TOKENS = 512;
const GENERATED = 32;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kv: { type: "string", default: "int4" },
    threads: { type: "string", default: "2" },
    chunk: { type: "string" },
    depths: { type: "string", default: "128,4096" },
    rounds: { type: "string", default: "3" },
    peer: { type: "string" },
    json: { type: "boolean", default: false },
    child: { type: "string" },
  },
});
const [path] = positionals;
if (!path) throw new Error("usage: node bench/speed.js MODEL [options]");
const depths = values.depths.split(",").map(Number);
const threads = Number(values.threads);
/** Ids that every vocabulary here has and that are not control tokens. */
const ids = (count) => Array.from({ length: count }, (_, i) => 300 + ((i * 7919) % 20_000));

/** Rows of one process: { test: tokens per second }. Prompt first, so that kernels are warm for both. */
async function ours() {
  const { load } = await import("../dist/index.js");
  const context = Math.max(PROMPT_TOKENS, ...depths) + GENERATED + 1;
  const chunk = values.chunk ? Number(values.chunk) : undefined;
  const model = await load(path, { kv: values.kv, threads, context, chunk });
  // A different first token each time, so that nothing of the last prompt is reused.
  const run = (count, maxTokens, turn) =>
    model.generate({ ids: [1000 + turn, ...ids(count - 1)] }, { maxTokens, ignoreEnd: true }).result();
  await run(64, 4, 0);
  const rows = {};
  const prompt = await run(PROMPT_TOKENS, 1, 1);
  rows[`pp${PROMPT_TOKENS}`] = (PROMPT_TOKENS / prompt.promptMs) * 1e3;
  for (const [i, depth] of depths.entries()) {
    const result = await run(depth, GENERATED + 1, 2 + i);
    // The first token comes from the prompt's logits.
    rows[`tg${GENERATED} @ d${depth}`] = (GENERATED / result.generateMs) * 1e3;
  }
  return rows;
}

async function peer() {
  const { getLlama } = await import(
    pathToFileURL(`${values.peer}/node_modules/node-llama-cpp/dist/index.js`).href
  );
  const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: "error" });
  const model = await llama.loadModel({ modelPath: path });
  const contextSize = Math.max(PROMPT_TOKENS, ...depths) + GENERATED + 64;
  const context = await model.createContext({ contextSize, batchSize: 512, threads, flashAttention: true });
  const sequence = context.getSequence();
  const read = async (count, turn) => {
    await sequence.clearHistory();
    const started = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens([1000 + turn, ...ids(count - 1)]);
    return performance.now() - started;
  };
  await read(64, 0);
  const rows = {};
  rows[`pp${PROMPT_TOKENS}`] = (PROMPT_TOKENS / (await read(PROMPT_TOKENS, 1))) * 1e3;
  for (const [i, depth] of depths.entries()) {
    await read(depth, 2 + i);
    let count = 0;
    let started = 0;
    for await (const _ of sequence.evaluate([300], { temperature: 0, yieldEogToken: true })) {
      if (count++ === 0) started = performance.now();
      if (count > GENERATED) break;
    }
    rows[`tg${GENERATED} @ d${depth}`] = (GENERATED / (performance.now() - started)) * 1e3;
  }
  return rows;
}

function child(kind) {
  const script = fileURLToPath(import.meta.url);
  const args = [script, ...process.argv.slice(2), "--child", kind];
  const out = execFileSync(process.execPath, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return JSON.parse(out.trim().split("\n").at(-1));
}

const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];

if (values.child) {
  console.log(JSON.stringify(await (values.child === "ours" ? ours() : peer())));
  process.exit(0);
}
const kinds = values.peer ? ["ours", "peer"] : ["ours"];
const runs = { ours: [], peer: [] };
for (let round = 0; round < Number(values.rounds); round++)
  for (const kind of kinds) runs[kind].push(child(kind));
const rows = Object.keys(runs.ours[0]).map((test) => {
  const row = {
    model: path,
    test,
    kv: values.kv,
    threads,
    tokensPerSecond: median(runs.ours.map((r) => r[test])),
  };
  if (values.peer) {
    row.peer = median(runs.peer.map((r) => r[test]));
    row.ratio = row.tokensPerSecond / row.peer;
  }
  return { ...row, cpu: cpus()[0].model, node: process.version, date: new Date().toISOString().slice(0, 10) };
});
for (const row of rows) {
  if (values.json) console.log(JSON.stringify(row));
  else {
    const beside = row.peer
      ? `  node-llama-cpp f16 ${row.peer.toFixed(2)}  ratio ${row.ratio.toFixed(2)}`
      : "";
    console.log(`${row.test.padEnd(16)} ${row.kv} ${row.tokensPerSecond.toFixed(2)} tokens/s${beside}`);
  }
}
