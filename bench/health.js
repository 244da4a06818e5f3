/**
 * How long a server keeps its other clients waiting: /health and the pieces of a streamed answer, while slow requests
 * are being read. Prints percentiles, and the most processor time that the serving thread took between two turns of its
 * event loop (Linux; in steps of 4 ms), which other programs on the machine do not affect.
 *
 *     node bench/health.js [--model needle] [--seconds 10] [--json] [KIND ...] [-- options of nibble serve]
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const split = process.argv.indexOf("--");
const [own, more] =
  split < 0 ? [process.argv.slice(2), []] : [process.argv.slice(2, split), process.argv.slice(split + 1)];
const { values, positionals } = parseArgs({
  args: own,
  allowPositionals: true,
  options: {
    model: { type: "string", default: "needle" },
    seconds: { type: "string", default: "10" },
    json: { type: "boolean", default: false },
  },
});

/** Runs in the server: records the thread's processor time between two turns of a timer and reports it when asked. */
const WATCH = `data:text/javascript,${encodeURIComponent(`
import { readFileSync } from "node:fs";
const file = "/proc/self/task/" + process.pid + "/schedstat";
const ms = () => { try { return Number(readFileSync(file, "latin1").split(" ")[0]) / 1e6; } catch { return NaN; } };
let last = ms(), turns = [];
setInterval(() => { const now = ms(); turns.push(now - last); last = now; }, 1).unref();
process.on("SIGUSR2", () => { process.stderr.write("turns " + JSON.stringify(turns) + "\\n"); turns = []; });
`)}`;

const args = [
  "serve",
  values.model,
  "--port",
  "0",
  "--context",
  "4096",
  "--parallel",
  "4",
  "--queue",
  "64",
  ...more,
];
const child = spawn(process.execPath, ["--import", WATCH, join(root, "dist/cli/nibble.js"), ...args], {
  stdio: ["ignore", "pipe", "pipe"],
});
let out = "";
let told = "";
child.stdout.on("data", (data) => {
  out += data;
});
child.stderr.on("data", (data) => {
  told += data;
});
while (!out.includes("\n")) {
  if (child.exitCode !== null) throw new Error(`the server did not start: ${told}`);
  await sleep(50);
}
const url = /http:\/\/[^ ]+/.exec(out)?.[0];

const distinct = (length) => Array.from({ length }, (_, i) => i);
const messages = [{ role: "user", content: "What is it?" }];
const chat = (more) => ["v1/chat/completions", { messages, max_tokens: 1, ...more }];
const schema = (schema) =>
  chat({ response_format: { type: "json_schema", json_schema: { name: "a", schema } } });
const called = (text) => [
  ...messages,
  { role: "assistant", tool_calls: [{ type: "function", function: { name: "f", arguments: text } }] },
  ...messages,
];

/** The number of parallel clients and their requests, by the number of the request: each is answered or refused. */
const KINDS = {
  nothing: [0, () => []],
  schemas: [
    20,
    (n) => {
      const value = (i) => ({ enum: [`v${i}`, `w${n}-${i}`] });
      const properties = Object.fromEntries(distinct(1900).map((i) => [`p${i}`, value(i)]));
      return schema({ type: "object", properties });
    },
  ],
  "schemas too large": [
    20,
    (n) => {
      const range = (i) => ({ type: "number", minimum: -1e15 - 7 * i, maximum: 1e15 + n + i });
      return schema({ anyOf: distinct(1000).map(range) });
    },
  ],
  "small objects": [4, () => ["v1/chat/completions", `{"messages":[${"{},".repeat(350_000)}{}]}`]],
  "token ids": [4, () => ["v1/completions", { prompt: distinct(250_000).map((i) => i % 1000) }]],
  messages: [
    4,
    () =>
      chat({ messages: distinct(9000).map((i) => ({ role: i % 2 ? "assistant" : "user", content: "a" })) }),
  ],
  arguments: [4, () => chat({ messages: called(`{"a":[${"{},".repeat(300_000)}1]}`) })],
  "one word": [4, () => ["tokenize", { content: "a".repeat(1_000_000) }]],
  words: [
    4,
    () => [
      "tokenize",
      {
        content: distinct(90_000)
          .map((i) => `w${i * 7919}x`)
          .join(" "),
      },
    ],
  ],
  "long prompts": [
    4,
    (n) => ["v1/completions", { prompt: `${n} ${"The ship sailed on. ".repeat(500)}`, max_tokens: 1 }],
  ],
  escapes: [4, () => ["v1/completions", `{"prompt":"${"\\n".repeat(500_000)}","max_tokens":1}`]],
};
/** Made before the measurement starts. */
const VARIANTS = 40;

async function ask(path, body) {
  return fetch(`${url}/${path}`, { method: "POST", body });
}

let count = 0;
async function repeat(isOver, requests) {
  while (!isOver()) {
    const [path, body] = requests[count++ % requests.length];
    await (await ask(path, body)).arrayBuffer();
  }
}

async function health(isOver, waits) {
  while (!isOver()) {
    const started = performance.now();
    await (await fetch(`${url}/health`)).arrayBuffer();
    waits.push(performance.now() - started);
    await sleep(20);
  }
}

/** The times between the pieces of an answer. */
async function stream(isOver, gaps) {
  while (!isOver()) {
    const body = JSON.stringify({ prompt: "Once", max_tokens: 200, ignore_eos: true, stream: true });
    let last = performance.now();
    for await (const _ of (await ask("v1/completions", body)).body) {
      gaps.push(performance.now() - last);
      last = performance.now();
    }
  }
}

async function turns() {
  told = "";
  child.kill("SIGUSR2");
  while (!/turns .*\n/.test(told)) await sleep(20);
  return JSON.parse(/turns (.*)\n/.exec(told)[1]).filter((ms) => ms !== null);
}

function percentiles(list) {
  const sorted = [...list].sort((a, b) => a - b);
  const at = (share) =>
    Number((sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0).toFixed(1));
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), most: at(1) };
}

try {
  const cells = ({ p50, p90, p99, most }) =>
    [p50, p90, p99, most].map((ms) => String(ms).padStart(7)).join("");
  if (!values.json)
    console.log(
      `${"ms: p50, p90, p99, most".padEnd(20)}${"/health".padStart(28)}${"pieces".padStart(28)}${"thread's turn".padStart(28)} requests`,
    );
  for (const [kind, [clients, work]] of Object.entries(KINDS)) {
    if (positionals.length > 0 && !positionals.includes(kind)) continue;
    const requests = distinct(work.length === 0 ? 1 : VARIANTS).map((n) => {
      const [path, body] = work(n);
      return [path, Buffer.from(typeof body === "string" ? body : JSON.stringify(body ?? ""))];
    });
    await turns();
    const before = count;
    const started = performance.now();
    const isOver = () => performance.now() - started > Number(values.seconds) * 1000;
    const [waits, gaps] = [[], []];
    await Promise.all([
      health(isOver, waits),
      stream(isOver, gaps),
      ...distinct(clients).map(() => repeat(isOver, requests)),
    ]);
    const row = {
      kind,
      clients,
      requests: count - before,
      health: percentiles(waits),
      pieces: percentiles(gaps),
      turns: percentiles(await turns()),
    };
    console.log(
      values.json
        ? JSON.stringify(row)
        : `${kind.padEnd(20)}${cells(row.health)}${cells(row.pieces)}${cells(row.turns)} ${row.requests}`,
    );
  }
} finally {
  child.kill("SIGKILL");
}
