// @ts-check
/**
 * The gain or loss of guessing ahead in ordinary answers and in quotes, independent of how busy the machine is: steps
 * really run, but each is counted with a fixed time for its number of rows. These times are measured first, or given.
 *
 *     node bench/guess.js MODEL [--tokens 120] [--threads N] [--ms 1:8,2:12.7,4:19.3,8:30.4,12:41.9,16:54.2] [--json]
 *
 * ratio: time without guesses over time with them. The texts must be the same.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { wasmDevice } from "../dist/device/wasm/wasm.js";
import { findModel } from "../dist/engine/find-model.js";
import { loadCheckpoint, tokenizerOf } from "../dist/engine/load-checkpoint.js";
import { sampler } from "../dist/engine/sample.js";
import { Scheduler } from "../dist/engine/scheduler.js";
import { Text } from "../dist/engine/text.js";
import { openCheckpoint } from "../dist/format/open.js";
import { encodeChat } from "../dist/format/template-prompt.js";
import { quotePrompt } from "../dist/study/bench/bench-quote.js";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: "string", default: "120" },
    threads: { type: "string" },
    ms: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const [name = "needle"] = positionals;
const context = 2048;
const ROWS = [1, 2, 4, 6, 8, 12, 16];

const checkpoint = await openCheckpoint(await findModel(name, {}));
const threads = options.threads === undefined ? undefined : Number(options.threads);
const parts = await loadCheckpoint(
  checkpoint,
  () => wasmDevice({ threads }),
  { context },
  async (model) => ({
    tokenizer: await tokenizerOf(model),
    template: await checkpoint.chatTemplate(),
  }),
);
const { tokenizer, template } = parts.extra;
const { graph } = parts.plan;

/** Milliseconds by rows, medians of 30 in turn, after 500 tokens. */
async function measured() {
  for (const pool of graph.pools) {
    const pages = Uint32Array.from({ length: Math.min(graph.blocks, pool.pages) }, (_, i) => i);
    parts.allocation.setPages(pool, 0, 0, pages);
  }
  const times = new Map(ROWS.map((rows) => [rows, /** @type {number[]} */ ([])]));
  for (let round = 0; round < 30; round++)
    for (const [rows, list] of times) {
      const ids = Uint32Array.from({ length: rows }, (_, i) => 100 + ((round + i * 7) % 300));
      const started = performance.now();
      await parts.allocation.run({ runs: [{ text: 0, position: 500, ids, outputs: rows }] });
      list.push(performance.now() - started);
    }
  return [...times].map(([rows, list]) => [rows, list.sort((a, b) => a - b)[list.length >> 1]]);
}
const table = options.ms
  ? options.ms.split(",").map((pair) => pair.split(":").map(Number))
  : await measured();

/** Linear interpolation between measured times. */
function msOf(/** @type {number} */ rows) {
  const i = table.findIndex(([known]) => known >= rows);
  if (i < 0) return (table[table.length - 1][1] * rows) / table[table.length - 1][0];
  const [above, ms] = table[i];
  if (above === rows || i === 0) return ms;
  const [below, least] = table[i - 1];
  return least + ((ms - least) * (rows - below)) / (above - below);
}

let now = 0;
const allocation = new Proxy(parts.allocation, {
  get(target, key) {
    if (key === "run")
      return async (/** @type {import("../dist/device/contract.js").Step} */ step) => {
        now += msOf(step.runs.reduce((sum, { ids }) => sum + ids.length, 0));
        return target.run(step);
      };
    const value = Reflect.get(target, key);
    return typeof value === "function" ? value.bind(target) : value;
  },
});
const { vocab } = parts.model.config;
const scheduler = new Scheduler(graph, allocation, parts.device, {
  context,
  vocab,
  guess: 15,
  clock: () => now,
});

const QUESTIONS = [
  "What is the capital of France, and why is it famous?",
  "Write a short poem about the sea.",
  "Explain how a bicycle stays upright.",
  "Give me a recipe for pancakes.",
  "Tell me a story about a fox and a crow.",
  "How do I learn to play the guitar?",
  "What is photosynthesis?",
  "Write an email to my boss asking for a day off.",
  "List ten facts about Saturn.",
  "What should I see in Rome in three days?",
];
const text = readFileSync(
  join(fileURLToPath(new URL("..", import.meta.url)), "models/texts/persuasion.txt"),
  "utf8",
);
const chat = (/** @type {string} */ content) =>
  template ? encodeChat(tokenizer, template, [{ role: "user", content }], {}) : tokenizer.encode(content);
const kinds = {
  chats: QUESTIONS.flatMap((question, seed) =>
    [0, 0.8].map((temperature) => ({ ids: chat(question), temperature, seed })),
  ),
  quote: [{ ids: quotePrompt(tokenizer, text, vocab), temperature: 0, seed: 0 }],
};

for (const [kind, prompts] of Object.entries(kinds)) {
  const sums = { plain: 0, guessed: 0, tokens: 0, drafted: 0, accepted: 0, least: Number.POSITIVE_INFINITY };
  let different = 0;
  for (const { ids, temperature, seed } of prompts) {
    /** @type {Record<string, { ms: number, ids: string }>} */
    const found = {};
    for (const guess of [true, false]) {
      const isEnd = (/** @type {number} */ id) => kind === "chats" && tokenizer.endIds.has(id);
      const sample = sampler({ temperature, seed });
      const tokens = new Text(scheduler).generate(ids, sample, {
        most: Number(options.tokens),
        guess,
        isEnd,
      });
      const made = [];
      let started = 0;
      for (let token = await tokens.next(); token; token = await tokens.next()) {
        if (made.length === 0) started = now;
        made.push(token.id);
      }
      tokens.end();
      found[String(guess)] = { ms: now - started, ids: made.join() };
      if (!guess) sums.tokens += made.length;
      sums.drafted += tokens.drafted;
      sums.accepted += tokens.accepted;
    }
    sums.plain += found.false.ms;
    sums.guessed += found.true.ms;
    sums.least = Math.min(sums.least, found.false.ms / found.true.ms);
    if (found.false.ids !== found.true.ids) different++;
  }
  const { plain, guessed, least, ...counts } = sums;
  const round = (/** @type {number} */ value) => Math.round(value * 1000) / 1000;
  const row = {
    ...{ model: name, kind, answers: prompts.length, different, ratio: round(plain / guessed) },
    ...{
      leastRatio: round(least),
      ...counts,
      msByRows: Object.fromEntries(table.map((pair) => pair.map(round))),
    },
    ...{ node: process.version, date: new Date().toISOString().slice(0, 10) },
  };
  console.log(options.json ? JSON.stringify(row) : row);
}
await parts.allocation.close();
await checkpoint.close();
