/**
 * The server's memory under a mixed load: questions about documents that clients share, cancelled answers, schemas that
 * were never seen before, long prompts, wrong requests, abandoned connections. Each minute the server collects its
 * garbage and reports what is left; in the second half that should not grow. Exits with 1 if a request failed, or if one
 * still runs, waits or holds pages at the end.
 *
 *     node bench/soak.js [--model needle] [--clients 8] [--parallel 4] [--minutes 10] [--json]
 *                        [-- options of nibble serve]
 */
import { spawn } from "node:child_process";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: "string", default: "needle" },
    clients: { type: "string", default: "8" },
    parallel: { type: "string", default: "4" },
    minutes: { type: "string", default: "10" },
    json: { type: "boolean", default: false },
  },
});
const minutes = Number(values.minutes);

/** Loaded into the server before it starts: at SIGUSR2 it reports what is left after a collection. */
const REPORTER = `data:text/javascript,${encodeURIComponent(`
process.on("SIGUSR2", () => {
  globalThis.gc();
  setTimeout(() => {
    globalThis.gc();
    process.stderr.write("memory " + JSON.stringify(process.memoryUsage()) + "\\n");
  }, 200);
});`)}`;

const args = [
  "serve",
  values.model,
  "--port",
  "0",
  "--context",
  "4096",
  "--parallel",
  values.parallel,
  ...positionals,
];
const child = spawn(
  process.execPath,
  ["--expose-gc", "--import", REPORTER, join(root, "dist/cli/nibble.js"), ...args],
  { stdio: ["ignore", "pipe", "pipe"] },
);
let out = "";
let told = "";
child.stdout.on("data", (data) => {
  out += data;
});
child.stderr.on("data", (data) => {
  told += data;
});
while (!out.includes("\n") && child.exitCode === null) await sleep(50);
const url = /http:\/\/[^ ]+/.exec(out)?.[0];
if (!url) throw new Error(`the server did not start: ${told}`);

let count = 0;
const counts = {};
/** Throws for another status than the expected one. */
async function ask(path, body, { signal, status = 200 } = {}) {
  const response = await fetch(`${url}/v1/${path}`, { method: "POST", body: JSON.stringify(body), signal });
  if (response.status !== status) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response;
}
/** Some 1,200 tokens, of which only the first sentence and the numbers differ among documents. */
const document = (name) =>
  `Log of the ship ${name}. ${Array.from({ length: 60 }, (_, i) => `On day ${i + 1} it carried ${(i * 37 + name * 11) % 90} casks of oil to port ${(i * 7 + name) % 30}.`).join(" ")}`;
const DOCUMENTS = Array.from({ length: 4 }, (_, name) => document(name));
const messages = () => [{ role: "user", content: `What is number ${count}?` }];
const schema = (name) => ({
  type: "json_schema",
  json_schema: {
    name: "a",
    schema: {
      type: "object",
      properties: { [name]: { type: "string" }, n: { type: "integer" } },
      required: [name],
    },
  },
});

const KINDS = {
  document: async () => {
    const content = `${DOCUMENTS[count % DOCUMENTS.length]}\nWhat did it carry on day ${1 + (count % 60)}?`;
    const body = { messages: [{ role: "user", content }], max_tokens: 16, stream: count % 2 === 0 };
    return (await ask("chat/completions", body)).text();
  },
  plain: async () => (await ask("completions", { prompt: `The ship ${count}`, max_tokens: 8 })).text(),
  chat: async () =>
    (await ask("chat/completions", { messages: messages(), max_tokens: 8, stream: true })).text(),
  left: async () => {
    const leaving = new AbortController();
    setTimeout(() => leaving.abort(), 5 + (count % 100));
    const body = { prompt: `The ship ${count}`, ignore_eos: true, stream: count % 2 === 0 };
    await (await ask("completions", body, leaving)).text();
  },
  schema: async () => {
    const body = { messages: messages(), max_tokens: 8, response_format: schema(`name${count}`) };
    return (await ask("chat/completions", body)).text();
  },
  leftSchema: async () => {
    const leaving = new AbortController();
    setTimeout(() => leaving.abort(), count % 50);
    const body = { messages: messages(), response_format: schema(`name${count}`), stream: true };
    await (await ask("chat/completions", body, leaving)).text();
  },
  long: async () =>
    (
      await ask("completions", { prompt: `${count} ${"The ship sailed on. ".repeat(120)}`, max_tokens: 2 })
    ).text(),
  wrong: async () => (await ask("completions", { prompt: { count } }, { status: 400 })).text(),
  dropped: () =>
    new Promise((resolve) => {
      const socket = connect(Number(new URL(url).port), "127.0.0.1", () => {
        socket.write("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{");
        setTimeout(() => socket.destroy(), 20);
      });
      socket.on("close", resolve);
    }),
};
const ORDER = [
  "document",
  "left",
  "schema",
  "document",
  "chat",
  "document",
  "left",
  "leftSchema",
  "plain",
  "wrong",
  "dropped",
  "left",
  "schema",
  "long",
];

const started = performance.now();
const isOver = () => performance.now() - started > minutes * 60_000;
async function client() {
  while (!isOver()) {
    const kind = ORDER[count++ % ORDER.length];
    counts[kind] = (counts[kind] ?? 0) + 1;
    try {
      await KINDS[kind]();
    } catch (error) {
      if (error.name === "AbortError") continue;
      counts.failed = (counts.failed ?? 0) + 1;
      if (counts.failed <= 5) console.error(`${kind}: ${error.message}`);
    }
  }
}

async function memory() {
  told = "";
  child.kill("SIGUSR2");
  for (let i = 0; i < 300 && !told.includes("memory "); i++) await sleep(100);
  return JSON.parse(/memory (\{.*\})/.exec(told)?.[1] ?? "{}");
}

const mib = (bytes) => (bytes / 2 ** 20).toFixed(1).padStart(8);
const rows = [];
async function watch() {
  if (!values.json) console.log("minute requests      rss     heap external   arrays MiB");
  for (let minute = 0; ; minute++) {
    const { rss, heapUsed, external, arrayBuffers } = await memory();
    rows.push({ minute, requests: count, rss, heapUsed, external, arrayBuffers });
    const cells = [rss, heapUsed, external, arrayBuffers].map(mib).join(" ");
    if (!values.json) console.log(`${String(minute).padStart(6)} ${String(count).padStart(8)} ${cells}`);
    if (isOver()) return;
    await sleep(Math.max(0, started + (minute + 1) * 60_000 - performance.now()));
  }
}

try {
  await Promise.all([watch(), ...Array.from({ length: Number(values.clients) }, client)]);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const value = (name) => Number(new RegExp(`^nibble_${name} (\\d+)`, "m").exec(metrics)?.[1]);
  const [running, waiting] = [value("requests_running"), value("requests_waiting")];
  // Pages that are neither free nor kept for later texts: none.
  const summary = { counts, running, waiting, cacheTokensUsed: value("cache_tokens_used") };
  if (counts.failed || running || waiting || summary.cacheTokensUsed) process.exitCode = 1;
  console.log(values.json ? JSON.stringify({ rows, ...summary }) : JSON.stringify(summary));
} finally {
  child.kill("SIGKILL");
}
