/**
 * Schemas at random against Ajv, a validator that knows nothing of grammars: what a grammar writes is valid, what is
 * valid and in the grammar's order it takes, what is not it refuses; and hostile schemas are refused by name.
 */
import { Ajv2020 } from "ajv/dist/2020.js";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { PlaceError } from "../../src/answer/errors.ts";
import { Size } from "../../src/answer/grammar/size.ts";
import { NibbleError } from "../../src/index.ts";
import { random } from "../device/random-tensor.ts";
import { accepts, grammars, schemaGrammar, walk } from "./grammars.ts";

afterAll(() => grammars.close());

type Schema = Record<string, unknown>;

const isDate = (text: string) =>
  /^\d{4}-\d\d-\d\d$/.test(text) && new Date(`${text}T00:00Z`).toJSON()?.slice(0, 10) === text;
const ajv = new Ajv2020({ strict: false, ownProperties: true, addUsedSchema: false, logger: false });
ajv.addFormat("date", isDate);
ajv.addFormat("time", /^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/);
ajv.addFormat("uuid", /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i);
for (const format of ["email", "int32", "constructor"]) ajv.addFormat(format, true);

/** Not "__proto__", which Ajv leaves out; schema.test.ts has it. */
const NAMES = ["a", "b", "ab", "long name", 'q"\\', "é", "constructor", "toString"];
const PATTERNS = ["^[a-c]{2,4}$", "^(é|日)+x?$", "^\\d{3}-[^0-9]$", "^\\w*$", "^.{20,40}$"];
/** Some begin alike, and end alike. */
const WORDS = ["a", "ab", "abc", "bc", "c", "é", "éc", "è", "日", "日c", "xbc", "", "b", "bbc"];
const COMMENTS = {
  title: "t",
  "x-order": 1,
  example: [1],
  default: null,
  uniqueItems: false,
};
const LEAVES = [null, true, false, 0, 1, -3, 2.5, "", "a", "abc", "é"];

