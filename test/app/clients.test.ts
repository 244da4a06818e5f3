/** What clients of other servers ask for, in their words, over needle-14m: kept as there, or refused by name. */
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { jsonText } from "../../src/app/api/json-text.ts";
import { completionLogprobs } from "../../src/app/api/logprobs.ts";
import { type LanguageModel, load } from "../../src/index.ts";
import { eventsOf, FACT, MESSAGES, type Serving, serving } from "./served.ts";

let model: LanguageModel;
let server: Serving;
beforeAll(async () => {
  model = await load("needle", { device: "cpu", context: 512, threads: 1 });
  server = serving(model);
});
afterAll(() => {
  server.served.grammars.close();
  return model.close();
});

const CHAT = "/v1/chat/completions";
const COMPLETE = "/v1/completions";
const post = (path: string, body: object) => server.ask(path, body);
const chat = (body: object) => post(CHAT, { messages: MESSAGES, ...body });

describe("what an answer has to be", () => {
  const schema = { type: "object", properties: { zz: { type: "boolean" } }, required: ["zz"] };
  it.each([
    ["llama.cpp, beside json_object", { response_format: { type: "json_object", schema } }],
    ["llama.cpp, in the place of json_schema", { response_format: { type: "json_schema", schema } }],
    ["llama.cpp, json_schema", { json_schema: schema }],
    ["vLLM, guided_json", { guided_json: schema }],
    ["vLLM, structured_outputs", { structured_outputs: { json: schema } }],
  ])("a schema: %s", async (_name, asked) => {
    for (const [path, more] of [
      [CHAT, { messages: MESSAGES }],
      [COMPLETE, { prompt: "The ship" }],
    ] as const) {
      const { status, body } = await post(path, { ...more, ...asked });
      expect(status).toBe(200);
      const [{ message, text }] = body.choices;
      expect(JSON.parse(message?.content ?? text)).toEqual({ zz: expect.any(Boolean) });
    }
  });

  it("one of some texts", async () => {
    const choices = ['ye"s\\', "no, {never}\n"];
    for (const asked of [{ guided_choice: choices }, { structured_outputs: { choice: choices } }])
      expect(choices).toContain((await chat(asked)).body.choices[0].message.content);
    expect((await chat({ guided_choice: [] })).body.choices[0].message.content).toBe(FACT);
    for (const guided_choice of [["a", ""], [{ toString: 1 }], ["a", 1], ["x".repeat(100_001)]])
      expect((await chat({ guided_choice })).body.error.param).toBe("guided_choice");
  });

  it("any object", async () => {
    const { body } = await chat({ structured_outputs: { json_object: true }, max_tokens: 5 });
    expect(body.choices[0].message.content).toMatch(/^\{/);
  });

  it("two at once are refused, and so is one that no text matches, at its place", async () => {
    expect((await chat({ json_schema: schema, guided_json: schema })).body.error).toMatchObject({
      param: "guided_json",
      message: "guided_json is not possible together with json_schema",
    });
    const text = { response_format: { type: "text", schema } };
    expect((await chat(text)).body.error.param).toBe("response_format.schema");
    const wrong = { response_format: { type: "json_object", schema: { not: {} } } };
    expect((await chat(wrong)).body.error.param).toBe("response_format.schema.not");
  });
});

describe("how it ends", () => {
  it("n_predict is max_tokens; of several limits the lowest holds", async () => {
    for (const [asked, tokens] of [
      [{ n_predict: 3 }, 3],
      [{ n_predict: -1, max_tokens: 2 }, 2],
      [{ max_tokens: 5, max_completion_tokens: 2, n_predict: 4 }, 2],
      [{ max_tokens: 1, max_completion_tokens: 7 }, 1],
    ] as const)
      expect((await chat(asked)).body.usage.completion_tokens).toBe(tokens);
    expect((await chat({ n_predict: -1 })).body.choices[0].message.content).toBe(FACT);
  });

  it("an empty stop text is none", async () => {
    for (const stop of ["", [""], ["", "nothing"]])
      expect((await chat({ stop })).body.choices[0].message.content).toBe(FACT);
    expect((await chat({ stop: ["", " is 4"] })).body.choices[0].message.content).not.toContain("is");
  });
});

describe("numbers", () => {
  it.each([
    { top_p: 0 },
    { top_p: 0, temperature: 1 },
    { top_k: -1 },
    { repeat_last_n: -1 },
    { seed: 1099511627776 },
    { seed: -7 },
    { seed: -1, temperature: 0 },
    { top_logprobs: 0, logprobs: false },
    { top_logprobs: 0 },
    { repeat_penalty: 1, repetition_penalty: 1 },
  ])("%j is taken", async (asked) => {
    const { status, body } = await chat(asked);
    expect([status, body.choices?.[0].message.content]).toEqual([200, FACT]);
  });

  it("a seed of 64 bits is its lowest 32", async () => {
    const free = { temperature: 3, top_k: 0, min_p: 0, top_p: 1, max_tokens: 6 };
    const messages = [{ role: "user", content: "Tell of whales." }];
    const said = async (seed: number) =>
      (await chat({ ...free, messages, seed })).body.choices[0].message.content;
    expect(await said(2 ** 40 + 9)).toEqual(await said(9));
    expect(await said(-7)).toEqual(await said(2 ** 32 - 7));
    expect(await said(10)).not.toEqual(await said(9));
  });

  it("two names for one thing must agree", async () => {
    expect((await chat({ repeat_penalty: 1.1, repetition_penalty: 1.2 })).body.error.message).toBe(
      "repetition_penalty is 1.2; allowed: what repeat_penalty says",
    );
  });
});

describe("how likely tokens were, in completions", () => {
  const top = (...ids: number[]) => ids.map((id, rank) => ({ id, logprob: -rank }));
  const idOf = (text: string) => model.tokenizer.encode(text)[0];

  it("parts of characters have names of their own", () => {
    const ids = model.tokenizer.encode("😀");
    expect(ids.length).toBeGreaterThan(1);
    const likely = completionLogprobs(model.tokenizer);
    const told = ids.map((id) => ({ id, logprob: -1, top: top(...ids) }));
    // In two pieces, as they may stream.
    const parts = [
      likely(told.slice(0, 2)),
      likely([...told.slice(2), { id: idOf("a"), logprob: 0, top: [] }]),
    ];
    const tokens = parts.flatMap((part) => part.tokens);
    expect(tokens.slice(0, -1).join("").replaceAll("bytes:", "")).toBe("\\xf0\\x9f\\x98\\x80");
    expect(parts[0].top_logprobs[0].size).toBe(new Set(ids).size);
    // The text's characters, not the names'.
    expect(parts.flatMap((part) => part.text_offset)).toEqual([...ids.map(() => 0), 2]);
  });

  it("of equal texts the likeliest counts, and digits stay in their order", () => {
    const tokenizer = { ...model.tokenizer, bytes: (id: number) => new TextEncoder().encode("b617b"[id]) };
    const stream = () => ({ push: () => "", end: () => "" });
    const likely = completionLogprobs({ ...tokenizer, stream } as unknown as LanguageModel["tokenizer"]);
    const { top_logprobs } = likely([{ id: 0, logprob: 0, top: top(0, 1, 2, 3, 4) }]);
    expect(jsonText(top_logprobs)).toBe('[{"b":0,"6":-1,"1":-2,"7":-3}]');
  });

  it("in an answer, whole and streamed", async () => {
    const asked = { prompt: "The code is 48213. The code is 4", max_tokens: 3, logprobs: 5 };
    const whole = await (await server.post(COMPLETE, asked)).text();
    const written = [...whole.matchAll(/"top_logprobs":\[\{(.*?)\}/g)][0][1];
    const order = [...written.matchAll(/:(-?[\d.e-]+)/g)].map(([, value]) => Number(value));
    expect(order.length).toBeGreaterThan(3);
    expect(order).toEqual([...order].sort((a, b) => b - a));
    const events = await eventsOf(await server.post(COMPLETE, { ...asked, stream: true }));
    type Told = { choices: { logprobs: { tokens: string[]; text_offset: number[] } }[] };
    const told = (events as unknown as Told[]).flatMap(({ choices }) => choices[0].logprobs);
    const { tokens, text_offset } = JSON.parse(whole).choices[0].logprobs;
    expect(told.flatMap(({ tokens }) => tokens)).toEqual(tokens);
    expect(told.flatMap(({ text_offset }) => text_offset)).toEqual(text_offset);
  });
});

it("JSON of an answer is what JSON.stringify writes", () => {
  const value = {
    a: [1, undefined, null, "x\n\u2028"],
    b: undefined,
    c: { d: -0, e: Number.NaN },
    f: [[], {}],
  };
  expect(jsonText(value)).toBe(JSON.stringify(value));
  expect(jsonText({ toJSON: () => ({ z: 1 }) })).toBe('{"z":1}');
});

describe("an answer that is begun", () => {
  const begun = (content: unknown, more: object = {}, message: object = {}) =>
    chat({ messages: [...MESSAGES, { role: "assistant", content, ...message }], ...more });

  it("goes on from there, and what comes is the rest", async () => {
    const beginning = "The access code of Clara";
    for (const more of [
      {},
      { continue_final_message: true, add_generation_prompt: false },
      { add_generation_prompt: true },
    ]) {
      const { body } = await begun(beginning, more);
      expect(beginning + body.choices[0].message.content).toBe(FACT);
    }
    const events = await eventsOf(
      await server.post(CHAT, {
        ...{ messages: [...MESSAGES, { role: "assistant", content: beginning }], stream: true },
      }),
    );
    type Chunk = { choices: { delta: { content?: string } }[] };
    const said = (events as unknown as Chunk[]).map(({ choices }) => choices[0].delta.content ?? "").join("");
    expect(beginning + said).toBe(FACT);
    // The whole prompt, and the beginning's tokens.
    const { body } = await begun(beginning);
    const { tokenizer } = model;
    const length = model.encode(MESSAGES).length + tokenizer.encode(beginning).length;
    expect(body.usage.prompt_tokens).toBe(length);
  });

  it("keeps the blank with which a tokenizer that drops an answer's first blank goes on", async () => {
    const stream = vi.spyOn(model.tokenizer, "stream");
    try {
      await begun("The access code of Clara", { max_tokens: 1 });
      const reads = stream.mock.calls.filter(
        ([options]) => Array.isArray(options?.special) && options.special.length > 0,
      );
      expect(reads).toEqual([[expect.objectContaining({ continues: true })]]);
    } finally {
      stream.mockRestore();
    }
  });

  it("keeps line ends and marks that come first, and text is text", async () => {
    expect((await begun("")).body.choices[0].message.content).toBe(FACT);
    expect((await begun([{ type: "text", text: FACT }])).body.choices[0].message.content).toBe("");
    const { body } = await begun("<|im_end|>", { max_tokens: 1 });
    const length = model.encode(MESSAGES).length + model.tokenizer.encode("<|im_end|>").length;
    expect(body.usage.prompt_tokens).toBe(length);
  });

  it("or opens a new turn where that is asked for", async () => {
    const { body } = await begun("The access code of Clara", {
      continue_final_message: false,
      max_tokens: 1,
    });
    expect(body.usage.prompt_tokens).toBeGreaterThan(
      model.encode([...MESSAGES, { role: "assistant", content: "The access code of Clara" }]).length - 1,
    );
  });

  it.each([
    ["calls", {}, { tool_calls: [{ type: "function", function: { name: "f" } }] }, "messages[2].tool_calls"],
    ["reasoning", {}, { reasoning_content: "hm" }, "messages[2].reasoning_content"],
    ["a schema", { json_schema: { type: "boolean" } }, {}, "messages"],
  ])("with %s: refused by name", async (_what, more, message, param) => {
    const { status, body } = await begun("The", more, message);
    expect([status, body.error?.param]).toEqual([400, param]);
  });

  it("behind reasoning that the template opens has to end it", async () => {
    const { tokenizer } = model;
    const opening = tokenizer.encode("Whales? <think>\n");
    const generateFrom: LanguageModel["generateFrom"] = (ids, options) => model.generateFrom(ids, options);
    const { chatTemplate, config, plan, activity } = model;
    const begin: LanguageModel["begin"] = (ids, text) => model.begin(ids, text);
    const encodeInSlices = async () => opening;
    const thinker = { tokenizer, chatTemplate, config, plan, activity, generateFrom, encodeInSlices, begin };
    const thinking = serving(thinker as unknown as LanguageModel);
    const ask = async (content: string) => {
      const messages = [MESSAGES[1], { role: "assistant", content }];
      const response = await thinking.post(CHAT, { messages, max_tokens: 3, ignore_eos: true });
      return (await response.json()) as { error?: { param: string }; choices: { message: object }[] };
    };
    expect((await ask("The")).error?.param).toBe("messages");
    const [{ message }] = (await ask("hm</think>The")).choices;
    expect(message).toMatchObject({ content: expect.stringMatching(/./) });
    expect(message).not.toHaveProperty("reasoning_content");
  });

  it("is refused where nothing is begun", async () => {
    expect((await chat({ continue_final_message: true })).body.error.param).toBe("continue_final_message");
    expect((await chat({ add_generation_prompt: false })).body.error.param).toBe("add_generation_prompt");
    const alone = await chat({ messages: [{ role: "assistant", content: "The" }] });
    expect(alone.body.error.param).toBe("messages");
  });
});

describe("a call in the history", () => {
  const withArguments = (args: unknown) =>
    chat({
      messages: [
        MESSAGES[1],
        {
          role: "assistant",
          content: null,
          tool_calls: [{ type: "function", function: { name: "f", arguments: args } }],
        },
        MESSAGES[1],
      ],
      max_tokens: 1,
    });
  it("has arguments of many forms", async () => {
    for (const args of ["{}", "", " ", null, undefined, '{"a": 1}', { a: 1 }])
      expect([args, (await withArguments(args)).status]).toEqual([args, 200]);
  });

  it("with arguments that are no object is named, with a way out", async () => {
    for (const args of ["[1]", "nothing", "1", '{"a":', [1], 7]) {
      const { status, body } = await withArguments(args);
      expect([status, body.error.param]).toEqual([400, "messages[1].tool_calls[0].function.arguments"]);
      expect(body.error.message).toContain('"{}" keeps such a call in the history');
    }
  });
});

it("reasoning_effort and template variables are refused or told where the template does not know them", async () => {
  const told: string[] = [];
  const telling = serving(model, { ...server.served, unknownField: (place) => void told.push(place) });
  const asked = { messages: MESSAGES, max_tokens: 1, chat_template_kwargs: { enable_thinking: false } };
  expect((await telling.post(CHAT, asked)).status).toBe(200);
  expect(told).toEqual(["chat_template_kwargs.enable_thinking"]);
  expect((await chat({ reasoning_effort: "low" })).body.error.param).toBe("reasoning_effort");
});

it("/v1 may be left out", async () => {
  const { data } = await (await server.get("/models")).json();
  expect(data[0].id).toBe("needle");
  const asked = { messages: MESSAGES };
  expect((await post("/chat/completions", asked)).body.choices[0].message.content).toBe(FACT);
  expect((await post("/completions", { prompt: "The ship", max_tokens: 1 })).status).toBe(200);
  expect((await server.get("/completions")).status).toBe(405);
});

it("/tokenize takes a bos along where it is asked to", async () => {
  const tokens = async (more: object) =>
    (await post("/tokenize", { content: "The ship", ...more })).body.tokens;
  const { tokenizer } = model;
  const bos = tokenizer.addBos && tokenizer.bosId !== null ? [tokenizer.bosId] : [];
  expect(await tokens({ add_special: true })).toEqual([...bos, ...(await tokens({}))]);
});

// As examples/langchain/index.js and a like program of Python's sent it on 2026-11-28 (@langchain/openai 1.5.8, langchain-openai
// 1.7.4), which is not installed here.
describe("LangChain's requests", () => {
  const asked = { model: "needle", temperature: 0 };

  it("whole and as a stream", async () => {
    const { body } = await chat({ ...asked, stream: false });
    expect(body.choices[0].message).toMatchObject({ role: "assistant", content: FACT });
    expect(body.usage).toMatchObject({ prompt_tokens: expect.any(Number), total_tokens: expect.any(Number) });
    for (const more of [{ stream_options: { include_usage: true } }, {}]) {
      const request = { messages: MESSAGES, ...asked, stream: true, ...more };
      const events = (await eventsOf(await server.post(CHAT, request))) as {
        choices: { delta: { content?: string } }[];
      }[];
      const texts = events.flatMap(({ choices }) => choices.map(({ delta }) => delta.content ?? ""));
      expect(texts.join("")).toBe(FACT);
    }
  });

  it.each([
    [
      "zod's",
      {
        $schema: "https://json-schema.org/draft/2020-12/schema",
        type: "object",
        properties: {
          city: { type: "string", enum: ["Lisbon", "Vienna"], title: "extract" },
          code: { type: "integer", minimum: 10_000, maximum: 99_999, title: "extract" },
        },
        required: ["city", "code"],
        additionalProperties: false,
        title: "extract",
      },
    ],
    [
      "pydantic's",
      {
        properties: {
          city: { enum: ["Lisbon", "Vienna"], title: "City", type: "string" },
          code: { maximum: 99_999, minimum: 10_000, title: "Code", type: "integer" },
        },
        required: ["city", "code"],
        title: "Home",
        type: "object",
        additionalProperties: false,
      },
    ],
  ])("an object, by a schema of %s", async (_name, schema) => {
    const json_schema = { name: "extract", strict: true, schema };
    const { body } = await chat({
      ...asked,
      stream: false,
      response_format: { type: "json_schema", json_schema },
    });
    const { city, code } = JSON.parse(body.choices[0].message.content);
    expect(["Lisbon", "Vienna"]).toContain(city);
    expect(code).toBeGreaterThanOrEqual(10_000);
    expect(code).toBeLessThanOrEqual(99_999);
  });
});
