/** Keywords of schemas: what they allow, what passes because it narrows nothing, and what is refused. */
import { afterAll, describe, expect, it } from "vitest";
import { keptFormat } from "../../src/answer/grammar/formats.ts";
import { Grammars } from "../../src/answer/grammar/grammars.ts";
import { goldenTokenizer } from "../format/tokenizer-vocabularies.ts";
import { accepts, grammars, schemaGrammar } from "./grammars.ts";

afterAll(() => grammars.close());

type Case = [what: string, schema: unknown, allowed: readonly string[], not: readonly string[]];

async function holds(schema: unknown, allowed: readonly string[], not: readonly string[]) {
  for (const text of allowed) expect(await accepts(schema, text), text).toBe(true);
  for (const text of not) expect(await accepts(schema, text), text).toBe(false);
}

describe("a type", () => {
  it.each<Case>([
    ["beside enum", { type: "string", enum: [1, "a", null] }, ['"a"'], ["1", "null"]],
    ["of several", { type: ["string", "null"], enum: [1, "a", null] }, ['"a"', "null"], ["1"]],
    ["integer", { type: "integer", enum: [1, 1.5, "1"] }, ["1"], ["1.5", '"1"']],
    ["number", { type: "number", enum: [1, 1.5, "1"] }, ["1", "1.5"], ['"1"']],
    ["beside const", { type: "null", const: null }, ["null"], []],
    [
      "around anyOf",
      { type: "string", anyOf: [{ enum: ["a", 1] }, { minLength: 3 }] },
      ['"a"', '"abc"'],
      ["1", '"b"', "null"],
    ],
    ["around allOf", { type: "number", allOf: [{ minimum: 3 }] }, ["3", "4.5"], ["2", "null"]],
    ["number around integer", { type: "number", anyOf: [{ type: "integer" }] }, ["3"], ["4.5"]],
    ["integer around number", { type: "integer", anyOf: [{ type: "number" }] }, ["3"], ["4.5"]],
    ["that may be null", { type: "string", nullable: true }, ['"a"', "null"], ["1"]],
  ])("%s counts", (_what, schema, allowed, not) => holds(schema, allowed, not));

  it.each<[what: string, schema: unknown, message: RegExp]>([
    [
      "enum",
      { type: "string", enum: [1, 2] },
      /s\.enum is of no type that is left; allowed: values of string/,
    ],
    ["const", { type: "object", const: [] }, /s\.const is of no type that is left/],
    [
      "anyOf",
      { type: "string", anyOf: [{ type: "null" }] },
      /s\.anyOf\[0\]\.type is "null"; allowed: of string/,
    ],
    [
      "$ref",
      { $defs: { a: { type: "array" } }, $ref: "#/$defs/a", type: "object" },
      /#\/\$defs\/a\.type is "array"; allowed: of object/,
    ],
  ])("that leaves nothing of %s is refused", (_what, schema, message) => {
    expect(() => schemaGrammar(schema, "s", true)).toThrow(message);
  });
});

describe("$ref", () => {
  const a = { type: "integer" };
  it.each<Case>([
    [
      "to a property",
      { type: "object", properties: { a, b: { $ref: "#/properties/a" } }, required: ["a", "b"] },
      ['{"a":1,"b":2}'],
      ['{"a":1,"b":"2"}', '{"a":1}'],
    ],
    ["with ~ and /", { $defs: { "a/b~c": a }, $ref: "#/$defs/a~1b~0c" }, ["1"], ["null"]],
    ["with ~01", { $defs: { "~1": a }, $ref: "#/$defs/~01" }, ["1"], ["null"]],
    ["with percents", { $defs: { "a b%": a }, $ref: "#/%24defs/a%20b%25" }, ["1"], ["null"]],
    ["into a list", { anyOf: [a, { items: { $ref: "#/anyOf/0" } }] }, ["1", "[1,2]"], ["[null]", "[[1]]"]],
    ["to true", { $defs: { a: true }, $ref: "#/$defs/a" }, ["1", "{}"], []],
    ["beside an equal type", { $defs: { a }, $ref: "#/$defs/a", type: "integer" }, ["1"], ["1.5"]],
    ["beside a narrower type", { $defs: { a: {} }, $ref: "#/$defs/a", type: "integer" }, ["1"], ["null"]],
    ["beside comments", { $defs: { a }, $ref: "#/$defs/a", description: "d", default: 1 }, ["1"], ["null"]],
    [
      "to itself, around a type",
      { type: ["array", "null"], items: { $ref: "#" } },
      ["null", "[]", "[[],[null]]"],
      ["[1]"],
    ],
    ["to itself first", { anyOf: [{ $ref: "#" }, a] }, ["1"], ["null"]],
    [
      "to names of every object",
      { $defs: JSON.parse('{"__proto__":{"type":"integer"}}'), $ref: "#/$defs/__proto__" },
      ["1"],
      ["null"],
    ],
  ])("%s", (_what, schema, allowed, not) => holds(schema, allowed, not));

  it.each([
    "#/$defs/b",
    "#/$defs/constructor",
    "#/anyOf/length",
    "#/anyOf/01",
    "#/anyOf/-1",
    "#/$defs/~2",
    "#/%",
    "#a",
    "a.json#/$defs/a",
    "",
  ])("%j is refused", ($ref) => {
    const schema = { $defs: { a, "~2": a }, anyOf: [{ $ref }] };
    expect(() => schemaGrammar(schema, "s", true)).toThrow(
      /s\.anyOf\[0\]\.\$ref is .*; allowed: a definition/,
    );
  });

  it("may follow each other as often as a schema has place for, but not in a circle", () => {
    const chain = (end: unknown) => ({
      $defs: {
        ...Object.fromEntries(
          Array.from({ length: 1900 }, (_, i) => [`a${i}`, { $ref: `#/$defs/a${i + 1}` }]),
        ),
        a1900: end,
      },
      $ref: "#/$defs/a0",
    });
    expect(schemaGrammar(chain(a), "s", true)).toContain("::= integer");
    expect(() => schemaGrammar(chain({ $ref: "#/$defs/a7" }), "s", true)).toThrow(
      /a definition that ends somewhere/,
    );
  });
});

