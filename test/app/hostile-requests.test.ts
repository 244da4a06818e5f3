/**
 * Thousands of malformed and hostile requests against the API: none crashes it, hangs it or is taken for its own fault,
 * and each answer is JSON in OpenAI's form. The tokenizer, the template and the generation loop are real; the model
 * says the same few words again and again.
 */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { scriptedModel } from "./scripted-model.ts";
import { MESSAGES, type Serving, serving } from "./served.ts";

let server: Serving;
beforeAll(async () => {
  server = serving(await scriptedModel(), { defaults: { maxTokens: 4 }, mostBodyBytes: 50_000, apiKey: "k" });
});
afterAll(() => server.served.grammars.close());

const CHAT = "/v1/chat/completions";
const COMPLETE = "/v1/completions";
const key = { authorization: "Bearer k" };

/** Asks, and holds the answer to what every answer is. */
async function ask(request: Request): Promise<number> {
  const response = await server.api(request);
  const { status } = response;
  const text = await response.text();
  expect(server.faults.splice(0), text).toEqual([]);
  expect([200, 204, 400, 401, 403, 404, 405, 413, 501], text).toContain(status);
  if (status >= 400 && request.method !== "HEAD") {
    expect(response.headers.get("content-type")).toContain("application/json");
    const { error } = JSON.parse(text);
    expect(error.message).toBeTypeOf("string");
    expect(error.message.length).toBeLessThan(700);
    expect(error.message).not.toMatch(/undefined|\[object|TypeError|RangeError/);
    expect(Object.keys(error).sort()).toEqual(["code", "message", "param", "type"]);
  } else if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
    const events = text.split("\n\n");
    expect(events.slice(-2)).toEqual(["data: [DONE]", ""]);
    for (const event of events.slice(0, -2)) JSON.parse(event.slice("data: ".length));
  } else if (status === 200 && request.method === "POST") expect(JSON.parse(text).choices).toHaveLength(1);
  return status;
}

const post = (path: string, body: BodyInit, headers: Record<string, string> = key) =>
  ask(new Request(`http://localhost${path}`, { method: "POST", body, headers }));
const path = fc.constantFrom(CHAT, COMPLETE);

const odd = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    false,
    0,
    -0,
    -1,
    1.5,
    1e308,
    2 ** 32,
    2 ** 53,
    "",
    "x",
    "\ud800",
    "\0",
    [],
    {},
    [[]],
    [null],
  ),
  fc.jsonValue({ maxDepth: 3 }),
  fc.string({ unit: "binary", maxLength: 30 }),
  fc.string({ maxLength: 5 }).map((text) => text.repeat(2000)),
  fc.constant(JSON.parse('{"__proto__":{"n":1},"constructor":{"prototype":1},"toString":1}')),
);

const valid: Record<string, unknown> = {
  model: "needle",
  messages: MESSAGES,
  prompt: "The ship",
  stream: false,
  stream_options: null,
  temperature: 0.5,
  top_p: 0.9,
  top_k: 5,
  min_p: 0.1,
  repeat_penalty: 1.1,
  repeat_last_n: 10,
  seed: 7,
  stop: ["x"],
  max_tokens: 3,
  max_completion_tokens: null,
  logprobs: null,
  top_logprobs: null,
  n: 1,
  response_format: { type: "text" },
  tools: null,
  tool_choice: null,
  parallel_tool_calls: null,
  chat_template_kwargs: null,
  ignore_eos: false,
  logit_bias: {},
};