const number = fc.constantFrom(-1000, -2.5, -1, 0, 0.25, 3, 17.5, 99, 100, 1e9, 123456789.5, 2 ** 53 - 1);
const count = fc.nat(5);
const bounds = fc.record(
  {
    minimum: number,
    maximum: number,
    exclusiveMinimum: number,
    exclusiveMaximum: number,
    multipleOf: fc.constant(1),
  },
  { requiredKeys: [] },
);
const names = fc.uniqueArray(fc.constantFrom(...NAMES), { maxLength: 4 });
const types = fc.oneof(
  fc.constantFrom("string", "integer", "number", "boolean", "null", "array", "object"),
  fc.uniqueArray(fc.constantFrom("string", "integer", "number", "null"), { minLength: 1, maxLength: 3 }),
);
/** Bounds in the right order. */
const ordered = (low: string, high: string) => (found: Schema) => {
  const [a, b] = [found[low] as number, found[high] as number];
  return a > b ? { ...found, [low]: b, [high]: a } : found;
};
const { schema } = fc.letrec<{ schema: Schema }>((tie) => ({
  schema: fc
    .tuple(
      fc.oneof(
        { depthSize: "small", withCrossShrink: true },
        fc.record({ type: types }),
        fc.record({ type: types, enum: fc.uniqueArray(fc.constantFrom(...LEAVES), { minLength: 1 }) }),
        fc.record({ enum: fc.subarray(WORDS, { minLength: 1 }) }),
        fc
          .subarray(WORDS, { minLength: 1, maxLength: 5 })
          .map((words) => ({ type: "string", pattern: `^(${words.join("|")})b?c?$` })),
        fc
          .array(
            fc.array(fc.constantFrom("a*", "[ab]*", "a?", "[aé]+", "b", "(a|b)", "[^b]", "c{2}"), {
              minLength: 1,
              maxLength: 4,
            }),
            { minLength: 1, maxLength: 3 },
          )
          .map((all) => ({ type: "string", pattern: `^(${all.map((parts) => parts.join("")).join("|")})$` })),
        fc.record({ const: fc.jsonValue({ maxDepth: 2 }) }),
        fc.tuple(fc.constantFrom("integer", "number"), bounds).map(([type, more]) => ({ type, ...more })),
        fc
          .record({ minLength: count, maxLength: fc.oneof(count, fc.constant(150)) }, { requiredKeys: [] })
          .map(ordered("minLength", "maxLength"))
          .map((more) => ({ type: "string", ...more })),
        fc.constantFrom(...PATTERNS).map((pattern) => ({ type: "string", pattern })),
        fc
          .constantFrom("date", "time", "uuid", "email", "constructor")
          .map((format) => ({ type: "string", format })),
        fc
          .constantFrom("#/$defs/leaf", "#/$defs/~1%25", "#/$defs/tree/properties/value", "#/$defs/tree")
          .map(($ref) => ({
            $ref,
          })),
        fc
          .record({ items: tie("schema"), minItems: count, maxItems: count }, { requiredKeys: ["items"] })
          .map(ordered("minItems", "maxItems"))
          .map((more) => ({ type: "array", ...more })),
        fc
          .record({
            prefixItems: fc.array(tie("schema"), { minLength: 1, maxLength: 3 }),
            minItems: fc.nat(2),
          })
          .map((more) => ({
            type: "array",
            items: false,
            ...more,
            minItems: Math.min(more.minItems, more.prefixItems.length),
          })),
        fc
          .tuple(
            names,
            fc.array(tie("schema"), { minLength: 4, maxLength: 4 }),
            fc.nat(15),
            fc.option(tie("schema")),
          )
          .map(([keys, all, bits, others]) => ({
            type: "object",
            properties: Object.fromEntries(keys.map((key, i) => [key, all[i]])),
            required: keys.filter((_, i) => (bits >> i) & 1),
            additionalProperties: others ?? false,
          })),
        fc.array(tie("schema"), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
        tie("schema").map((one) => ({ allOf: [one] })),
      ) as fc.Arbitrary<Schema>,
      fc.subarray(Object.entries(COMMENTS)),
    )
    .map(([found, more]) => ({ ...Object.fromEntries(more), ...found })),
}));
const $defs = {
  leaf: { type: ["boolean", "null"] },
  "/%": { type: "integer", minimum: 5, maximum: 250 },
  tree: {
    type: "object",
    properties: {
      value: { enum: ["x", "y"] },
      next: { anyOf: [{ type: "null" }, { $ref: "#/$defs/tree" }] },
    },
    required: ["value"],
    additionalProperties: false,
  },
};
const whole = schema.map((found) => ({ ...found, $defs }));

/** The grammar's text; null: the schema leaves nothing, which is said. */
function grammarOf(schema: unknown): string | null {
  try {
    return schemaGrammar(schema, "s", true);
  } catch (error) {
    expect((error as PlaceError).message).toMatch(/leaves no number|of no type that is left/);
    return null;
  }
}

/** A value by a schema's own words, most often valid, in the order in which a grammar writes it. */
function sample(schema: unknown, next: () => number, depth = 0): unknown {
  const s = (schema ?? {}) as Schema;
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)];
  const within = (low: unknown, high: unknown, most: number) =>
    Math.floor(Number(low ?? 0) + next() * (Math.min(most, Number(high ?? most)) - Number(low ?? 0) + 1));
  if (next() < 0.03) return pick(LEAVES);
  if (s.$ref === "#/$defs/tree")
    return {
      value: pick(["x", "y"]),
      ...(next() < 0.5 && depth < 3 ? { next: sample(s, next, depth + 1) } : {}),
    };
  if (s.$ref === "#/$defs/leaf") return pick([true, false, null]);
  if (s.$ref === "#/$defs/~1%25") return pick([4, 5, 77, 250, 251]);
  if (s.$ref !== undefined) return pick(["x", "y", "z"]);
  if (s.anyOf ?? s.allOf) return sample(pick((s.anyOf ?? s.allOf) as unknown[]), next, depth);
  if (s.const !== undefined) return s.const;
  if (s.enum) return next() < 0.7 ? pick(s.enum as unknown[]) : pick(WORDS) + pick(WORDS);
  const type = pick([s.type].flat());
  if (type === "object") {
    const given = Object.entries((s.properties ?? {}) as Schema).filter(
      ([name]) => (s.required as string[])?.includes(name) || next() < 0.6,
    );
    const members = given.map(([name, value]) => [name, sample(value, next, depth + 1)] as const);
    if (next() < 0.3)
      members.push([pick(["other", "ac", "è"]), sample(s.additionalProperties ?? true, next, depth + 1)]);
    return Object.fromEntries(members);
  }
  if (type === "array") {
    const firsts = (s.prefixItems ?? []) as unknown[];
    const length = within(s.minItems, s.maxItems, firsts.length || 4);
    return Array.from({ length }, (_, i) => sample(firsts[i] ?? s.items ?? true, next, depth + 1));
  }
  if (type === "integer" || type === "number") {
    const near = [s.minimum, s.maximum, s.exclusiveMinimum, s.exclusiveMaximum].filter(
      (n) => n !== undefined,
    ) as number[];
    const by = type === "integer" || next() < 0.5 ? pick([0, 1, -1, 2]) : pick([0.5, -0.5, 0.125]);
    return (near.length > 0 ? pick(near) : within(-50, 50, 50)) + by;
  }
  if (type === "boolean" || type === null || type === "null") return type === "boolean" ? next() < 0.5 : null;
  if (s.format)
    return pick([
      "2024-02-29",
      "2023-02-29",
      "2026-11-31",
      "23:59:00Z",
      "0f".repeat(16),
      "00000000-0000-4000-8000-00000000000F",
    ]);
  if (s.pattern && next() < 0.6)
    return Array.from({ length: within(0, 5, 5) }, () => pick(["a", "b", "c", "é", "x"])).join("");
  if (s.pattern) return pick([...WORDS, "abc", "é日x", "123-é", "x_9", "é".repeat(30), "1234"]);
  return pick(["x", "é", "\n", '"']).repeat(within(s.minLength, s.maxLength, 160)) + pick(["", "", "y"]);
}

