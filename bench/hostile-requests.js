/**
 * Hostile requests against `nibble serve needle`: fields of any value, odd messages, tools and schemas, broken JSON,
 * odd headers, methods and paths. Counts the answers by status, and prints each wrong answer: a status of 500 or above
 * (501 for embeddings is right), an error that is not in OpenAI's form, a message with "undefined" in it, no answer.
 * The same seed gives the same requests. Exits with 1 if there was a wrong answer.
 *
 *     node bench/hostile-requests.js SEED COUNT [-- options of nibble serve]
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as known from "../dist/app/api/known-fields.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const [seedText = "1", countText = "1000", ...options] = process.argv.slice(2).filter((arg) => arg !== "--");
const AT_ONCE = 4;
const LATE_MS = 30_000;

/** A pseudo-random number in [0, 1) (mulberry32). */
let state = Number(seedText);
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}
const below = (count) => Math.floor(random() * count);
const pick = (list) => list[below(list.length)];
const times = (most, make) => Array.from({ length: below(most + 1) }, make);
const entries = (most, name, value) => Object.fromEntries(times(most, () => [name(), value()]));

const CHAT = "/v1/chat/completions";
const COMPLETE = "/v1/completions";
const MESSAGES = [
  { role: "system", content: "The access code of Clara Whitfield is 48213." },
  { role: "user", content: "What is the access code of Clara Whitfield?" },
];
const names = (...tables) => tables.flatMap((table) => [...table.keys()]);
const TOP = [...names(known.CHAT, known.COMPLETIONS), "mood", "constructor", "__proto__", "toString", ""];
const INNER = names(
  ...[known.STREAM_OPTIONS, known.RESPONSE_FORMAT, known.JSON_SCHEMA, known.STRUCTURED_OUTPUTS],
  ...[...Object.values(known.MESSAGES), known.PART, known.CALL, known.CALL_FUNCTION, known.TOOL],
  known.TOOL_FUNCTION,
);
const KEYWORDS = [
  ...[
    "type",
    "properties",
    "items",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "$defs",
    "minimum",
    "maximum",
  ],
  ...["required", "minLength", "maxItems", "additionalProperties", "format", "pattern", "not", "prefixItems"],
];
const TEXTS = [
  ...[
    "",
    "x",
    "auto",
    "none",
    "required",
    "text",
    "json_object",
    "json_schema",
    "function",
    "assistant",
    "user",
  ],
  ...[
    "system",
    "tool",
    "{}",
    "[]",
    "\u0000",
    "\ud800",
    "\u202e",
    "<|im_end|>",
    "\ufdd0",
    "constructor",
    "NaN",
  ],
  ...[
    "#",
    "#/$defs/a",
    "object",
    "string",
    "integer",
    "a".repeat(3000),
    "\u001b]52;c;x\u0007",
    "{{ 1 }}",
    "(a+)+$",
  ],
];
const NUMBERS = [0, -0, -1, 1, 2, 0.5, 1e-320, 1e308, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 64, -(2 ** 63), -1e308];

function value(depth = 3) {
  const kind = below(depth > 0 ? 8 : 5);
  if (kind === 0) return null;
  if (kind === 1) return random() < 0.5;
  if (kind === 2) return pick(NUMBERS);
  if (kind < 5) return pick(TEXTS);
  if (kind === 5) return times(3, () => value(depth - 1));
  const name = () => (random() < 0.7 ? pick(INNER) : pick(TEXTS));
  return entries(3, name, () => value(depth - 1));
}

function schema(depth = 3) {
  if (depth === 0 || random() < 0.2) return value(1);
  const inside = () => (random() < 0.5 ? schema(depth - 1) : random() < 0.5 ? pick(TEXTS) : pick(NUMBERS));
  const found = entries(
    3,
    () => pick(KEYWORDS),
    () => (random() < 0.3 ? times(3, inside) : inside()),
  );
  return random() < 0.5 ? { type: pick(["object", "string", "array", "integer"]), ...found } : found;
}