describe("what narrows nothing passes:", () => {
  it.each<[what: string, more: Record<string, unknown>]>([
    ["x-order", { "x-order": 1 }],
    ["example", { example: "a", examples: ["a"] }],
    ["contents", { contentMediaType: "text/plain", contentEncoding: "utf-8" }],
    ["nullable false", { nullable: false }],
    ["uniqueItems false", { uniqueItems: false, minProperties: 0 }],
    ["names", { propertyNames: { type: "string" }, patternProperties: {}, dependentRequired: {} }],
    ["unevaluated", { unevaluatedProperties: true, unevaluatedItems: {} }],
    [
      "comments",
      { title: "t", $comment: "c", default: 1, deprecated: true, readOnly: true, writeOnly: false },
    ],
    ["addresses", { $schema: "s", $id: "i", $anchor: "a", id: "i" }],
    ["what an editor knows", { markdownDescription: "m", enumNames: ["a"], note: "n", xml: {}, order: 1 }],
    ["null", { contains: null, not: null, minLength: null }],
    ["names of every object", JSON.parse('{"constructor":1,"__proto__":1,"toString":1,"hasOwnProperty":1}')],
  ])("%s", async (_what, more) => {
    await holds({ type: "boolean", ...more }, ["true"], ["1"]);
    expect(schemaGrammar({ ...more, type: "boolean" }, "s", true)).toBe(
      schemaGrammar({ type: "boolean" }, "s", true),
    );
  });

  it.each(["e-mail", "int32", "constructor", "__proto__", "toString", ""])("format %j", async (format) => {
    expect(keptFormat(format)).toBe(undefined);
    await holds({ type: "string", format }, ['"a"'], ["1"]);
    await holds({ type: "integer", format }, ["1"], ['"a"']);
    await holds({ format }, ["1"], []);
  });
});

it.each<[schema: unknown, message: RegExp]>([
  [{ type: "string", min_length: 1 }, /s\.min_length is no keyword of schemas; there is minLength/],
  [{ type: "object", addtionalProperties: false }, /there is additionalProperties/],
  [{ type: "string", patern: "a" }, /there is pattern/],
  [{ Type: "string" }, /there is type/],
  [{ type: "array", uniqueItems: true }, /s\.uniqueItems is not supported in schemas/],
  [{ type: "integer", multipleOf: 500 }, /s\.multipleOf of 500 is not supported/],
  [
    { type: "integer", multipleOf: 7, minimum: 3 },
    /s\.multipleOf together with one bound other than 0 is not supp/,
  ],
  [
    { type: "integer", multipleOf: 7, minimum: 3, maximum: 9e9 },
    /s\.multipleOf together with bounds with more than 1000/,
  ],
  [{ type: "number", multipleOf: 7, minimum: 1, maximum: 6 }, /s\.multipleOf is 7, of which no multiple is/],
  [
    { type: "string", format: "date", minLength: 20 },
    /s\.format together with a minLength or maxLength that/,
  ],
  [{ $ref: "#", nullable: true }, /s\.nullable together with \$ref is not supported/],
  [{ nullable: true }, /s\.nullable without a type is not supported/],
  [{ format: "date" }, /s\.format without "type": "string" is not supported/],
  [
    { type: "object", propertyNames: { minLength: 1 }, properties: {} },
    /s\.propertyNames together with properties/,
  ],
])("what would narrow is refused: %j", (schema, message) => {
  expect(() => schemaGrammar(schema, "s", true)).toThrow(message);
});

