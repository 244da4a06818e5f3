/**
 * Calls that are written with control tokens, Gemma 4's and Harmony's, held to grammars: what is allowed, and that
 * whatever is chosen at random among it is read back as a call that its schema allows.
 */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { callFormat } from "../../src/answer/calls/call-formats.ts";
import type { GrammarToMake } from "../../src/answer/grammar/grammar.ts";
import { Grammars } from "../../src/answer/grammar/grammars.ts";
import { schemaToMake } from "../../src/answer/grammar/made.ts";
import { HARMONY } from "../../src/answer/harmony.ts";
import { type AnswerPart, AnswerParts } from "../../src/answer/parts.ts";
import { askTools, type DescribedTool } from "../../src/answer/tools.ts";
import { chatTemplateFromConfig } from "../../src/format/template.ts";
import type { Tokenizer } from "../../src/index.ts";
import { random } from "../device/random-tensor.ts";
import { allowedIds, bytesOf, END, grammars as spelling } from "./grammars.ts";
import { validate } from "./json-schema.ts";
import { schema } from "./schemas.ts";

/** 0 ends, then control tokens, then 256 bytes, then words, some of which spell a mark, or part of one. */
const MARKS = [
  ...["<|tool_call>", "<tool_call|>", '<|"|>', "<|tool_response>"],
  ...["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|other|>"],
];
const BYTES = 1 + MARKS.length;
const WORDS = ["call:", "analysis", "commentary", ' to=functions."', '<|"', "|>", "<|", "<|c", '"}', "abc"];
const PIECES = [...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)), ...WORDS.map(bytesOf)];
const NONE = new Uint8Array(0);
const tokenizer = {
  vocab: BYTES + PIECES.length,
  endIds: new Set([0]),
  bytes: (id: number, { special = false } = {}) =>
    PIECES[id - BYTES] ?? (special && id > 0 ? bytesOf(MARKS[id - 1]) : NONE),
} as unknown as Tokenizer;
const grammars = new Grammars(tokenizer, tokenizer.vocab);
afterAll(() => {
  grammars.close();
  spelling.close();
});

const templates = Object.fromEntries(
  ["google-gemma-4-31B-it", "openai-gpt-oss-20b"].map((file) => {
    const text = readFileSync(new URL(`../golden/templates/${file}.jinja`, import.meta.url), "utf8");
    return [file, chatTemplateFromConfig({}, text)!];
  }),
);
const GEMMA = templates["google-gemma-4-31B-it"];
const GPT = templates["openai-gpt-oss-20b"];
type Template = typeof GEMMA;

const tool = (name: string, parameters: object, isStrict?: boolean): DescribedTool => ({
  ...{ name, description: "", place: name, isStrict },
  parameters: parameters as Record<string, unknown>,
});
const of = (properties: object, ...required: string[]) => ({ type: "object", properties, required });
const text = { type: "string" };
const CITY = tool("city", of({ name: text, days: { type: "integer" } }, "name"));

interface Asked {
  readonly choice?: "auto" | "required" | DescribedTool;
  readonly isSingle?: boolean;
  readonly answer?: GrammarToMake;
}

function ask(template: Template, tools: readonly DescribedTool[], asked: Asked = {}) {
  const { choice = "required", isSingle = false, answer = null } = asked;
  return askTools(template, tools, choice, isSingle, answer);
}

/** The parts of an answer that is written out. */
function partsOf(template: Template, tools: readonly DescribedTool[], said: string): AnswerPart[] {
  const { calls } = ask(template, tools);
  const parts = new AnswerParts(template === GPT ? HARMONY : null, calls);
  return [...[...said].flatMap((piece) => parts.push(piece)), ...parts.end()];
}

const callsOf = (parts: readonly AnswerPart[]) =>
  parts.flatMap((part) => (part.kind === "call" ? [{ ...part.call, id: "" }] : []));

/** Marks as their tokens, all else as bytes. */
function idsOf(said: string): number[] {
  const places = new RegExp(`(${MARKS.map((mark) => mark.replace(/[|"]/g, "\\$&")).join("|")})`);
  return said
    .split(places)
    .flatMap((part) =>
      MARKS.includes(part) ? [1 + MARKS.indexOf(part)] : [...bytesOf(part)].map((byte) => BYTES + byte),
    );
}

