/** Calls as Qwen3-Coder and Qwen 3.5 write them: recognised by the template, their values read by the tools' schemas. */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { callFormat } from "../../src/answer/calls/call-formats.ts";
import { callGrammar } from "../../src/answer/calls/call-grammar.ts";
import { OPEN } from "../../src/answer/calls/call-readers.ts";
import { readXmlCall } from "../../src/answer/calls/xml-call.ts";
import { chatTemplateFromConfig } from "../../src/format/template.ts";
import { allowedIds, bytesOf, END, grammars } from "./grammars.ts";

afterAll(() => grammars.close());

/** How these templates write calls, and no more of them. */
const TEMPLATE = `{%- for tool in tools %}{{ tool | tojson }}{% endfor %}
{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls or [] %}{%- set call = call.function %}
{{- '<tool_call>\\n<function=' + call.name + '>\\n' }}
{%- for name, value in call.arguments | items %}
{{- '<parameter=' + name + '>\\n' }}
{{- value | tojson | safe if value is mapping or (value is sequence and value is not string) else value | string }}
{{- '\\n</parameter>\\n' }}
{%- endfor %}{{- '</function>\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endfor %}`;

const template = chatTemplateFromConfig({}, TEMPLATE)!;

const TOOL = {
  name: "f",
  parameters: {
    type: "object",
    properties: {
      text: { type: "string" },
      count: { type: "integer" },
      flag: { type: "boolean" },
      list: { type: "array" },
      map: { type: "object" },
      size: { enum: [1, 2] },
      color: { enum: ["1", "red"] },
      maybe: { anyOf: [{ type: "string" }, { type: "null" }] },
      either: { oneOf: [{ type: "number" }, { type: "null" }] },
      nothing: {},
    },
  },
};

describe("calls in XML", () => {
  it.each<[what: string, inside: string, expected: Record<string, unknown>]>([
    ["a text of two lines", "<parameter=text>\na\nb\n</parameter>\n", { text: "a\nb" }],
    ["a text that looks like a number", "<parameter=text>\n5\n</parameter>\n", { text: "5" }],
    ["a text with blank lines around", "<parameter=text>\n\n a\n\n</parameter>\n", { text: "\n a\n" }],
    ["an empty text", "<parameter=text>\n\n</parameter>\n", { text: "" }],
    ["on one line", "<parameter=text>a</parameter><parameter=count>3</parameter>", { text: "a", count: 3 }],
    ["a flag as Python has it", "<parameter=flag>\nTrue\n</parameter>\n", { flag: true }],
    ["a flag as JSON has it", "<parameter=flag>\nfalse\n</parameter>\n", { flag: false }],
    ["a list", '<parameter=list>\n[1, {"a": "b"}]\n</parameter>\n', { list: [1, { a: "b" }] }],
    ["a map", '<parameter=map>\n{"a": [null]}\n</parameter>\n', { map: { a: [null] } }],
    ["numbers of an enum", "<parameter=size>\n2\n</parameter>\n", { size: 2 }],
    ["texts of an enum", "<parameter=color>\n1\n</parameter>\n", { color: "1" }],
    ["null where it may be", "<parameter=maybe>\nnull\n</parameter>\n", { maybe: null }],
    ["one of several", "<parameter=either>\n-1.5\n</parameter>\n", { either: -1.5 }],
    ["what is no number stays text", "<parameter=count>\nmany\n</parameter>\n", { count: "many" }],
    ["no schema: texts", "<parameter=nothing>\n7\n</parameter>\n", { nothing: "7" }],
    ["no schema: lists", "<parameter=other>\n[7]\n</parameter>\n", { other: [7] }],
    [
      "marks in a text",
      "<parameter=text>\na </parameter> <b>\n</parameter>\n",
      { text: "a </parameter> <b>" },
    ],
    ["a key called __proto__", "<parameter=__proto__>\n1\n</parameter>\n", JSON.parse('{"__proto__":"1"}')],
    ["no parameters", "", {}],
  ])("%s", (_, inside, expected) => {
    const call = readXmlCall(`\n<function=f>\n${inside}</function>\n`, [TOOL]);
    expect(call === OPEN ? call : call && { ...call, arguments: { ...call.arguments } }).toEqual({
      name: "f",
      arguments: expected,
    });
  });

  it.each(["a", "a\n</parameter>\nb"])("a parameter that does not end may go on: %j", (text) => {
    expect(readXmlCall(`<function=f>\n<parameter=text>\n${text}</function>\n`, [TOOL])).toBe(OPEN);
  });

  it("may hold its own end in a text", () => {
    const inside = "<parameter=text>\na </tool_call> b\n</parameter>\n";
    const written = `<tool_call>\n<function=f>\n${inside}</function>\n</tool_call>`;
    const reader = callFormat(template)!.reader([TOOL]);
    expect([...written].flatMap((piece) => reader.push(piece))).toEqual([
      { kind: "call", call: { name: "f", arguments: { text: "a </tool_call> b" } } },
    ]);
  });

  it.each(["f()", '{"name": "f"}', "<function=>\n</function>", ""])("%j is none", (text) => {
    expect(readXmlCall(text, [TOOL])).toBeNull();
  });

  it("comes back from what the template makes of it", () => {
    const format = callFormat(template)!;
    const given = fc.record({
      text: fc.string().filter((text) => !/<\/?(parameter|function|tool_call)/.test(text)),
      count: fc.integer(),
      flag: fc.boolean(),
      list: fc.array(fc.jsonValue(), { maxLength: 3 }),
    });
    fc.assert(
      fc.property(given, (given) => {
        const call = { function: { name: "f", arguments: given } };
        const said = template.render([{ role: "assistant", content: "Yes.", tool_calls: [call] }], {
          tools: [],
        });
        const reader = format.reader([TOOL]);
        const pieces = said.slice(said.indexOf("Yes.")).replace("<|im_end|>\n", "");
        const parts = [...[...pieces].flatMap((piece) => reader.push(piece)), ...reader.end()];
        expect(parts.at(-1)).toEqual({
          kind: "call",
          call: { name: "f", arguments: JSON.parse(JSON.stringify(given)) },
        });
      }),
      { numRuns: 100 },
    );
  });
});

