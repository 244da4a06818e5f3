/** Requests that once ended the server, or took gigabytes (attack 1): each is answered, soon, and costs little memory. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { scriptedModel } from "./scripted-model.ts";
import { type Serving, serving } from "./served.ts";

let server: Serving;
beforeAll(async () => {
  server = serving(await scriptedModel(), { defaults: { maxTokens: 4 } });
});
afterAll(() => server.served.grammars.close());

const range = { type: "number", minimum: -1e15, maximum: 1e15 };
const many = (count: number, of: (i: number) => unknown) => Array.from({ length: count }, (_, i) => of(i));
const named = (length: number, more = {}) => ({
  type: "object",
  properties: { ["x".repeat(length)]: {} },
  ...more,
});

const OK = /^$/;
const SCHEMAS: [what: string, schema: unknown, error: RegExp][] = [
  ["a range of 198 bytes", range, OK],
  ["a thousand of the same", { anyOf: many(1000, () => range) }, OK],
  ["a thousand of two types", { anyOf: many(1000, () => ({ ...range, type: ["number", "integer"] })) }, OK],
  [
    "a thousand that differ",
    { anyOf: many(1000, (i) => ({ type: "number", minimum: -1e15 - 7.5 * i, maximum: 1e15 + 13.5 * i })) },
    /of \d+ states or more; allowed: up to 20000/,
  ],
  ["any text 110 times", { type: "string", pattern: `^${".{0,1000}".repeat(110)}$` }, OK],
  [
    "a thousand patterns",
    { anyOf: many(1000, (i) => ({ type: "string", pattern: `^${i}.*a$` })) },
    /of 401 states for most of the vocabulary or more; allowed: up to 400/,
  ],
  [
    "2,000 names",
    { type: "object", properties: Object.fromEntries(many(2000, (i) => [`name${i}`, true]) as []) },
    /one schema too many; allowed: up to 2000/,
  ],
  ["10,000 numbers", { type: "array", items: range, minItems: 9000, maxItems: 10_000 }, OK],
  ["129 characters", { type: "string", minLength: 129 }, OK],
  ["1,000 characters", { type: "string", maxLength: 1000 }, OK],
  ["a million characters", { type: "string", minLength: 1, maxLength: 1_000_000 }, OK],
  ["a name of 1,500", named(1500, { additionalProperties: true }), OK],
  ["a name of 5,000", named(5000, { additionalProperties: true }), OK],
  ["a name of 50,000", named(50_000, { additionalProperties: true }), OK],
  ["a name of 120,000", named(120_000), /is 120\d+ characters long; allowed: up to 100000/],
];

it.each(SCHEMAS)("%s", async (_what, schema, error) => {
  const before = process.memoryUsage.rss();
  const body = {
    messages: [{ role: "user", content: "hi" }],
    response_format: { type: "json_schema", json_schema: { name: "a", schema } },
  };
  const started = performance.now();
  for (let i = 0; i < 2; i++) {
    const answer = await server.post("/v1/chat/completions", body);
    const { error: found } = await answer.json();
    expect(found?.message ?? "").toMatch(error);
    expect(answer.status).toBe(found ? 400 : 200);
  }
  // A range alone took ten seconds, and a thousand the heap; this leaves room for a busy machine.
  expect(performance.now() - started).toBeLessThan(20_000);
  expect(server.faults).toEqual([]);
  expect((process.memoryUsage.rss() - before) / 2 ** 20).toBeLessThan(150);
});

it("a prompt that does not fit is told before a grammar is made", async () => {
  const response_format = { type: "json_schema", json_schema: { name: "a", schema: { type: "nothing" } } };
  const ask = async (content: string) => {
    const answer = await server.post("/v1/chat/completions", {
      messages: [{ role: "user", content }],
      response_format,
    });
    return (await answer.json()).error;
  };
  expect((await ask("word ".repeat(1000))).code).toBe("context_length_exceeded");
  expect((await ask("word")).message).toMatch(/type is "nothing"/);
});

it("requests whose grammar is in the making count among those that wait", async () => {
  const few = serving(server.served.model, { mostWaiting: 0, defaults: { maxTokens: 2 } });
  const body = { messages: [{ role: "user", content: "hi" }], response_format: { type: "json_object" } };
  const [first, second] = await Promise.all(
    many(2, () => few.post("/v1/chat/completions", body)) as Promise<Response>[],
  );
  expect([first.status, second.status]).toEqual([200, 503]);
  expect(second.headers.get("retry-after")).toBe("1");
  few.served.grammars.close();
});