const members = (value: unknown): unknown[] =>
  typeof value === "object" && value !== null ? [value, ...Object.values(value).flatMap(members)] : [value];
/** Numbers are written without an exponent, texts without halves of surrogate pairs. */
const isPlain = (value: unknown) =>
  !members(value).some((part) => typeof part === "number" && /e/.test(String(part)));

describe("schemas at random, held against Ajv", () => {
  it("what a grammar writes is valid", async () => {
    let written = 0;
    await fc.assert(
      fc.asyncProperty(whole, fc.nat(), async (schema, seed) => {
        if (grammarOf(schema) === null) return;
        const text = await walk(schema, seed);
        if (text === null) return;
        written++;
        const isValid = ajv.compile(schema);
        expect(isValid(JSON.parse(text)), `${text}: ${JSON.stringify(isValid.errors)}`).toBe(true);
      }),
      { numRuns: 80, seed: 20261128 },
    );
    expect(written).toBeGreaterThan(40);
  });

  it("it takes what is valid, and nothing else", async () => {
    const seen = { valid: 0, not: 0 };
    await fc.assert(
      fc.asyncProperty(whole, fc.nat(), async (schema, seed) => {
        if (grammarOf(schema) === null) return;
        const isValid = ajv.compile(schema);
        const next = random(seed);
        for (let i = 0; i < 3; i++) {
          const value = sample(schema, next);
          const text = JSON.stringify(value);
          if (!isPlain(value)) continue;
          const expected = isValid(JSON.parse(text));
          seen[expected ? "valid" : "not"]++;
          expect(await accepts(schema, text), `${text}, which Ajv finds ${expected ? "" : "in"}valid`).toBe(
            expected,
          );
        }
      }),
      { numRuns: 80, seed: 20261129 },
    );
    expect(Math.min(seen.valid, seen.not)).toBeGreaterThan(40);
  });
});

