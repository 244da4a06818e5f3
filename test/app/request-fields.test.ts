/**
 * Every field that a table of the API knows is what the table says: kept ones are read, harmless ones pass, refused ones
 * are named in a 400 unless they ask for nothing; others are told once, or refused with --strict. Then fields of any
 * value: no 500, no "undefined", and each 400 names the field.
 */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type FieldTable, unknownFields } from "../../src/app/api/field-rules.ts";
import * as known from "../../src/app/api/known-fields.ts";
import { scriptedModel } from "./scripted-model.ts";
import { MESSAGES, type Serving, serving } from "./served.ts";

const unknown: string[] = [];
let server: Serving;
beforeAll(async () => {
  const unknownField = (place: string) => void unknown.push(place);
  server = serving(await scriptedModel(), { defaults: { maxTokens: 2 }, unknownField });
});
afterAll(() => server.served.grammars.close());

const CHAT = "/v1/chat/completions";
const COMPLETE = "/v1/completions";

interface Answered {
  status: number;
  param: string | null;
  code: string | null;
  message: string;
  /** Places of fields that were not known. */
  unknown: readonly string[];
}

async function ask(path: string, body: object): Promise<Answered> {
  const response = await server.post(path, body);
  const text = await response.text();
  expect(server.faults.splice(0), text).toEqual([]);
  const error = response.status === 200 ? {} : JSON.parse(text).error;
  const { param = null, code = null, message = "" } = error;
  return { status: response.status, param, code, message, unknown: unknown.splice(0) };
}

/** Objects of requests: their table, where they lie, and a request with these fields more in them. */
interface Kind {
  path: string;
  place: string;
  fields: FieldTable;
  body: (more: object) => object;
}

const chat = (more: object) => ({ messages: MESSAGES, ...more });
const message = (role: string, given: object) => (more: object) =>
  chat({ messages: [...MESSAGES, { role: "assistant", content: "It is." }, { role, ...given, ...more }] });
const answer = (more: object) =>
  chat({ messages: [MESSAGES[1], { role: "assistant", content: "It is.", ...more }, MESSAGES[1]] });
const call = { id: "c", type: "function", function: { name: "f", arguments: "{}" } };
const tool = { type: "function", function: { name: "f" } };
const schema = { type: "boolean" };
const format = { type: "json_schema", json_schema: { name: "n", schema } };
/** The template has no tools, so they are read and then left out. */
const tooled = (more: object) => chat({ tools: [tool], tool_choice: "none", ...more });

const KINDS: readonly Kind[] = [
  { path: CHAT, place: "", fields: known.CHAT, body: chat },
  { path: COMPLETE, place: "", fields: known.COMPLETIONS, body: (more) => ({ prompt: "The ship", ...more }) },
  { path: "/tokenize", place: "", fields: known.TOKENIZE, body: (more) => ({ content: "a", ...more }) },
  {
    ...{ path: CHAT, place: "stream_options", fields: known.STREAM_OPTIONS },
    body: (more) => chat({ stream: true, stream_options: more }),
  },
  {
    ...{ path: COMPLETE, place: "response_format", fields: known.RESPONSE_FORMAT },
    body: (more) => ({ prompt: "a", response_format: { ...format, ...more } }),
  },
  {
    ...{ path: CHAT, place: "response_format.json_schema", fields: known.JSON_SCHEMA },
    body: (more) => chat({ response_format: { ...format, json_schema: { name: "n", schema, ...more } } }),
  },
  {
    ...{ path: CHAT, place: "structured_outputs", fields: known.STRUCTURED_OUTPUTS },
    body: (more) => chat({ structured_outputs: more }),
  },
  { path: CHAT, place: "messages[3]", fields: known.MESSAGES.other, body: message("user", { content: "a" }) },
  { path: CHAT, place: "messages[3]", fields: known.MESSAGES.tool, body: message("tool", { content: "a" }) },
  { path: CHAT, place: "messages[1]", fields: known.MESSAGES.assistant, body: answer },
  {
    ...{ path: CHAT, place: "messages[3].content[0]", fields: known.PART },
    body: (more) => message("user", { content: [{ type: "text", text: "a", ...more }] })({}),
  },
  {
    ...{ path: CHAT, place: "messages[1].tool_calls[0]", fields: known.CALL },
    body: (more) => answer({ tool_calls: [{ ...call, ...more }] }),
  },
  {
    ...{ path: CHAT, place: "messages[1].tool_calls[0].function", fields: known.CALL_FUNCTION },
    body: (more) => answer({ tool_calls: [{ ...call, function: { ...call.function, ...more } }] }),
  },
  {
    ...{ path: CHAT, place: "tools[0]", fields: known.TOOL },
    body: (more) => tooled({ tools: [{ ...tool, ...more }] }),
  },
  {
    ...{ path: CHAT, place: "tools[0].function", fields: known.TOOL_FUNCTION },
    body: (more) => tooled({ tools: [{ ...tool, function: { ...tool.function, ...more } }] }),
  },
];

