/** What a grammar costs is known before it is compiled, and bounded, with the size named. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { PlaceError } from "../../src/answer/errors.ts";
import { literal } from "../../src/answer/grammar/json-rules.ts";
import { schemaSlices } from "../../src/answer/grammar/schema-grammar.ts";
import { Size } from "../../src/answer/grammar/size.ts";
import { msOf, weightOf } from "../../src/answer/grammar/weight.ts";
import { Fields } from "../../src/app/api/fields.ts";
import { readTools } from "../../src/app/api/tools.ts";
import { atOnce } from "../../src/format/slices.ts";
import { chatTemplateFromConfig } from "../../src/format/template.ts";
import { schemaGrammar } from "./grammars.ts";

it.each<[body: string, bytes: number, states: number, wide: number]>([
  ['"abc"', 3, 0, 0],
  ['"\\"\\\\\\x0a"', 3, 0, 0],
  ['"é日😀"', 9, 0, 0],
  ["r1 | r2", 0, 2, 0],
  ["[a-z]", 0, 1, 1],
  ["[^\\0-\\x1f\\]]", 0, 1, 1],
  ["[0-9] [\\x80-\\xbf] [ \\n\\t]*", 0, 3, 1],
  ["[0-9]{3,}", 0, 3, 0],
  ["[0-9]{2,5}", 0, 5, 0],
  ['("a" r1{4} | "bc"){10} r2+', 30, 42, 0],
  ["[a-z] nothing (= r7)", 0, 3, 5],
  ['((("a"){2}){3}){4}', 24, 0, 0],
])("%s", (body, bytes, states, wide) => {
  expect(weightOf(body)).toEqual({ bytes, states, wide });
});

const distinct = (count: number) => Array.from({ length: count }, (_, i) => i);
const tool = (i: number) => ({
  type: "function",
  function: {
    name: `f${i}`,
    parameters: {
      type: "object",
      properties: { a: { enum: distinct(200).map((j) => `${i}-${j} `.repeat(16)) } },
    },
  },
});

it.each<[what: string, schema: unknown, message: RegExp]>([
  [
    "ranges of numbers",
    {
      anyOf: distinct(1000).map((i) => ({ type: "number", minimum: -1e15 - 7 * i, maximum: 1e15 + 13 * i })),
    },
    /^s becomes a grammar of \d+ states or more; allowed: up to 20000\. Fewer/,
  ],
  [
    "patterns",
    {
      anyOf: distinct(500).map((i) => ({ type: "string", pattern: `^a[b-z]{${i}}${"\\w".repeat(i % 3)}$` })),
    },
    /becomes a grammar of \d+ states/,
  ],
  [
    "wide classes",
    { anyOf: distinct(2).map((i) => ({ type: "string", pattern: `^${i}${"\\wa".repeat(300)}$` })) },
    /of 600 states for most/,
  ],
  [
    "schemas",
    { type: "object", properties: Object.fromEntries(distinct(3000).map((i) => [i, true])) },
    /one schema too many/,
  ],
  [
    "many long repetitions",
    { type: "string", pattern: `^${"[a-y]{0,99}\\w{0,99}".repeat(3)}$` },
    /more than 4 repetitions/,
  ],
])("too many %s are refused, with the size", (_what, schema, message) => {
  expect(() => schemaGrammar(schema, "s", true)).toThrow(message);
});

it("the same a thousand times is one rule", () => {
  const one = { type: "number", minimum: -1e15, maximum: 1e15 };
  const many = schemaGrammar({ anyOf: Array(1000).fill(one) }, "s", true);
  expect(many.length).toBeLessThan(schemaGrammar(one, "s", true).length + 100);
});

it.each<[what: string, schema: unknown]>([
  ["z.int()", { type: "integer", minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER }],
  ["integers of 13 digits", { type: "integer", minimum: 0, maximum: 9_999_999_999_999 }],
  ["decimals", { type: "number", minimum: -1e15, maximum: 1e15 }],
  ["lengths", { type: "string", minLength: 129, maxLength: 100_000 }],
  ["a pattern", { type: "string", pattern: "^[A-Za-z0-9_-]{1,64}$" }],
  ["any text many times", { type: "string", pattern: `^${".{0,1000}".repeat(110)}$` }],
  [
    "an object of 20",
    {
      type: "object",
      properties: Object.fromEntries(distinct(20).map((i) => [`name${i}`, { type: "string" }])),
    },
  ],
])("%s compile within 60 ms with needle's vocabulary, by estimate", (_what, schema) => {
  const size = new Size();
  schemaGrammar(schema, "s", true, size);
  expect(msOf(size.weight, 4096)).toBeLessThan(60);
});

const SLICED: Record<string, unknown> = {
  properties: {
    type: "object",
    properties: Object.fromEntries(distinct(1990).map((i) => [`property${i}`, { enum: [`v${i}`, `w${i}`] }])),
  },
  "names of others": {
    type: "object",
    properties: Object.fromEntries(distinct(1900).map((i) => [`property${i}${"x".repeat(20)}`, true])),
    additionalProperties: { type: "number" },
  },
  values: { enum: distinct(1000).map((i) => `${i} `.repeat(24)) },
  ranges: {
    anyOf: distinct(60).map((i) => ({ type: "number", minimum: -1e15 - 7 * i, maximum: 1e15 + 13 * i })),
  },
  lengths: {
    anyOf: distinct(30).map((i) => ({ type: "string", minLength: i * 100, maxLength: 99_000 + i })),
  },
  items: { type: "array", prefixItems: distinct(1990).map((i) => ({ const: i })) },
};

it.each(Object.keys(SLICED))("a schema of the largest size is made in many slices: %s", (kind) => {
  // Characters of rules, which is what takes the time: all of them some 500,000, in 50 to 150 ms.
  let slice = 0;
  let most = 0;
  class Counting extends Size {
    override add(body: string, place: string): void {
      slice += body.length;
      most = Math.max(most, slice);
      super.add(body, place);
    }
  }
  for (const work = schemaSlices(SLICED[kind], "s", true, new Counting()); !work.next().done; ) slice = 0;
  expect(most).toBeGreaterThan(0);
  expect(most).toBeLessThan(30_000);
});

it("tools that are compiled together have one bound", () => {
  const file = new URL("../golden/templates/Qwen-Qwen2.5-7B-Instruct.jinja", import.meta.url);
  const template = readFileSync(file, "utf8");
  const served = { model: { chatTemplate: chatTemplateFromConfig({}, template) }, names: ["m"] };
  const read = (count: number) =>
    readTools(
      new Fields({ tools: distinct(count).map(tool), tool_choice: "required" }),
      served as never,
      null,
    );
  expect(atOnce(read(2).grammar!.make(literal)).weight?.bytes).toBeGreaterThan(30_000);
  expect(() => atOnce(read(7).grammar!.make(literal))).toThrow(PlaceError);
  expect(() => atOnce(read(7).grammar!.make(literal))).toThrow(
    /^tools\[5\]\.function\.parameters becomes a grammar of \d+ bytes of names and values or more; allowed: up to 100000/,
  );
});