describe("hostile schemas", () => {
  const keywords = [
    ...["type", "enum", "const", "properties", "required", "additionalProperties", "items", "prefixItems"],
    ...[
      "minItems",
      "maxItems",
      "minLength",
      "maxLength",
      "pattern",
      "format",
      "minimum",
      "maximum",
      "multipleOf",
    ],
    ...[
      "exclusiveMinimum",
      "anyOf",
      "oneOf",
      "allOf",
      "$ref",
      "$defs",
      "not",
      "nullable",
      "x-a",
      "propertyNames",
    ],
    ...["constructor", "__proto__", "minlength", "unknown"],
  ];
  const odd = fc.oneof(
    fc.constantFrom<unknown>(
      null,
      true,
      false,
      -1,
      1.5,
      1e15,
      1e21,
      1e308,
      5e-324,
      2 ** 53,
      9999,
      "",
      [],
      {},
      [{}],
      [[]],
    ),
    fc.constantFrom(
      "#",
      "#/",
      "#/$defs/a",
      "#/$defs/__proto__",
      "#/properties/a",
      "#/%zz",
      "#/anyOf/0",
      "other.json",
    ),
    fc.constantFrom(
      "object",
      "string",
      "integer",
      "array",
      ["string", "null"],
      ["number"],
      "__proto__",
      "date",
    ),
    fc.constantFrom(
      "^(",
      "a{999}",
      "[^\\s\\S]",
      ".{0,1000}".repeat(30),
      "(a|b){0,1000}",
      "\ud800",
      "(?=a)",
      "[à-😀]",
    ),
    fc.constantFrom("x".repeat(1500), "x".repeat(5000), '"\\\n\u0000', "\ud800", "😀".repeat(100), "]|(){}"),
  );
  const { hostile } = fc.letrec<{ hostile: unknown }>((tie) => ({
    hostile: fc.oneof(
      { depthSize: "medium", maxDepth: 8 },
      odd,
      fc.dictionary(fc.constantFrom(...keywords), tie("hostile"), { maxKeys: 4 }),
      fc.dictionary(fc.constantFrom("a", "__proto__", "x".repeat(1500), '"\\\u007f'), tie("hostile"), {
        maxKeys: 3,
      }),
      fc.array(tie("hostile"), { maxLength: 3 }),
      // As they mostly are, so that something lies behind them.
      fc.record({
        type: fc.constant("object"),
        properties: fc.dictionary(fc.constantFrom("a", "b"), tie("hostile")),
      }),
      fc.record(
        { type: fc.constantFrom("string", "integer", "array"), pattern: odd, minimum: odd, maxLength: odd },
        { requiredKeys: ["type"] },
      ),
      tie("hostile").map((inner) => {
        let nested = inner;
        for (let i = 0; i < 45; i++) nested = { items: nested };
        return nested;
      }),
    ),
  }));

  it("become a grammar that compiles, or an error that names the place", async () => {
    let compiled = 0;
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(hostile, fc.boolean(), async (schema, isStrict) => {
        let text: string;
        const size = new Size();
        try {
          text = schemaGrammar(JSON.parse(JSON.stringify(schema) ?? "null"), "s", isStrict, size);
        } catch (error) {
          if (!(error instanceof PlaceError)) throw error;
          expect(error.code).toMatch(/^(argument|unsupported)$/);
          expect(error.place).toMatch(/^(s|#)/);
          expect(error.message).not.toMatch(/undefined|\[object|NaN/);
          refused++;
          return;
        }
        if (compiled > 150) return;
        compiled++;
        try {
          (await grammars.open({ text, weight: size.weight })).close();
        } catch (error) {
          if (!(error instanceof NibbleError)) throw error;
          expect(error.message).toBe("the schema cannot be kept: no text matches it");
        }
      }),
      { numRuns: 3000, seed: 20261130 },
    );
    expect(compiled).toBeGreaterThan(100);
    expect(refused).toBeGreaterThan(1000);
  });
});
