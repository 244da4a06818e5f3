/**
 * Load on `nibble serve`: clients that send one chat after the other for a while. Each client talks about its own
 * document, in turns that grow, so that prefixes matter; one answer in twenty is cancelled. Prints errors, the
 * latencies of each client and of all, and the server's memory over time.
 *
 *     node bench/serve.js [--model needle] [--clients 16] [--seconds 60] [--tokens 24] [--json] [-- options of nibble
 * serve]
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: "string", default: "needle" },
    clients: { type: "string", default: "16" },
    seconds: { type: "string", default: "60" },
    tokens: { type: "string", default: "24" },
    json: { type: "boolean", default: false },
  },
});
const clients = Number(values.clients);
const seconds = Number(values.seconds);
/** Turns of one conversation; then the client begins another. */
const TURNS = 4;
const LEFT = 1 / 20;

const paragraphs = readFileSync(join(root, "examples/texts/northanger-abbey.txt"), "utf8")
  .split("\n")
  .filter((line) => line.length > 200);

/** A pseudo-random number in [0, 1) (mulberry32). */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function startServer() {
  const args = ["serve", values.model, "--port", "0", "--context", "4096", ...positionals];
  const child = spawn(process.execPath, [join(root, "dist/cli/nibble.js"), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let out = "";
  for await (const data of child.stdout) {
    out += data;
    if (out.includes("\n")) break;
  }
  const url = /http:\/\/[^ ]+/.exec(out)?.[0];
  if (!url) throw new Error("the server did not start");
  return { child, url };
}

/** Resident memory of a process, MiB (Linux). */
function memory(pid) {
  const found = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Math.round(Number(found[1]) / 1024);
}

/** One chat, streamed; null: cancelled. */
async function chat(url, messages, leaves) {
  const started = performance.now();
  const leaving = new AbortController();
  const { signal } = leaving;
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    body: JSON.stringify({
      ...{ messages, stream: true, stream_options: { include_usage: true } },
      ...{ max_tokens: Number(values.tokens), temperature: 0.7 },
    }),
    signal,
  });
  if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
  let firstMs = null;
  let text = "";
  let buffer = "";
  let usage = null;
  let isDone = false;
  const decoder = new TextDecoder();
  for await (const bytes of response.body) {
    buffer += decoder.decode(bytes, { stream: true });
    const events = buffer.split("\n\n");
    buffer = events.pop();
    for (const event of events.filter((line) => line.startsWith("data: "))) {
      const data = event.slice("data: ".length);
      isDone ||= data === "[DONE]";
      if (isDone) continue;
      const { choices, usage: told, error } = JSON.parse(data);
      if (error) throw new Error(error.message);
      const more = choices[0]?.delta.content ?? "";
      if (more !== "") firstMs ??= performance.now() - started;
      text += more;
      usage = told ?? usage;
    }
    if (leaves && firstMs !== null) {
      leaving.abort();
      return null;
    }
  }
  if (!isDone || !usage) throw new Error("the stream ended early");
  return { ms: performance.now() - started, firstMs, text, usage };
}

/** `chat`, which may be cancelled. */
async function chatOrLeave(url, messages, leaves) {
  try {
    return await chat(url, messages, leaves);
  } catch (error) {
    if (leaves && error.name === "AbortError") return null;
    throw error;
  }
}

async function client(number, url, until, results) {
  const next = random(number);
  while (performance.now() < until) {
    const at = Math.floor(next() * (paragraphs.length - 3));
    const messages = [{ role: "system", content: paragraphs.slice(at, at + 2).join("\n") }];
    for (let turn = 0; turn < TURNS && performance.now() < until; turn++) {
      messages.push({
        role: "user",
        content: `What is the locker number of ${paragraphs[at].slice(0, 20)}?`,
      });
      try {
        const answer = await chatOrLeave(url, messages, next() < LEFT);
        if (answer === null) {
          results.left++;
          break;
        }
        results.rows.push({ client: number, ...answer });
        messages.push({ role: "assistant", content: answer.text });
      } catch (error) {
        results.errors.push(String(error));
        break;
      }
    }
  }
}

const percentile = (list, part) =>
  Math.round([...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(part * list.length))] ?? 0);

const { child, url } = await startServer();
const results = { rows: [], errors: [], left: 0 };
const memories = [];
try {
  const until = performance.now() + seconds * 1000;
  const watch = (async () => {
    while (performance.now() < until) {
      memories.push(memory(child.pid));
      await sleep(2000);
    }
  })();
  await Promise.all(Array.from({ length: clients }, (_, i) => client(i + 1, url, until, results)));
  await watch;
  await sleep(500);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const left = /nibble_(requests_running|requests_waiting|cache_tokens_used) [1-9].*/.exec(metrics);
  if (left) results.errors.push(`still there at the end: ${left[0]}`);
} finally {
  child.kill("SIGTERM");
}

const { rows } = results;
const byClient = Array.from({ length: clients }, (_, i) => rows.filter((row) => row.client === i + 1));
const medians = byClient.map((of) =>
  percentile(
    of.map(({ ms }) => ms),
    0.5,
  ),
);
const sum = (of) => rows.reduce((total, row) => total + of(row), 0);
const report = {
  model: values.model,
  clients,
  seconds,
  options: positionals.join(" "),
  answers: rows.length,
  errors: results.errors.length,
  left: results.left,
  firstMs: [0.5, 0.95, 0.99].map((part) =>
    percentile(
      rows.map(({ firstMs, ms }) => firstMs ?? ms),
      part,
    ),
  ),
  ms: [0.5, 0.95, 0.99].map((part) =>
    percentile(
      rows.map(({ ms }) => ms),
      part,
    ),
  ),
  clientMedianMs: { least: Math.min(...medians), most: Math.max(...medians) },
  answersByClient: {
    least: Math.min(...byClient.map((of) => of.length)),
    most: Math.max(...byClient.map((of) => of.length)),
  },
  promptTokens: sum(({ usage }) => usage.prompt_tokens),
  reusedTokens: sum(({ usage }) => usage.prompt_tokens_details.cached_tokens),
  generatedTokens: sum(({ usage }) => usage.completion_tokens),
  memoryMiB: memories.filter(
    (_, i) => i % Math.ceil(memories.length / 10) === 0 || i === memories.length - 1,
  ),
  cpu: cpus()[0].model,
  node: process.version,
  date: new Date().toISOString().slice(0, 10),
  command: [
    `node bench/serve.js --model ${values.model} --clients ${clients} --seconds ${seconds}`,
    ...(positionals.length > 0 ? ["--", ...positionals] : []),
  ].join(" "),
};
for (const error of new Set(results.errors)) console.error(error);
console.log(values.json ? JSON.stringify(report) : report);
process.exitCode = results.errors.length > 0 ? 1 : 0;
