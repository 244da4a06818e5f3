/** Tools with the published templates and vocabularies of Qwen, Llama and Gemma: what the model is told, and how what it says becomes calls. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { callFormat } from "../../src/answer/calls/call-formats.ts";
import type { CallReader, ReadPart } from "../../src/answer/calls/call-readers.ts";
import { Grammars } from "../../src/answer/grammar/grammars.ts";
import { Fields } from "../../src/app/api/fields.ts";
import { readTools } from "../../src/app/api/tools.ts";
import { chatTemplateFromConfig } from "../../src/format/template.ts";
import type { Tokenizer } from "../../src/format/tokenizer.ts";
import type { Piece } from "../../src/index.ts";
import { random } from "../device/random-tensor.ts";
import { goldenTokenizer, type VocabularyName } from "../format/tokenizer-vocabularies.ts";
import { eventsOf, servingTemplate, type TemplateServing } from "./served.ts";

const FAMILIES = {
  "Qwen 2.5": { file: "Qwen-Qwen2.5-7B-Instruct", vocabulary: "qwen2" },
  "Qwen 3": { file: "Qwen-Qwen3-0.6B", vocabulary: "qwen2" },
  "Llama 3.1": { file: "meta-llama-Llama-3.1-8B-Instruct", vocabulary: "llama-bpe" },
  "Llama 3.3": { file: "meta-llama-Llama-3.3-70B-Instruct", vocabulary: "llama-bpe" },
  "Gemma 4": { file: "google-gemma-4-31B-it", vocabulary: "gemma-4" },
  // Its own vocabulary is not here; its marks are texts in this one.
  "gpt-oss": { file: "openai-gpt-oss-20b", vocabulary: "llama-bpe" },
} as const satisfies Record<string, { file: string; vocabulary: VocabularyName }>;
type Family = keyof typeof FAMILIES;

function templateOf(file: string) {
  const jinja = readFileSync(new URL(`../golden/templates/${file}.jinja`, import.meta.url), "utf8");
  return chatTemplateFromConfig({ bos_token: "<bos>", eos_token: "<eos>" }, jinja)!;
}

/** A server whose model has this family's template and vocabulary, and says `said`, token by token. */
async function scripted(family: Family, said: string): Promise<TemplateServing> {
  const { file, vocabulary } = FAMILIES[family];
  const tokenizer: Tokenizer = await goldenTokenizer(vocabulary);
  async function* pieces(prompt: readonly number[]): AsyncGenerator<Piece, never> {
    const ids = tokenizer.encode(said, { special: true });
    const stream = tokenizer.stream({ special: true });
    for (const id of ids) yield { text: stream.push(id), ids: [id] };
    const counts = { promptTokens: prompt.length, reusedTokens: 0, generatedTokens: ids.length };
    return { stopReason: "end", text: said, ids, ...counts, promptMs: 1, generateMs: 1, seed: 1 } as never;
  }
  return servingTemplate(tokenizer, templateOf(file), pieces);
}

const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } } },
  },
} as const;
const asked = { messages: [{ role: "user", content: "How is the weather in Paris?" }], tools: [WEATHER] };
const CHAT = "/v1/chat/completions";
const ARGUMENTS = { city: 'Paris {"x"}', days: 3 };

/** What each family writes to call get_weather with ARGUMENTS. */
const CALLS: Record<Family, string> = {
  "Qwen 2.5": `<tool_call>\n{"name": "get_weather", "arguments": ${JSON.stringify(ARGUMENTS)}}\n</tool_call>`,
  "Qwen 3": `<think>\nHm.\n</think>\n\n<tool_call>\n{"name": "get_weather", "arguments": ${JSON.stringify(ARGUMENTS)}}\n</tool_call>`,
  "Llama 3.1": `{"name": "get_weather", "parameters": ${JSON.stringify(ARGUMENTS)}}`,
  "Llama 3.3": `<|python_tag|>{"name": "get_weather", "parameters": ${JSON.stringify(ARGUMENTS)}}`,
  "Gemma 4": `<|tool_call>call:get_weather{city:<|"|>${ARGUMENTS.city}<|"|>,days:3}<tool_call|>`,
  "gpt-oss": `<|channel|>analysis<|message|>Hm.\n<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>${JSON.stringify(ARGUMENTS)}<|call|>`,
};