describe("numbers", () => {
  it.each<Case>([
    [
      "z.int()",
      { type: "integer", minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER },
      ["0", "-1", "9007199254740991", "-9007199254740991"],
      ["9007199254740992", "-9007199254740992", "1.5", "10000000000000000"],
    ],
    [
      "z.int().positive()",
      { type: "integer", exclusiveMinimum: 0, maximum: Number.MAX_SAFE_INTEGER },
      ["1", "9007199254740991"],
      ["0", "-1"],
    ],
    ["multiples of 1", { type: "number", multipleOf: 1 }, ["1", "-30"], ["1.5"]],
    ["bounded multiples of 1", { type: "number", multipleOf: 1, maximum: 9.5 }, ["9", "-30"], ["9.5", "10"]],
    [
      "z.float64()",
      { type: "number", minimum: -Number.MAX_VALUE, maximum: Number.MAX_VALUE },
      ["0", "-1.5", "9999999999999999999"],
      ["1000000000000000000000"],
    ],
    [
      "int32",
      { type: "integer", format: "int32", minimum: -(2 ** 31), maximum: 2 ** 31 - 1 },
      ["2147483647"],
      ["2147483648"],
    ],
  ])("%s", (_what, schema, allowed, not) => holds(schema, allowed, not));

  it("beyond what can be written are refused", () => {
    expect(() => schemaGrammar({ type: "number", minimum: 1e30 }, "s", true)).toThrow(
      /s\.minimum is 1e\+30; allowed: up to/,
    );
    expect(() => schemaGrammar({ type: "number", maximum: 1e-9 }, "s", true)).toThrow(
      /s\.maximum is 1e-9; allowed: 0, or/,
    );
  });
});

describe("names of properties", () => {
  const names = ["constructor", "__proto__", "toString", "hasOwnProperty"];
  it("that every object has are ordinary", async () => {
    const properties = JSON.parse(`{${names.map((name) => `"${name}":{"type":"integer"}`).join()}}`);
    const schema = {
      type: "object",
      properties,
      required: ["__proto__"],
      additionalProperties: { type: "null" },
    };
    await holds(
      schema,
      ['{"__proto__":1}', '{"constructor":1,"__proto__":2,"toString":3}', '{"__proto__":1,"valueOf":null}'],
      ["{}", '{"constructor":1}', '{"__proto__":null}', '{"__proto__":1,"toString":null}'],
    );
    expect(() => schemaGrammar({ type: "object", required: ["constructor"] }, "s", true)).toThrow(
      /s\.required is "constructor"; allowed: names of its properties/,
    );
  });

  it("that are others stay apart from those that are named", async () => {
    const named = ["a", "ab", "é", "日本", "😀", 'q"uo', "\u007f", "long name ".repeat(20)];
    const schema = {
      type: "object",
      properties: Object.fromEntries(named.map((name) => [name, { type: "integer" }])),
      additionalProperties: { type: "null" },
    };
    const member = (name: string, value: unknown) => JSON.stringify({ [name]: value });
    await holds(
      schema,
      [
        ...named.map((name) => member(name, 1)),
        ...["", "b", "ac", "abc", "è", "éa", "日", "日本語", "😁", "q", "long"].map((name) =>
          member(name, null),
        ),
      ],
      [...named.map((name) => member(name, null)), member("b", 1), '{"q"uo":null}', '{"\\u0061":1}'],
    );
  });
});

describe("patterns of characters beyond ASCII", () => {
  it.each<[pattern: string, allowed: string[], not: string[]]>([
    ["^.{2}$", ["ab", "é日", "😀a"], ["a", "é", "abc", "😀"]],
    ["^[à-ü]+$", ["é", "àü"], ["a", "ÿ", "日"]],
    ["^[^é]$", ["è", "a", "日", "😀"], ["é", "ab"]],
    ["^[一-龥]{1,3}$", ["日本語"], ["a", "日本語日"]],
    ["^[\\u{0}-z]$", [], []],
    ["^[a-zé]{20}$", ["é".repeat(20)], ["é".repeat(19), "é".repeat(21)]],
    ["^\\W$", ["é", "-", "😀"], ["a"]],
  ])("%s", async (pattern, allowed, not) => {
    if (allowed.length + not.length === 0) {
      expect(() => schemaGrammar({ type: "string", pattern }, "s", true)).toThrow(/is not supported/);
      return;
    }
    await holds(
      { type: "string", pattern },
      allowed.map((text) => JSON.stringify(text)),
      not.map((text) => JSON.stringify(text)),
    );
  });
});