const message = () => ({
  role: random() < 0.8 ? pick(["system", "developer", "user", "assistant", "tool"]) : value(1),
  content: random() < 0.6 ? pick(TEXTS) : value(2),
  ...(random() < 0.3
    ? { tool_calls: times(2, () => ({ function: { name: value(0), arguments: value(1) } })) }
    : {}),
  ...entries(
    1,
    () => pick(INNER),
    () => value(2),
  ),
});
const tool = () => ({
  type: random() < 0.8 ? "function" : value(0),
  function: {
    name: random() < 0.8 ? pick(["f", "g", "h"]) : value(0),
    parameters: schema(),
    strict: value(0),
  },
});
const chat = (more) => ({ messages: MESSAGES, max_tokens: 2, ...more });

const usual = (more) =>
  random() < 0.5
    ? { path: CHAT, body: chat(more) }
    : { path: COMPLETE, body: { prompt: "The ship", max_tokens: 2, ...more } };

/** Each returns path and body, and possibly method and headers. */
const KINDS = {
  fields: () => {
    const field = () => pick(TOP);
    return usual(entries(3, field, value));
  },
  messages: () => ({ path: CHAT, body: chat({ messages: times(4, message) }) }),
  tools: () => ({
    path: CHAT,
    body: chat({
      tools: times(3, tool),
      tool_choice: random() < 0.4 ? "none" : value(2),
      parallel_tool_calls: value(0),
    }),
  }),
  schemas: () => {
    const asked = schema();
    const more = pick([
      { response_format: { type: "json_schema", json_schema: { name: "n", schema: asked } } },
      { response_format: { type: "json_object", schema: asked } },
      { json_schema: asked },
      { guided_json: asked },
      {
        structured_outputs: {
          json: asked,
          ...entries(
            1,
            () => pick(INNER),
            () => value(1),
          ),
        },
      },
      { guided_choice: times(3, () => pick(TEXTS)) },
    ]);
    return usual(more);
  },
  broken: () => {
    const text = Buffer.from(JSON.stringify(chat({ stop: ["x"] })));
    const at = below(text.length);
    const bytes = Buffer.from(times(3, () => below(256)));
    return {
      path: pick([CHAT, COMPLETE, "/tokenize"]),
      raw: Buffer.concat([text.subarray(0, at), bytes, text.subarray(at + below(3))]),
    };
  },
  headers: () => {
    const header = pick([
      ["origin", pick(["null", "app://x", "https://evil.example", "http://localhost", "x", "http://[", "*"])],
      [
        "host",
        pick([
          "localhost",
          "evil.example",
          "[::1]",
          "[::ffff:127.0.0.1]",
          "a b",
          "",
          "localhost:99999",
          "%00",
        ]),
      ],
      ["authorization", pick(["Bearer", "Bearer x", "Basic \u00ff", "", "bearer  "])],
      ["content-type", pick(["text/plain", "application/json; charset=utf-16", "multipart/form-data", ""])],
      ["expect", "100-continue"],
      ["range", "bytes=0-"],
      ["x", "y".repeat(below(20_000))],
    ]);
    return { path: CHAT, body: chat({}), headers: { [header[0]]: header[1] } };
  },
  paths: () => ({
    method: pick(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    path: pick([
      ...[
        "/",
        "/health",
        "/metrics",
        "/models",
        "/v1/models",
        "/v1/models/a/b",
        "/v1/models/%ff",
        "/v1/embeddings",
      ],
      ...[
        "/tokenize",
        "/completions",
        "/chat/completions",
        "/../../etc/passwd",
        "/%2e%2e/x",
        "//evil.example/",
        "/%",
      ],
      ...[
        "/models/../serve.js",
        "/models/needle-14m.json",
        "/%00",
        `/${"a".repeat(below(9000))}`,
        CHAT,
        COMPLETE,
      ],
    ]),
    body: value(),
  }),
};

async function startServer() {
  const args = [
    "serve",
    "needle",
    "--port",
    "0",
    "--context",
    "512",
    "--device",
    "cpu",
    "--threads",
    "1",
    ...options,
  ];
  const child = spawn(process.execPath, [join(root, "dist/cli/nibble.js"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let notes = "";
  child.stderr.on("data", (data) => {
    notes += data;
  });
  let out = "";
  for await (const data of child.stdout) {
    out += data;
    if (out.includes("\n")) break;
  }
  const port = Number(/http:\/\/[^ ]+:(\d+)/.exec(out)?.[1]);
  if (!port) throw new Error(`the server did not start: ${notes}`);
  return { child, port, notes: () => notes };
}

function ask(port, { method = "POST", path, body, raw, headers }) {
  const bytes = raw ?? Buffer.from(JSON.stringify(body));
  const hasBody = method !== "GET" && method !== "HEAD";
  return new Promise((resolve) => {
    const failed = (error) => resolve({ status: "none", text: `${error.code ?? ""} ${error.message}` });
    try {
      const length = hasBody ? { "content-length": bytes.length } : {};
      const asked = request(
        { port, host: "127.0.0.1", method, path, headers: { ...length, ...headers } },
        (answer) => {
          let text = "";
          answer.setEncoding("utf8");
          answer.on("data", (data) => {
            text += data;
          });
          answer.on("end", () =>
            resolve({ status: answer.statusCode, text, type: answer.headers["content-type"] ?? "" }),
          );
          answer.on("error", failed);
        },
      );
      asked.setTimeout(LATE_MS, () => asked.destroy(new Error("no answer in time")));
      asked.on("error", failed);
      asked.end(hasBody ? bytes : undefined);
    } catch (error) {
      // Node's own client does not send such a header.
      resolve({ status: "not sent", text: error.message });
    }
  });
}

/** What is wrong with an answer; null: nothing. */
function fault({ status, text, type }, { method }) {
  if (status === "not sent" || (status < 400 && !/^text\/event-stream/.test(type))) return null;
  if (status < 400) return text.endsWith("data: [DONE]\n\n") ? null : "the stream has no end";
  if (status === "none") return "no answer";
  if (status >= 500 && status !== 501) return "a fault of the server";
  if (method === "HEAD") return null;
  try {
    const { message, ...rest } = JSON.parse(text).error;
    if (Object.keys(rest).sort().join() !== "code,param,type") return "another form of error";
    if (/undefined|\[object|TypeError|RangeError/.test(message)) return "an odd message";
    return message.length < 1000 ? null : "a long message";
  } catch {
    return "an error that is no JSON";
  }
}

const memory = (pid) => {
  try {
    return Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024);
  } catch {
    return null;
  }
};

const server = await startServer();
const counts = new Map();
const faults = [];
const before = memory(server.child.pid);
let left = Number(countText);
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (left-- > 0 && server.child.exitCode === null) {
      const kind = pick(Object.keys(KINDS));
      const asked = KINDS[kind]();
      const answer = await ask(server.port, asked);
      const key = `${kind} ${answer.status}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
      const wrong = fault(answer, asked);
      if (wrong === null) continue;
      faults.push(wrong);
      console.log(
        `${wrong}: ${answer.status} ${answer.text.slice(0, 300)}\n  ${JSON.stringify(asked).slice(0, 1500)}`,
      );
    }
  }),
);
for (const kind of Object.keys(KINDS)) {
  const found = [...counts].filter(([key]) => key.startsWith(`${kind} `)).sort();
  console.log(
    `${kind.padEnd(9)} ${found.map(([key, count]) => `${key.slice(kind.length + 1)}: ${count}`).join(", ")}`,
  );
}
const { status } = await ask(server.port, { path: CHAT, body: chat({}) });
const lines = server
  .notes()
  .split("\n")
  .filter((line) => line !== "");
const unknown = lines.filter((line) => /unknown fields|is not known here/.test(line));
console.log(
  `${faults.length} faults; then a usual chat: ${status}; MiB of the process: ${before} -> ${memory(server.child.pid)}`,
);
console.log(`stderr: ${unknown.length} lines about unknown fields, ${lines.length - unknown.length} others`);
for (const line of lines.filter((line) => !unknown.includes(line)).slice(0, 20))
  console.log(`  ${line.slice(0, 300)}`);
server.child.kill("SIGKILL");
process.exitCode = faults.length === 0 && status === 200 ? 0 : 1;