describe.each(Object.keys(FAMILIES) as Family[])("%s", (family) => {
  it("is told of the tools and of earlier calls, and a call comes back in the API's form, whole and streamed", async () => {
    const server = await scripted(family, CALLS[family]);
    const history = [
      ...asked.messages,
      {
        role: "assistant",
        content: null,
        tool_calls: [
          { id: "call_1", type: "function", function: { name: "get_weather", arguments: '{"city":"Lyon"}' } },
        ],
      },
      { role: "tool", tool_call_id: "call_1", content: '{"rain": true}' },
      { role: "user", content: "And in Paris?" },
    ];
    const response = await server.post(CHAT, { ...asked, messages: history });
    const { choices } = await response.json();
    for (const text of ["get_weather", "The weather of a city", "Lyon", "rain", "And in Paris?"])
      expect(server.prompt()).toContain(text);
    expect(server.prompt()).not.toContain("call_1");
    const [{ message, finish_reason }] = choices;
    expect(finish_reason).toBe("tool_calls");
    expect(message.content).toBe(null);
    const thinks = family === "Qwen 3" || family === "gpt-oss";
    expect(message.reasoning_content).toBe(thinks ? "Hm.\n" : undefined);
    expect(message.tool_calls).toHaveLength(1);
    expect(message.tool_calls[0]).toMatchObject({ type: "function", function: { name: "get_weather" } });
    expect(message.tool_calls[0].id).toMatch(/^call_\w{24}$/);
    expect(JSON.parse(message.tool_calls[0].function.arguments)).toEqual(ARGUMENTS);

    const events = await eventsOf(await server.post(CHAT, { ...asked, stream: true }));
    type Delta = { content?: string; tool_calls?: { index: number; function: { arguments: string } }[] };
    const deltas = events.map((event) => (event.choices as { delta: Delta }[])[0].delta);
    const calls = deltas.flatMap(({ tool_calls = [] }) => tool_calls);
    expect(calls).toHaveLength(1);
    expect(calls[0].index).toBe(0);
    expect(JSON.parse(calls[0].function.arguments)).toEqual(ARGUMENTS);
    expect(deltas.map(({ content = "" }) => content).join("")).toBe("");
    expect(events.at(-1)).toMatchObject({ choices: [{ finish_reason: "tool_calls" }] });
  });

  it("may answer in words", async () => {
    const server = await scripted(family, "It is sunny: {no call}.");
    const { choices } = await (await server.post(CHAT, asked)).json();
    expect(choices[0]).toMatchObject({
      message: { content: "It is sunny: {no call}." },
      finish_reason: "stop",
    });
    expect(choices[0].message.tool_calls).toBe(undefined);
  });

  it("tool_choice none: it is told of no tools, and what looks like a call is text", async () => {
    const server = await scripted(family, "Sunny.");
    await server.post(CHAT, { ...asked, tool_choice: "none" });
    expect(server.prompt()).not.toContain("get_weather");
  });
});

it.each([
  ["Qwen 2.5", "Two calls:\n", 2],
  ["Gemma 4", "", 2],
] as const)(
  "%s calls several tools at once, or one where only one is wanted",
  async (family, words, count) => {
    const server = await scripted(family, `${words}${CALLS[family]}\n${CALLS[family]}`);
    const { message } = (await (await server.post(CHAT, asked)).json()).choices[0];
    expect(message.tool_calls).toHaveLength(count);
    expect(message.content).toBe(words.trim() === "" ? null : words.trim());
    const one = await (await server.post(CHAT, { ...asked, parallel_tool_calls: false })).json();
    expect(one.choices[0].message.tool_calls).toHaveLength(1);
  },
);