async function keeps(grammar: GrammarToMake, ids: readonly number[]): Promise<boolean> {
  const open = await grammars.open(grammar);
  try {
    for (const id of ids) {
      if (!(await allowedIds(open)).includes(id)) return false;
      await open.accept(id);
    }
    return (await allowedIds(open)).includes(0);
  } finally {
    open.close();
  }
}

const THOUGHT = "<|channel|>analysis<|message|>Hm: <b>.<|end|><|start|>assistant";
const HEADER = "<|channel|>commentary to=functions.city <|constrain|>json<|message|>";

describe("a call that is forced", () => {
  it.each<[what: string, template: Template, said: string, isKept: boolean, asked?: Asked]>([
    ["Gemma's", GEMMA, '<|tool_call>call:city{days:3,name:<|"|>Bern "\n<|"|>}<tool_call|>', true],
    ["two", GEMMA, '<|tool_call>call:city{name:<|"|><|"|>}<tool_call|>'.repeat(2), true],
    [
      "two where one is asked for",
      GEMMA,
      '<|tool_call>call:city{name:<|"|><|"|>}<tool_call|>'.repeat(2),
      false,
      { isSingle: true },
    ],
    ["without what is required", GEMMA, "<|tool_call>call:city{days:3}<tool_call|>", false],
    ["words", GEMMA, "Bern.", false],
    ["a number that is none", GEMMA, '<|tool_call>call:city{days:x,name:<|"|>a<|"|>}<tool_call|>', false],
    ["another tool", GEMMA, '<|tool_call>call:town{name:<|"|>a<|"|>}<tool_call|>', false],
    ["no end", GEMMA, '<|tool_call>call:city{name:<|"|>a<|"|>}', false],
    ["Harmony's behind a thought", GPT, `${THOUGHT}${HEADER}{"name": "Bern"}`, true],
    [
      "at once",
      GPT,
      `${HEADER}{"days":3,"name":"a"}`.replace('"days":3,"name":"a"', '"name":"a","days":3'),
      true,
    ],
    [
      "with the recipient in front, as the template has it",
      GPT,
      ' to=functions.city<|channel|>commentary json<|message|>{"name": "Bern"}',
      true,
    ],
    ["a final answer", GPT, "<|channel|>final<|message|>Bern.", false],
    ["a thought alone", GPT, THOUGHT, false],
    ["half of a call", GPT, `${HEADER}{"name": "Be`, false],
    ["a mark in a text", GPT, `${HEADER}{"name": "\\u003c|end|>"}`, true],
    ["escaped otherwise", GPT, `${HEADER}{"name": "<\\u007cend|>"}`, true],
  ])("%s: %#", async (_what, template, said, isKept, asked) => {
    const { grammar } = ask(template, [CITY], asked);
    expect(await keeps(grammar!, idsOf(said))).toBe(isKept);
    const found = callsOf(partsOf(template, [CITY], said));
    if (isKept) expect(found.every(({ name }) => name === "city") && found.length > 0).toBe(true);
  });

  it("has its marks as control tokens only, and spells none in a text", async () => {
    const gemma = ask(GEMMA, [CITY]).grammar!;
    const spelled = (said: string) => [...bytesOf(said)].map((byte) => BYTES + byte);
    const begun = idsOf('<|tool_call>call:city{name:<|"|>');
    expect(await keeps(gemma, spelled('<|tool_call>call:city{name:<|"|>a<|"|>}<tool_call|>'))).toBe(false);
    const end = idsOf('<|"|>}<tool_call|>');
    for (const [inside, isKept] of [
      ["a <| b |> c <tool_call|> <", true],
      ['<|"', false],
      ["<<|c", false],
    ] as const)
      expect(await keeps(gemma, [...begun, ...spelled(inside), ...end]), inside).toBe(isKept);
    // What ends a call in a text does not end it.
    expect(
      callsOf(partsOf(GEMMA, [CITY], '<|tool_call>call:city{name:<|"|>a <tool_call|> b<|"|>}<tool_call|>')),
    ).toEqual([{ id: "", name: "city", arguments: { name: "a <tool_call|> b" } }]);
    const gpt = ask(GPT, [CITY]).grammar!;
    expect(await keeps(gpt, [...idsOf(`${HEADER}{"name": "`), ...spelled("<|end|>"), ...idsOf('"}')])).toBe(
      false,
    );
    expect(await keeps(gpt, spelled(`${HEADER}{"name": "a"}`))).toBe(false);
  });

  // As FunctionGemma's template has it, and no more of that.
  const functionGemma = chatTemplateFromConfig(
    {},
    `{%- for tool in tools %}{{ tool | tojson }}{% endfor %}{%- for message in messages %}{{ message.content }}
{%- for call in message.tool_calls or [] %}<start_function_call>call:{{ call.function.name }}{a:<escape>b<escape>}<end_function_call>
{%- endfor %}{%- endfor %}`,
  )!;
  it.each<[template: Template, said: string, isKept: boolean]>([
    [GEMMA, '<|tool_call>call:city{name:<|"|>a<|"|>}<tool_call|>', true],
    [functionGemma, "<start_function_call>call:city{name:<escape>a <b><escape>}<end_function_call>", true],
    [functionGemma, "<start_function_call>call:city{days:1}<end_function_call>", false],
  ])("is spelled where a vocabulary has no such tokens: %#", async (template, said, isKept) => {
    const open = await spelling.open(ask(template, [CITY]).grammar!);
    const isNext = async (id: number) => (await allowedIds(open)).includes(id);
    let isRight = true;
    for (const byte of bytesOf(said)) {
      isRight &&= await isNext(byte + 2);
      if (isRight) await open.accept(byte + 2);
    }
    expect(isRight && (await isNext(END))).toBe(isKept);
    expect(callsOf(partsOf(template, [CITY], said))).toHaveLength(1);
    open.close();
  });

  it.each<[what: string, parameters: object, place: string]>([
    [
      "a pattern with the mark's character",
      of({ a: { type: "string", pattern: "a\\|b" } }),
      "properties.a.pattern",
    ],
    ["a value with a mark", of({ a: { enum: ['<|"|>'] } }), "properties.a.enum"],
    ["a name with a mark", of({ '<|"|>': text }), "properties"],
    ["arguments that are no object", { type: "string" }, "type"],
  ])("%s is refused for Gemma", async (_what, parameters, place) => {
    const { grammar } = ask(GEMMA, [tool("f", parameters)]);
    await expect(grammars.open(grammar!)).rejects.toMatchObject({ place: `f.parameters.${place}` });
  });
});