describe("alternatives that begin and end alike stay apart:", () => {
  const words = ["é", "a", "abc"];
  const others = ["abcbc", "ébc", "ab", "", "b", "è"];
  const quoted = (all: string[]) => all.map((word) => JSON.stringify(word));
  it.each<[what: string, schema: unknown]>([
    ["enum", { enum: words }],
    ["anyOf", { anyOf: words.map((word) => ({ const: word })) }],
    ["patterns", { anyOf: words.map((word) => ({ type: "string", pattern: `^${word}$` })) }],
    ["a pattern", { type: "string", pattern: `^(${words.join("|")})$` }],
  ])("%s", (_what, schema) => holds(schema, quoted(words), quoted(others)));

  it.each<[pattern: string, allowed: string[], not: string[]]>([
    ["^(a*ab|c)$", ["ab", "aab", "c"], ["b", "a", "ac"]],
    ["^[àâé]$", ["à", "â", "é"], ["á", "ũ"]],
    ["^[àâ\u0169]$", ["à", "â", "ũ"], ["á", "é", "Š"]],
  ])("%s", (pattern, allowed, not) => holds({ type: "string", pattern }, quoted(allowed), quoted(not)));

  it("numbers", () =>
    holds(
      { type: "number", minimum: 12.5, maximum: 15.25 },
      ["12.5", "12.75", "13", "14.99", "15", "15.2", "15.25"],
      ["12", "12.4", "15.3", "16", "1", "1.5", "125"],
    ));
});

describe("counted characters with the tokens of a real vocabulary", () => {
  it.each<[schema: object, one: RegExp]>([
    [{ type: "string", minLength: 4, maxLength: 50 }, /^[^\p{Cc}"\\]+$/u],
    [{ type: "string", pattern: "^[a-z]{4,50}$" }, /^[a-z]+$/],
    [{ type: "string", pattern: "^[^a-m]{4,50}$" }, /^[^\p{Cc}"\\a-m]+$/u],
  ])("%j", async (schema, one) => {
    const needle = await goldenTokenizer("needle");
    const own = new Grammars(needle, needle.vocab);
    const texts = Array.from({ length: needle.vocab }, (_, id) =>
      Buffer.from(needle.bytes(id)).toString("utf8"),
    );
    const [n, quote] = ["n", '"'].map((text) => texts.indexOf(text));
    const grammar = await own.open({ text: schemaGrammar(schema, "s", true) });
    await grammar.accept(quote);
    for (let count = 0; count <= 50; count++) {
      const mask = (await grammar.allowed()) ?? new Int32Array(0);
      texts.forEach((text, id) => {
        // Halves of characters are not looked at.
        if (!one.test(text) || text.includes("\ufffd")) return;
        const isAllowed = ((mask[id >> 5] >> (id & 31)) & 1) === 1;
        if (isAllowed !== count + [...text].length <= 50)
          throw new Error(`${count} and ${JSON.stringify(text)}`);
      });
      expect(((mask[quote >> 5] >> (quote & 31)) & 1) === 1).toBe(count >= 4);
      if (count < 50) await grammar.accept(n);
    }
    own.close();
  });
});

describe("repetitions", () => {
  it.each([
    [0, 1],
    [3, 3],
    [0, 100],
    [17, 101],
    [100, 200],
    [129, null],
    [0, 250],
    [199, 301],
  ])("of %i to %s characters and items are counted", async (low, high) => {
    const counts = [low - 1, low, low + 1, 99, 100, 101, (high ?? 400) - 1, high ?? 400, (high ?? 400) + 1];
    for (const count of new Set(counts.filter((count) => count >= 0 && count < 420))) {
      const isIn = count >= low && count <= (high ?? 1000);
      const text = JSON.stringify("a\\".repeat(count).slice(0, count));
      const length = { minLength: low, ...(high === null ? {} : { maxLength: high }) };
      expect(await accepts({ type: "string", ...length }, text), `${count} characters`).toBe(isIn);
      const pattern = `^[a\\\\]{${low},${high ?? ""}}$`;
      expect(await accepts({ type: "string", pattern }, JSON.stringify("a".repeat(count))), pattern).toBe(
        isIn,
      );
      const items = { minItems: low, ...(high === null ? {} : { maxItems: high }), items: { const: 1 } };
      expect(await accepts({ type: "array", ...items }, JSON.stringify(Array(count).fill(1)))).toBe(isIn);
    }
  });
});
