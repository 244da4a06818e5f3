/** Schemas that pass the check are kept whole: random walks through their grammars give valid JSON, and nothing else. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { afterReasoning, openableSections } from "../../src/answer/grammar/after-reasoning.ts";
import { Counted } from "../../src/answer/grammar/counted.ts";
import type { OpenGrammar } from "../../src/answer/grammar/grammar.ts";
import { JSON_COMPACT } from "../../src/answer/grammar/notation.ts";
import { patternRule } from "../../src/answer/grammar/pattern.ts";
import { SECTIONS, type Section } from "../../src/answer/reasoning.ts";
import type { Tokenizer } from "../../src/index.ts";
import { accepts, allowedIds, grammars, idOf, schemaGrammar, walk } from "./grammars.ts";
import { validate } from "./json-schema.ts";
import { schema } from "./schemas.ts";

afterAll(() => grammars.close());

describe("random walks through a grammar", () => {
  it("give JSON that its schema allows", async () => {
    let finished = 0;
    await fc.assert(
      fc.asyncProperty(schema, fc.nat(), async (schema, seed) => {
        const text = await walk(schema, seed);
        if (text === null) return;
        finished++;
        expect(validate(schema, JSON.parse(text)), `${text} of ${JSON.stringify(schema)}`).toEqual([]);
      }),
      { numRuns: 150 },
    );
    expect(finished).toBeGreaterThan(100);
  });
});

describe("patterns", () => {
  const atom = fc.constantFrom(
    "a",
    "é",
    ".",
    "\\d",
    "\\w",
    "\\s",
    "\\D",
    "\\.",
    "\\\\",
    '"',
    "[a-c]",
    "[^a-y]",
    '[^"x]',
    "[\\d_-]",
    "\\u00e4",
    "\\n",
    "-",
    "/",
  );
  const times = fc.constantFrom("", "", "*", "+", "?", "{2}", "{1,3}", "{0,}", "+?");
  const { pattern } = fc.letrec<{ pattern: string }>((tie) => ({
    pattern: fc
      .array(
        fc.array(
          fc.tuple(
            fc.oneof(
              { depthSize: "small" },
              atom,
              tie("pattern").map((inner) => `(${inner})`),
              tie("pattern").map((inner) => `(?:${inner})`),
            ),
            times,
          ),
          { minLength: 1, maxLength: 3 },
        ),
        { minLength: 1, maxLength: 2 },
      )
      .map((all) => all.map((parts) => parts.map(([one, more]) => one + more).join("")).join("|")),
  }));

  const rule = () => "r";
  const isRefused = (pattern: string) => {
    try {
      return patternRule(pattern, "p", rule, new Counted(rule), JSON_COMPACT) === "";
    } catch {
      return true;
    }
  };

  it("are matched by every text of their rule, from its first character to its last", async () => {
    let finished = 0;
    await fc.assert(
      fc.asyncProperty(pattern, fc.nat(), async (pattern, seed) => {
        fc.pre(!isRefused(pattern));
        const text = await walk({ type: "string", pattern: `^(${pattern})$` }, seed);
        if (text === null) return;
        finished++;
        expect(JSON.parse(text)).toMatch(new RegExp(`^(?:${pattern})$`, "u"));
      }),
      { numRuns: 80 },
    );
    expect(finished).toBeGreaterThan(40);
  });

  it.each<[string, string, boolean]>([
    ["^\\d{4}-[A-Z]{2}$", "2026-AB", true],
    ["^\\d{4}-[A-Z]{2}$", "2026-Ab", false],
    ["^[^@ ]+@[^@ ]+\\.[a-z]{2,}$", "a.b@c.example", true],
    ["^(red|green)$|^#[0-9a-f]{6}$", "#00ff00", true],
    ["^(red|green)$|^#[0-9a-f]{6}$", "redgreen", false],
    ["", "", true],
  ])("%s and %s: %j", async (pattern, text, expected) => {
    expect(await accepts({ type: "string", pattern }, JSON.stringify(text))).toBe(expected);
  });
});

describe("a grammar", () => {
  const list = {
    $defs: {
      node: { type: "object", properties: { next: { anyOf: [{ $ref: "#/$defs/node" }, { type: "null" }] } } },
    },
    $ref: "#/$defs/node",
  };
  const person = {
    title: "Person",
    type: "object",
    properties: { name: { type: "string" }, age: { type: "integer", minimum: 0 } },
    required: ["name"],
  };
  it.each<[what: string, schema: unknown, text: string, expected: boolean]>([
    ["required and optional", person, '{"name":"A","age":3}', true],
    ["only the required", person, '{"name":"A\\n\\u00e9"}', true],
    ["blanks", person, '{"name":"A", "age":3}', false],
    ["what must not be there", { type: "object", properties: { a: false, b: { not: {} } } }, "{}", true],
    ["nothing of it", person, "{}", false],
    ["another order", person, '{"age":3,"name":"A"}', false],
    ["more than is named", person, '{"name":"A","x":1}', false],
    ["recursion", list, '{"next":{"next":null}}', true],
    ["recursion, wrong end", list, '{"next":{"next":1}}', false],
    ["any object", { type: "object" }, '{"a":[1,{"b":null}],"c":-1.5e3}', true],
    ["no object", { type: "object" }, "[]", false],
    ["a tuple", { prefixItems: [{ type: "integer" }, { type: "null" }], items: false }, "[1]", true],
    [
      "a tuple and more",
      { prefixItems: [{ type: "integer" }], items: { type: "null" } },
      "[1,null,null]",
      true,
    ],
    ["a tuple too long", { prefixItems: [{ type: "integer" }], items: false }, "[1,2]", false],
    ["one of", { oneOf: [{ const: "a" }, { type: "integer" }] }, '"a"', true],
    ["all of one", { allOf: [{ type: "boolean" }] }, "true", true],
    ["a tab in a string", { type: "string", maxLength: 3 }, '"\t"', false],
    ["anything", {}, '[{"a":1}]', true],
  ])("of %s", async (_what, schema, text, expected) => {
    expect(await accepts(schema, text)).toBe(expected);
  });

  it("that is not strict takes other properties, but not a named one under another type", async () => {
    expect(await accepts(person, '{"name":"A","x":1}', false)).toBe(true);
    expect(await accepts(person, '{"name":"A","age2":"x","ag":{}}', false)).toBe(true);
    expect(await accepts(person, '{"name":"A","age":"x"}', false)).toBe(false);
    expect(await accepts(person, '{"name":"A","\\u0061ge":"x"}', false)).toBe(false);
  });

  it("does not let a model lose itself in blanks", async () => {
    const grammar = await grammars.open({ text: schemaGrammar({ type: "string" }, "schema", true) });
    const blank = idOf(" ");
    await grammar.accept(idOf('"'));
    for (let i = 0; i < 24; i++) {
      expect(await allowedIds(grammar)).toContain(blank);
      await grammar.accept(blank);
    }
    const ids = await allowedIds(grammar);
    expect(ids).not.toContain(blank);
    expect(ids).toContain(idOf('"'));
    grammar.close();
  });

  it.each<[what: string, schema: unknown, message: RegExp]>([
    [
      "a keyword that would be dropped",
      { type: "array", contains: {} },
      /s\.contains is not supported in schemas/,
    ],
    ["not", { not: { type: "null" } }, /s\.not is not supported/],
    [
      "deep inside",
      { type: "object", properties: { a: { items: { if: {} } } } },
      /s\.properties\.a\.items\.if is not/,
    ],
    [
      "beside a reference",
      { $defs: { a: {} }, $ref: "#/$defs/a", minLength: 1 },
      /s\.minLength together with \$ref is not supported/,
    ],
    ["without its type", { minLength: 3 }, /s\.minLength without "type": "string"/],
    ["an unknown type", { type: "text" }, /s\.type is "text"; allowed: of object/],
    ["no reference", { $ref: "#/$defs/a" }, /s\.\$ref is "#\/\$defs\/a"; allowed: a definition/],
    ["another file", { $ref: "https://example.org/a.json" }, /s\.\$ref is/],
    [
      "a circle",
      { $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } }, $ref: "#/$defs/a" },
      /ends somewhere/,
    ],
    ["false", { type: "array", items: [false] }, /s\.items is a list of 1; allowed: an object/],
    ["no choices", { enum: [] }, /s\.enum is a list of 0; allowed: a list of 1 to/],
    ["no number between", { type: "integer", exclusiveMinimum: 1, exclusiveMaximum: 2 }, /leaves no number/],
    [
      "an unknown name",
      { type: "object", required: ["a"] },
      /s\.required is "a"; allowed: names of its properties/,
    ],
    [
      "counts the wrong way",
      { type: "array", items: {}, minItems: 3, maxItems: 2 },
      /maxItems is 2; allowed: from minItems/,
    ],
    ["a huge count", { type: "string", maxLength: 1e9 }, /maxLength is 1000000000; allowed/],
    ["no schema", 5, /s is 5; allowed: an object/],
    ["too much", { enum: ["x".repeat(200_000)] }, /characters long; allowed: up to 100000/],
  ])("refuses %s", (_what, schema, message) => {
    expect(() => schemaGrammar(schema, "s", true)).toThrow(message);
  });

  it("that no text matches is refused, and others go on", async () => {
    const open = await grammars.open({ text: schemaGrammar(person, "s", true) });
    const endless = { anyOf: [{ $ref: "#" }] };
    await expect(grammars.open({ text: schemaGrammar(endless, "s", true) })).rejects.toThrow(
      /no text matches it/,
    );
    await expect(grammars.open({ text: "root ::= (" })).rejects.toThrow(/the schema cannot be kept: EBNF/);
    await expect(grammars.open({ text: "no rules" })).rejects.toThrow(/cannot be kept/);
    await open.accept(idOf("{"));
    expect(await allowedIds(open)).toContain(idOf('"'));
    open.close();
    expect(await accepts(person, '{"name":"A"}')).toBe(true);
  });
});

describe("a model that thinks first", () => {
  /** Tokens: 0 "<think>", 1 "</think>", 2 "x", 3 "{", 4 the end. */
  const texts = ["<think>", "</think>", "x", "{", ""];
  /** While it thinks: all but the end. */
  const any = ~(1 << 4);
  const words = {
    vocab: 5,
    endIds: new Set([4]),
    encode: (text: string) => (texts.includes(text) ? [texts.indexOf(text)] : [2, 2]),
    stream: () => ({ push: (id: number) => texts[id], end: () => "" }),
  } as unknown as Tokenizer;
  const open = (opened: Section | null, promptEnd = "") => {
    const heard: number[] = [];
    const grammar: OpenGrammar = {
      allowed: () => Int32Array.of(1 << 3),
      accept: (id) => void heard.push(id),
      close() {},
    };
    const openable = openableSections(words, "{% if thinks %}<think>", promptEnd);
    return { constraint: afterReasoning(grammar, { opened, openable }, words), heard };
  };
  const walk = async ({ constraint, heard }: ReturnType<typeof open>, ids: number[]) => {
    const masks: (number | null)[] = [];
    for (const id of ids) {
      masks.push((await constraint.allowed())?.[0] ?? null);
      await constraint.accept(id);
    }
    return { masks, heard };
  };

  it("may open its reasoning itself, once, as the first token", async () => {
    const thought = await walk(open(null), [0, 2, 3, 1, 3, 3]);
    expect(thought).toEqual({ masks: [0b1001, any, any, any, 0b1000, 0b1000], heard: [3, 3] });
    expect(await walk(open(null), [3, 3])).toEqual({ masks: [0b1001, 0b1000], heard: [3, 3] });
  });

  it("whose prompt has opened it, or has closed it again", async () => {
    expect(await walk(open(SECTIONS[0]), [2, 1, 3])).toEqual({ masks: [any, any, 0b1000], heard: [3] });
    const told = open(null, "<think>\n\n</think>\n\n");
    expect(await walk(told, [3])).toEqual({ masks: [0b1000], heard: [3] });
  });
});