describe("hostile requests", () => {
  it("fields of any value", async () => {
    const seen = new Map<number, number>();
    const field = fc.tuple(fc.constantFrom(...Object.keys(valid), "unknown"), odd);
    await fc.assert(
      fc.asyncProperty(
        path,
        fc.array(field, { minLength: 1, maxLength: 3 }),
        fc.boolean(),
        async (path, fields, stream) => {
          const own = path === CHAT ? { prompt: null } : { messages: null, top_logprobs: null };
          const body = { ...valid, stream, ...own, ...Object.fromEntries(fields) };
          const status = await post(path, JSON.stringify(body));
          seen.set(status, (seen.get(status) ?? 0) + 1);
        },
      ),
      { numRuns: 1500 },
    );
    // Both kinds of answer are met.
    expect(seen.get(200)).toBeGreaterThan(40);
    expect(seen.get(400)).toBeGreaterThan(300);
  });

  it("messages of any form", async () => {
    const part = fc.record(
      { type: fc.constantFrom("text", "image_url", "x"), text: odd },
      { requiredKeys: [] },
    );
    const call = fc.record(
      { id: odd, type: odd, function: fc.record({ name: odd, arguments: odd }, { requiredKeys: [] }) },
      { requiredKeys: [] },
    );
    const message = fc.record(
      {
        role: fc.oneof(
          { weight: 5, arbitrary: fc.constantFrom("system", "developer", "user", "assistant", "tool") },
          { weight: 1, arbitrary: odd },
        ),
        content: fc.oneof(
          fc.string(),
          fc.constant("<|end|><|begin|>"),
          fc.array(part, { maxLength: 3 }),
          odd,
        ),
        tool_calls: fc.oneof(fc.array(call, { maxLength: 2 }), odd),
        tool_call_id: odd,
        name: odd,
        reasoning_content: odd,
      },
      { requiredKeys: ["role", "content"] },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(message, { maxLength: 4 }), async (messages) => {
        await post(CHAT, JSON.stringify({ messages }));
      }),
      { numRuns: 1500 },
    );
  });

  it("schemas and tools of any form", async () => {
    const keywords = [
      "type",
      "properties",
      "items",
      "enum",
      "const",
      "anyOf",
      "$ref",
      "$defs",
      "minimum",
      "maximum",
      "required",
      "minLength",
      "maxItems",
      "additionalProperties",
      "format",
      "pattern",
      "not",
    ];
    const { schema } = fc.letrec<{ schema: unknown }>((tie) => ({
      schema: fc.oneof(
        { maxDepth: 4, depthSize: "small" },
        odd,
        fc.constantFrom("string", "object", "#", "#/$defs/a"),
        fc.dictionary(
          fc.constantFrom(...keywords, "a"),
          fc.oneof(tie("schema"), fc.array(tie("schema"), { maxLength: 2 })),
          { maxKeys: 3 },
        ),
      ),
    }));
    await fc.assert(
      fc.asyncProperty(schema, fc.boolean(), async (schema, isTool) => {
        const body = isTool
          ? { messages: MESSAGES, tools: [{ type: "function", function: { name: "f", parameters: schema } }] }
          : {
              messages: MESSAGES,
              response_format: { type: "json_schema", json_schema: { name: "a", schema } },
            };
        await post(CHAT, JSON.stringify(body));
      }),
      { numRuns: 500 },
    );
  }, 120_000);

  it("bodies that are no JSON", async () => {
    const text = JSON.stringify(valid);
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.string({ unit: "binary", maxLength: 100 }),
      fc.nat(text.length).map((at) => text.slice(0, at)),
      fc
        .tuple(fc.nat(text.length), fc.string({ maxLength: 3 }))
        .map(([at, more]) => text.slice(0, at) + more + text.slice(at + 1)),
      fc.constantFrom(
        "",
        "null",
        "[]",
        '"x"',
        "1",
        "\ufeff{}",
        '{"a":1}{"b":2}',
        `${"[".repeat(40_000)}`,
        `{"a":${"[".repeat(100)}${"]".repeat(100)}}`,
        " ".repeat(60_000),
      ),
    );
    await fc.assert(
      fc.asyncProperty(path, body, async (path, body) => {
        await post(path, body as BodyInit);
      }),
      { numRuns: 1500 },
    );
  });

  it("any method, path and header", async () => {
    const name = fc.constantFrom(
      "authorization",
      "origin",
      "content-type",
      "content-length",
      "access-control-request-method",
      "if-none-match",
      "range",
      "x-stainless-lang",
    );
    const value = fc.oneof(
      fc.constantFrom(
        "Bearer k",
        "Bearer",
        "Basic k",
        "null",
        "*",
        "https://evil.example",
        "http://localhost",
        "99999999",
        "bytes=0-",
      ),
      fc.stringMatching(/^[\x20-\x7e]{0,20}$/),
    );
    const at = fc.oneof(
      fc.constantFrom(
        "/",
        "/health",
        "/metrics",
        "/v1/models",
        "/v1/models/needle",
        "/v1/models/a/b",
        "/v1/embeddings",
        "/api/chat",
        "/api/show",
        "/tokenize",
        CHAT,
        COMPLETE,
      ),
      fc.webPath({ size: "small" }),
      fc.constantFrom(
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2fserver",
        "/%00",
        "/%",
        "//evil.example/",
        "/v1/models/%ff",
        "/models/../serve.js",
      ),
    );
    const method = fc.constantFrom("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "QUERY");
    await fc.assert(
      fc.asyncProperty(
        method,
        at,
        fc.dictionary(name, value, { maxKeys: 3 }),
        async (method, at, headers) => {
          let request: Request;
          try {
            request = new Request(`http://localhost${at}`, { method, headers });
          } catch {
            return;
          }
          await ask(request);
        },
      ),
      { numRuns: 1500 },
    );
  });

  it("with the key every path is reached", async () => {
    const statuses = ["/health", "/metrics", "/v1/models", "/v1/models/needle"].map((path) =>
      ask(new Request(`http://localhost${path}`, { headers: key })),
    );
    expect(await Promise.all(statuses)).toEqual([200, 200, 200, 200]);
  });

  it("and then it answers as ever", async () => {
    expect(await post(CHAT, JSON.stringify({ messages: MESSAGES }))).toBe(200);
    expect(Object.keys({})).toEqual([]);
  });
});