const SAMPLES = [0, -1, 1, 0.5, false, true, "", "x", [], ["x"], {}, { x: 1 }, { x: 0 }, ["text"]];

describe.each(KINDS)("fields of $place at $path", ({ path, place, fields, body }) => {
  const at = (name: string) => (place === "" ? name : `${place}.${name}`);
  const rules = [...fields].map(([name, rule]) => ({ name, rule, ...rule }));

  it("refused: named, with a way out; nothing asked for passes", async () => {
    for (const value of [null, ...SAMPLES]) {
      const neutral: string[] = [];
      for (const { name, rule } of rules) {
        if (rule.kind !== "refused") continue;
        if (value === null || rule.isNeutral(value)) {
          neutral.push(name);
          continue;
        }
        const { status, param, code, message } = await ask(path, body({ [name]: value }));
        expect([status, param, code]).toEqual([400, at(name), "unsupported_parameter"]);
        expect(message).toBe(`${at(name)} is not supported. ${rule.wayOut}`);
      }
      const { status, message } = await ask(
        path,
        body(Object.fromEntries(neutral.map((name) => [name, value]))),
      );
      expect([value, status, message]).toEqual([value, 200, ""]);
    }
  });

  it("harmless: pass, each with a reason", async () => {
    const found = rules.filter(({ kind }) => kind === "harmless");
    for (const value of [true, { x: [1] }, "x"])
      expect(await ask(path, body(Object.fromEntries(found.map(({ name }) => [name, value]))))).toMatchObject(
        {
          status: 200,
          unknown: [],
        },
      );
    for (const { rule } of found) expect(rule).toMatchObject({ why: expect.stringMatching(/^.{10,}/) });
  });

  it("kept: a reader looks at each", async () => {
    for (const { name, kind } of rules) {
      if (kind !== "kept") continue;
      const wrong = await Promise.all([{ x: 1 }, 7].map((value) => ask(path, body({ [name]: value }))));
      const named = wrong.filter(({ status, param }) => status >= 400 && param?.startsWith(at(name)));
      // One of the two is of a wrong type.
      expect([name, named.length > 0]).toEqual([name, true]);
    }
  });

  it("others: told, with their place", async () => {
    const { status, unknown } = await ask(path, body({ mood: "fine", constructor: 1, absent: null }));
    expect([status, unknown]).toEqual([200, [at("mood"), at("constructor")]]);
  });
});

it("fields of a tool_choice, too", async () => {
  const tool_choice = { type: "function", mood: 1, function: { name: "f", tone: 1 } };
  const { unknown } = await ask(CHAT, chat({ tools: [tool], tool_choice }));
  expect(unknown).toEqual(["tool_choice.mood", "tool_choice.function.tone"]);
});