describe("a call that the model may make", () => {
  const strict = [{ ...CITY, isStrict: true }];
  const auto = { choice: "auto" } as const;
  it.each<[template: Template, said: string, isKept: boolean]>([
    [GEMMA, "It is <|t> in Bern. <", true],
    [GEMMA, 'So: <|tool_call>call:city{name:<|"|>Bern<|"|>}<tool_call|>', true],
    [GEMMA, "So: <|tool_call>call:city{days:3}<tool_call|>", false],
    [GEMMA, "", true],
    [GPT, `${THOUGHT}<|channel|>final<|message|>In <Bern>.`, true],
    [
      GPT,
      `${THOUGHT}${THOUGHT}<|channel|>commentary<|message|>So:<|end|><|start|>assistant${HEADER}{"name":"Bern"}`,
      true,
    ],
    [GPT, `${THOUGHT}${HEADER}{"days":3}`, false],
  ])("matches where tools are strict: %#", async (template, said, isKept) => {
    expect(ask(template, [CITY], auto).grammar).toBe(null);
    expect(await keeps(ask(template, strict, auto).grammar!, idsOf(said))).toBe(isKept);
  });

  it.each<[template: Template, said: string, isKept: boolean]>([
    [GEMMA, '{"yes":true}', true],
    [GEMMA, '<|tool_call>call:city{name:<|"|>Bern<|"|>}<tool_call|>', true],
    [GEMMA, "Yes.", false],
    [GPT, `${THOUGHT}<|channel|>final<|message|>{"yes":true}`, true],
    [GPT, '<|channel|>final<|message|>{"yes":1}', false],
    [GPT, `${THOUGHT}${HEADER}{"name": "Bern"}`, true],
  ])("instead of an answer that matches a schema: %#", async (template, said, isKept) => {
    const answer = schemaToMake(of({ yes: { type: "boolean" } }, "yes"), "schema", true);
    const { grammar } = ask(template, [CITY], { ...auto, answer });
    expect(await keeps(grammar!, idsOf(said))).toBe(isKept);
  });
});