it("templates without tools, or with calls that are not known, are told apart", () => {
  const format = (file: string) => callFormat(templateOf(file));
  expect(format("google-gemma-2-2b-it")).toBe(null);
  expect(format("Qwen-Qwen2.5-7B-Instruct")?.marks).toContain("<tool_call>");
  expect(format("google-gemma-4-31B-it")?.marks).toContain("<|tool_call>");
});

it("tools of any form are read, or refused with an error", async () => {
  const server = await scripted("Qwen 2.5", CALLS["Qwen 2.5"]);
  const odd = fc.oneof(
    fc.constantFrom<unknown>(null, "auto", "required", "none", "function", "f", 1, true, {}, []),
    fc.jsonValue({ maxDepth: 3 }),
  );
  const described = fc.record(
    { name: fc.oneof(fc.constantFrom("f", "g"), odd), description: odd, parameters: odd, strict: odd },
    { requiredKeys: ["name"] },
  );
  const tool = fc.oneof(
    fc.record({ type: fc.constantFrom("function", "f", null), function: described }),
    odd,
  );
  const choice = fc.oneof(odd, fc.record({ type: fc.constant("function"), function: described }));
  await fc.assert(
    fc.asyncProperty(fc.array(tool, { maxLength: 3 }), choice, odd, async (tools, tool_choice, parallel) => {
      const body = { messages: asked.messages, tools, tool_choice, parallel_tool_calls: parallel };
      const response = await server.post(CHAT, body);
      const answer = await response.json();
      expect(server.faults.splice(0), JSON.stringify(answer)).toEqual([]);
      if (response.status !== 200) {
        expect(response.status).toBe(400);
        expect(answer.error.message).not.toMatch(/undefined|\[object/);
      }
    }),
    { numRuns: 400 },
  );
});

describe("what cannot be promised is refused", () => {
  const wrong: [what: string, family: Family, body: object, message: RegExp][] = [
    [
      "Llama 3.1, strict",
      "Llama 3.1",
      { tools: [{ ...WEATHER, function: { ...WEATHER.function, strict: true } }] },
      /strict arguments need tool_choice/,
    ],
    [
      "an unknown tool",
      "Qwen 2.5",
      { tool_choice: { type: "function", function: { name: "f" } } },
      /is "f"; allowed: get_weather/,
    ],
    ["required without tools", "Qwen 2.5", { tools: [], tool_choice: "required" }, /auto or none/],
    ["a tool twice", "Qwen 2.5", { tools: [WEATHER, WEATHER] }, /names that differ/],
    [
      "an odd name",
      "Qwen 2.5",
      { tools: [{ type: "function", function: { name: 'a"b' } }] },
      /letters, digits/,
    ],
    [
      "a format beside tools that calls cannot be told from",
      "Llama 3.1",
      { response_format: { type: "json_object" } },
      /tools together with a schema need tool_choice required, a named tool, or none/,
    ],
  ];
  it.each(wrong)("%s", async (_what, family, body, message) => {
    const server = await scripted(family, "");
    const response = await server.post(CHAT, { ...asked, ...body });
    expect(response.status).toBe(400);
    expect((await response.json()).error.message).toMatch(message);
  });
});

describe("readers", () => {
  const [qwen, llama, gemma] = (["Qwen 2.5", "Llama 3.1", "Gemma 4"] as const).map((family) => {
    const format = callFormat(templateOf(FAMILIES[family].file))!;
    return () => format.reader([{ name: "f", parameters: {} }]);
  });
  const read = (reader: CallReader, pieces: readonly string[]) => {
    const parts = [...pieces.flatMap((piece) => reader.push(piece)), ...reader.end()];
    const joined: ReadPart[] = [];
    for (const part of parts) {
      const last = joined.at(-1);
      if (last?.kind === "text" && part.kind === "text")
        joined[joined.length - 1] = { kind: "text", text: last.text + part.text };
      else joined.push(part);
    }
    return joined;
  };
  const content = (text: string): ReadPart => ({ kind: "text", text });
  const call = (given: Record<string, unknown>): ReadPart => ({
    kind: "call",
    call: { name: "f", arguments: given },
  });

  it.each<[what: string, reader: () => CallReader, text: string, expected: ReadPart[]]>([
    ["words, then a call", qwen, 'Yes. <tool_call>{"name":"f"}</tool_call>', [content("Yes."), call({})]],
    [
      "arguments as text",
      qwen,
      '<tool_call>{"name":"f","arguments":"{\\"a\\":1}"}</tool_call>',
      [call({ a: 1 })],
    ],
    [
      "its own end in a text",
      qwen,
      '<tool_call>{"name":"f","arguments":{"a":"</tool_call>"}}</tool_call>',
      [call({ a: "</tool_call>" })],
    ],
    [
      "a call that is none",
      qwen,
      "a  <tool_call>f()</tool_call> b",
      [content("a  <tool_call>f()</tool_call> b")],
    ],
    ["a call cut off", qwen, '<tool_call>{"name":"f","argu', [content('<tool_call>{"name":"f","argu')]],
    ["a call without its end", qwen, '<tool_call>{"name":"f","arguments":{}}', [call({})]],
    ["a mark cut off", qwen, "a <tool_ca", [content("a <tool_ca")]],
    ["two calls", llama, '{"name":"f","parameters":{"a":1}}; {"name":"f"}', [call({ a: 1 }), call({})]],
    [
      "JSON that is no call",
      llama,
      '{"name":"g","parameters":{}}',
      [content('{"name":"g","parameters":{}}')],
    ],
    ["JSON and more", llama, '{"name":"f"} is it', [content('{"name":"f"} is it')]],
    ["nothing", llama, "", []],
    [
      "nested",
      gemma,
      '<|tool_call>call:f{a:{b:[1,<|"|>x,}]<|"|>,true],c:null},d:-1.5}<tool_call|>',
      [call({ a: { b: [1, "x,}]", true], c: null }, d: -1.5 })],
    ],
    ["no arguments", gemma, "<|tool_call>call:f{}<tool_call|>", [call({})]],
    ["bare words", gemma, "<|tool_call>call:f{a: in Paris}<tool_call|>", [call({ a: "in Paris" })]],
    [
      "a key called __proto__",
      gemma,
      "<|tool_call>call:f{__proto__:1}<tool_call|>",
      [call(JSON.parse('{"__proto__":1}'))],
    ],
    [
      "an open brace",
      gemma,
      "<|tool_call>call:f{a:1<tool_call|>",
      [content("<|tool_call>call:f{a:1<tool_call|>")],
    ],
    [
      "an open text",
      gemma,
      '<|tool_call>call:f{a:<|"|>b}<tool_call|>',
      [content('<|tool_call>call:f{a:<|"|>b}<tool_call|>')],
    ],
  ])("%s", (_what, reader, text, expected) => {
    expect(read(reader(), [text])).toEqual(expected);
    expect(read(reader(), [...text])).toEqual(expected);
  });

  const atoms = [
    "<tool_call>",
    "</tool_call>",
    '{"name":"f","arguments":{}}',
    '{"name":"f","parameters":{"a":"}"}}',
    ";",
    " ",
    "\n",
    "<|python_tag|>",
    "<",
    "{",
    "a",
    "<|tool_call>",
    "<tool_call|>",
    "call:f{",
    'a:<|"|>',
    ",",
    "}",
    "[",
    "]",
  ];
  const text = fc
    .array(fc.oneof(fc.constantFrom(...atoms), fc.string({ maxLength: 3 })), { maxLength: 12 })
    .map((all) => all.join(""));

  it("give the same for any cut of the text, and lose nothing but blanks around calls", () => {
    fc.assert(
      fc.property(text, fc.array(fc.nat(80)), fc.constantFrom(qwen, llama, gemma), (all, cuts, reader) => {
        const places = [...new Set([0, ...cuts.filter((cut) => cut < all.length), all.length])].sort(
          (a, b) => a - b,
        );
        const pieces = places.slice(1).map((end, i) => all.slice(places[i], end));
        const whole = read(reader(), [all]);
        expect(read(reader(), pieces)).toEqual(whole);
        if (whole.every(({ kind }) => kind === "text"))
          expect(read(reader(), [all])).toEqual(all === "" ? [] : [content(all)]);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("a forced call", () => {
  const bytes = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
  const tokenizer = {
    vocab: 257,
    endIds: new Set([256]),
    bytes: (id: number) => bytes[id] ?? new Uint8Array(0),
  } as unknown as Tokenizer;
  const grammars = new Grammars(tokenizer, 257);
  afterAll(() => grammars.close());
  const other = {
    type: "function",
    function: {
      name: "other",
      parameters: {
        type: "object",
        properties: { n: { type: "integer", minimum: 1, maximum: 12 } },
        required: ["n"],
      },
    },
  };

  /** Random words that the grammar allows. */
  async function walk(family: Family, body: object, seed: number): Promise<string> {
    const model = { chatTemplate: templateOf(FAMILIES[family].file) };
    const asked = new Fields({ tools: [WEATHER, other], ...body });
    const { grammar } = readTools(asked, { model, names: ["m"] } as never, null);
    const open = await grammars.open(grammar!);
    const next = random(seed);
    let text = "";
    try {
      for (let step = 0; step < 600; step++) {
        const mask = (await open.allowed())!;
        const ids = [...Array(257).keys()].filter((id) => (mask[id >> 5] >> (id & 31)) & 1);
        if (ids.includes(256) && (ids.length === 1 || step > 100 || next() < 0.5)) return text;
        const likely = ids.filter((id) => id > 32 && id < 127);
        const closer = likely.find((id) => '"}'.includes(String.fromCharCode(id)) && next() < 0.4);
        const from = likely.length > 0 ? likely : ids.filter((id) => id < 256);
        const id = closer ?? from[Math.floor(next() * from.length)];
        text += String.fromCharCode(id);
        await open.accept(id);
      }
      throw new Error(`no end: ${text}`);
    } finally {
      open.close();
    }
  }

  it.each<[Family, object, (names: string[]) => void]>([
    ["Qwen 2.5", { tool_choice: "required" }, (names) => expect(names.length).toBeGreaterThan(0)],
    [
      "Qwen 2.5",
      { tool_choice: "required", parallel_tool_calls: false },
      (names) => expect(names).toHaveLength(1),
    ],
    [
      "Qwen 2.5",
      { tool_choice: { type: "function", function: { name: "other" } } },
      (names) => expect(names).toEqual(["other"]),
    ],
    ["Llama 3.1", { tool_choice: "required" }, (names) => expect(names).toHaveLength(1)],
    [
      "Llama 3.1",
      { tool_choice: { type: "function", function: { name: "get_weather" } } },
      (names) => expect(names).toEqual(["get_weather"]),
    ],
  ])("%s %j", async (family, body, check) => {
    for (let seed = 0; seed < 12; seed++) {
      const text = await walk(family, body, seed);
      const reader = callFormat(templateOf(FAMILIES[family].file))!.reader(
        ["get_weather", "other"].map((name) => ({ name, parameters: {} })),
      );
      const parts = [...reader.push(text), ...reader.end()];
      const names = parts.map((part) => {
        if (part.kind === "text") throw new Error(`${text} is no call`);
        const { name, arguments: given } = part.call;
        if (name === "other") expect(given.n).toBeOneOf([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        return name;
      });
      check(names);
    }
  });
});