describe("unknown fields", () => {
  it("are named once on stderr, some tens of them, whatever characters they have", () => {
    const notes: string[] = [];
    const tell = unknownFields(false, (text) => notes.push(text));
    for (const place of [
      "mood",
      "messages[0].mood",
      "messages[7].mood",
      "mood",
      "a\u001b[2J\u202e\n",
      "x".repeat(5000),
    ])
      tell(place);
    const named = notes.map((note) => /a field (.*) that/.exec(note)?.[1]);
    const long = `${"x".repeat(80)}...`;
    expect(named).toEqual(["mood", "messages[].mood", "a\\u001b[2J\\u202e\\u000a", long]);
    for (let at = 0; at < 1000; at++) tell(`field${at}`);
    expect(notes).toHaveLength(51);
    expect(notes.at(-1)).toBe("requests have more unknown fields than are reported");
  });

  it("--strict refuses them, and nothing else", async () => {
    const { served } = server;
    const strict = serving(served.model, { ...served, unknownField: unknownFields(true, () => {}) });
    const refusal = async (more: object) => {
      const response = await strict.post(CHAT, chat(more));
      return [response.status, response.status === 200 ? null : (await response.json()).error.param];
    };
    expect(await refusal({ mood: 1 })).toEqual([400, "mood"]);
    expect(await refusal({ messages: [{ ...MESSAGES[1], mood: 1 }] })).toEqual([400, "messages[0].mood"]);
    expect(await refusal({ chat_template_kwargs: { mood: 1 } })).toEqual([400, "chat_template_kwargs.mood"]);
    expect(await refusal({ mood: null, user: "u", metadata: {}, n: 1 })).toEqual([200, null]);
  });
});

it("long names of fields make no long error", async () => {
  const name = "x".repeat(50_000);
  const json_schema = { type: "object", properties: { [name]: { not: { type: "null" } } } };
  const { status, param, message } = await ask(CHAT, chat({ json_schema }));
  expect([status, param?.length, message.length < 650]).toEqual([400, 200, true]);
  expect(message).toMatch(/^json_schema\.properties\.x+\.\.\.x+\.not .*supported/);
});

describe("fields of any value", () => {
  const value = fc.oneof(
    fc.constantFrom<unknown>(
      ...[null, true, false, 0, -0, -1, 1, 1.5, 1e308, 2 ** 53, 2 ** 64, -(2 ** 63), "", "x", "auto", "none"],
      ...["\ud800", "\0", "constructor", [], {}, [[]], [null], [""], ["x"], [{}], { type: "text" }],
      ...[{ type: "json_object" }, { type: "boolean" }, { role: "user" }, [{ role: "assistant" }], 10],
    ),
    fc.jsonValue({ maxDepth: 3 }),
    fc.string({ unit: "binary", maxLength: 30 }),
    fc.constant(JSON.parse('{"__proto__":{"n":1},"constructor":{"prototype":1},"toString":1}')),
  );
  const kind = fc.integer({ min: 0, max: KINDS.length - 1 });
  const field = kind.chain((at) =>
    fc.tuple(
      fc.constant(KINDS[at]),
      fc.oneof(
        { weight: 9, arbitrary: fc.constantFrom(...KINDS[at].fields.keys()) },
        { weight: 1, arbitrary: fc.constantFrom("mood", "constructor", "__proto__", "toString", "") },
      ),
      value,
    ),
  );

  it("are answered, or refused by their name", async () => {
    const seen = new Map<number, number>();
    const property = fc.asyncProperty(field, async ([{ path, place, body }, name, value]) => {
      const asked = JSON.parse(`{${JSON.stringify(name)}:${JSON.stringify(value)}}`);
      const { status, param, code, message } = await ask(path, body(asked));
      seen.set(status, (seen.get(status) ?? 0) + 1);
      expect([200, 400, 404]).toContain(status);
      if (status === 200) return;
      expect(message).not.toMatch(/undefined|\[object|NaN|TypeError|RangeError/);
      expect(message.length).toBeLessThan(400);
      // What a text is read for, the tokenizer and the template, has no place in the request.
      const isText = /^(messages|prompt|content|role|name|text|reasoning|tool_calls|arguments)/.test(name);
      if (param === null)
        expect([name, isText || code === "context_length_exceeded", message]).toContain(true);
      else
        expect(param.startsWith(place === "" ? name : place), `${param} for ${name}: ${message}`).toBe(true);
    });
    await fc.assert(property, { numRuns: 800, seed: 7 });
    expect(seen.get(200)).toBeGreaterThan(150);
    expect(seen.get(400)).toBeGreaterThan(300);
  }, 60_000);
});