/** A text that the grammar allows, chosen at random with a will to end; null: it did not in so many tokens. */
async function walk(grammar: GrammarToMake, seed: number): Promise<string | null> {
  const open = await grammars.open(grammar);
  const next = random(seed);
  const said: Uint8Array[] = [];
  try {
    for (let step = 0; step < 500; step++) {
      const ids = await allowedIds(open);
      if (ids.length === 0) throw new Error("no token is allowed");
      if (ids.includes(0)) return Buffer.concat(said).toString("utf8");
      const piece = (id: number) => PIECES[id - BYTES] ?? bytesOf(MARKS[id - 1]);
      // Whole characters only; closers first, and letters, so that most walks end.
      const whole = ids.filter((id) => id < BYTES || piece(id).length > 1 || piece(id)[0] < 128);
      const closer = whole.find(
        (id) => (id < BYTES || '"}]'.includes(String.fromCharCode(piece(id)[0]))) && next() < 0.3,
      );
      const likely = whole.filter(
        (id) => id < BYTES || /^["\]}\w<|]/.test(Buffer.from(piece(id)).toString("latin1")),
      );
      const from = next() < 0.9 && likely.length > 0 ? likely : whole.length > 0 ? whole : ids;
      const id = closer ?? from[Math.floor(next() * from.length)];
      said.push(piece(id));
      await open.accept(id);
    }
    return null;
  } finally {
    open.close();
  }
}

it("whatever is chosen of what is allowed, calls are read back and match", async () => {
  let finished = 0;
  const template = fc.constantFrom(...Object.keys(templates));
  const properties = fc.uniqueArray(
    fc.constantFrom("a", "B", "long name", "a:b", "é", "", "}", "__proto__"),
    {
      maxLength: 3,
    },
  );
  const parameters = fc
    .tuple(properties, fc.array(schema, { minLength: 3, maxLength: 3 }), fc.nat(7), fc.option(schema))
    .map(([names, all, bits, others]) => ({
      type: "object",
      properties: Object.fromEntries(names.map((name, i) => [name, all[i]])),
      required: names.filter((_, i) => (bits >> i) & 1),
      ...(others ? { additionalProperties: others } : {}),
    }));
  await fc.assert(
    fc.asyncProperty(
      ...([
        template,
        parameters,
        parameters,
        fc.constantFrom("required", "named", "auto"),
        fc.nat(),
      ] as const),
      async (file, first, second, how, seed) => {
        const template = templates[file];
        const tools = [tool("f", first, true), tool("g-2", second, true)];
        const choice = how === "named" ? tools[1] : (how as "required" | "auto");
        const { grammar } = ask(template, tools, { choice });
        const said = await walk(grammar!, seed);
        if (said === null) return;
        const calls = callsOf(partsOf(template, tools, said));
        if (how !== "auto") expect(calls.length, said).toBeGreaterThan(0);
        if (calls.length > 0) finished++;
        for (const { name, arguments: given } of calls) {
          if (how === "named") expect(name).toBe("g-2");
          expect(
            validate(name === "f" ? first : second, given),
            `${said} of ${JSON.stringify([first, second])}`,
          ).toEqual([]);
        }
      },
    ),
    { numRuns: 120 },
  );
  expect(finished).toBeGreaterThan(50);
});

it("names are written as the template writes them, and in its order", async () => {
  expect(callFormat(GEMMA)?.marks).toContain('<|"|>');
  const given = { b: "x", A: 1, c: [true, { d: "y" }] };
  const tools = [tool("f", of({ b: text, A: { type: "number" }, c: { type: "array" } }, "b", "A", "c"))];
  const call = { function: { name: "f", arguments: given } };
  const said = GEMMA.render([{ role: "assistant", content: "", tool_calls: [call] }], {});
  const written = said.slice(
    said.indexOf("<|tool_call>"),
    said.indexOf("<tool_call|>") + "<tool_call|>".length,
  );
  expect(await keeps(ask(GEMMA, tools).grammar!, idsOf(written))).toBe(true);
  expect(callsOf(partsOf(GEMMA, tools, written))).toEqual([{ id: "", name: "f", arguments: given }]);
});