describe("calls in XML that have to be made", () => {
  const asked = { ...TOOL, description: "", place: "tools[0]", isStrict: undefined };
  const grammarOf = (parameters: object, choice: "required" | "auto" = "required") =>
    callGrammar(callFormat(template)!, [{ ...asked, parameters: parameters as never }], choice, false, null)!;
  const text = { type: "string" };
  const of = (properties: object, ...required: string[]) => ({ type: "object", properties, required });
  const call = (inside: string) => `<tool_call>\n<function=f>\n${inside}</function>\n</tool_call>`;
  const one = (name: string, value: string) => `<parameter=${name}>\n${value}\n</parameter>\n`;

  async function keeps(parameters: object, written: string): Promise<boolean> {
    const open = await grammars.open(grammarOf(parameters));
    try {
      for (const byte of bytesOf(written)) {
        if (!(await allowedIds(open)).includes(byte + 2)) return false;
        await open.accept(byte + 2);
      }
      return (await allowedIds(open)).includes(END);
    } finally {
      open.close();
    }
  }

  it.each<[what: string, parameters: object, inside: string, isKept: boolean]>([
    ["nothing", of({}), "", true],
    [
      "a text that is much like its end",
      of({ text }, "text"),
      one("text", "a < b </p <</parameter \n</para"),
      true,
    ],
    [
      "a number and a list",
      of({ n: { type: "integer" }, l: { type: "array" } }),
      one("n", "5") + one("l", '[1, "a"]'),
      true,
    ],
    ["without what may be left out", of({ n: { type: "integer" }, text }, "text"), one("text", "x"), true],
    ["without what is required", of({ text }, "text"), "", false],
    ["a word for a number", of({ n: { type: "integer" } }, "n"), one("n", "five"), false],
    ["one of some", of({ c: { enum: ["red", "1"] } }, "c"), one("c", "1"), true],
    ["another", of({ c: { enum: ["red", "1"] } }, "c"), one("c", "blue"), false],
    ["a text or nothing", of({ m: { anyOf: [text, { type: "null" }] } }), one("m", "null"), true],
    ["another name", of({ text }), one("txt", "a"), false],
    ["two ends", of({ text }), `${one("text", "a")}</parameter>\n`, false],
  ])("%s", async (_what, parameters, inside, isKept) => {
    expect(await keeps(parameters, call(inside))).toBe(isKept);
    if (isKept) {
      const [part] = callFormat(template)!
        .reader([{ name: "f", parameters: parameters as never }])
        .push(call(inside));
      expect(part).toMatchObject({ kind: "call", call: { name: "f" } });
    }
  });

  it("two may follow each other", async () => {
    const parameters = of({ text }, "text");
    expect(await keeps(parameters, `${call(one("text", "a"))}\n${call(one("text", "b"))}`)).toBe(true);
    expect(await keeps(parameters, "Hello.")).toBe(false);
  });

  it.each<[object, RegExp]>([
    [
      of({ t: { type: "string", pattern: "a+" } }),
      /tools\[0\]\.parameters\.properties\.t\.pattern in arguments that this model writes as bare text/,
    ],
    [of({ t: { $ref: "#/$defs/a" } }), /bare text/],
    [of({ t: { enum: ["a", 1] } }), /bare text/],
    [{ anyOf: [{ type: "object" }] }, /bare text/],
  ])("%j is refused", async (parameters, message) => {
    await expect(grammars.open(grammarOf(parameters))).rejects.toThrow(message);
  });
});
