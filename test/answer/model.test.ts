/** What `generate` may be asked in the library: a schema, tools, and the parts of the answer. */
import { toStandardJsonSchema } from "@valibot/to-json-schema";
import { type } from "arktype";
import * as v from "valibot";
import { afterAll, beforeAll, describe, expect, expectTypeOf, it } from "vitest";
import { z } from "zod";
import { type AnswerPart, NibbleError, ObjectError, PlaceError, runTools, tool } from "../../src/index.ts";
import { type Talking, talking } from "./talking.ts";

let talker: Talking;
let thinker: Talking;
beforeAll(async () => {
  talker = await talking("needle", "Qwen-Qwen3-0.6B");
  // Its template opens the reasoning.
  thinker = await talking("needle", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B");
});
afterAll(() => Promise.all([talker, thinker].map(({ model }) => model.close())));

const QUESTION = [{ role: "user", content: "Where is the fair?" }];
const City = z.object({ city: z.string(), people: z.int().positive() });
const BERN = '{"city":"Bern","people":134000}';

it("the parts of an answer that fails end with what was held back, as it could begin a mark", async () => {
  const model = talker.says("<thin");
  let left = model.tokenizer.encode("<thin").length;
  const next = (logits: Float32Array) => {
    if (left-- === 0) throw new Error("no more");
    return logits.indexOf(Math.max(...logits));
  };
  const parts: AnswerPart[] = [];
  const read = async () => {
    for await (const part of model.generate(QUESTION, { sampler: { next } }).parts()) parts.push(part);
  };
  await expect(read()).rejects.toThrow("no more");
  expect(parts).toEqual([{ kind: "text", text: "<thin" }]);
});

describe("a schema", () => {
  it("of zod gives an object of its type, behind reasoning", async () => {
    const model = thinker.says(`Bern, I think.\n</think>${BERN}`);
    const answer = model.generate(QUESTION, { schema: City });
    const { object, content, reasoning, calls } = await answer.result();
    expectTypeOf(object).toEqualTypeOf<{ city: string; people: number }>();
    expect(object).toEqual({ city: "Bern", people: 134000 });
    expect({ content, reasoning, calls }).toEqual({
      content: BERN,
      reasoning: "Bern, I think.\n",
      calls: [],
    });
    expect(await answer.object()).toBe(object);
  });

  it("of arktype, of valibot and as JSON serves as well", async () => {
    const model = talker.says(BERN);
    const ark = await model
      .generate(QUESTION, { schema: type({ city: "string", people: "number.integer" }) })
      .object();
    expectTypeOf(ark).toEqualTypeOf<{ city: string; people: number }>();
    const schema = toStandardJsonSchema(
      v.object({ city: v.string(), people: v.pipe(v.number(), v.integer()) }),
    );
    const valibot = await model.generate(QUESTION, { schema }).object();
    expectTypeOf(valibot).toEqualTypeOf<{ city: string; people: number }>();
    const json = await model.generate(QUESTION, { schema: { type: "object" } }).object();
    expectTypeOf(json).toEqualTypeOf<unknown>();
    for (const found of [ark, valibot, json]) expect(found).toEqual({ city: "Bern", people: 134000 });
  });

  it("holds an answer that would say something else, and gives what its library makes of it", async () => {
    const model = talker.says("It is in Bern.");
    const Yes = z.enum(["yes", "no"]).transform((word) => word === "yes");
    const found = await model.generate(QUESTION, { schema: Yes }).object();
    expectTypeOf(found).toEqualTypeOf<boolean>();
    expect(typeof found).toBe("boolean");
  });

  it("that the answer does not match is an ObjectError that has the answer", async () => {
    const model = talker.says(BERN);
    const cut = model.generate(QUESTION, { schema: City, maxTokens: 4 });
    const error = await cut.result().catch((error: unknown) => error);
    expect(error).toBeInstanceOf(ObjectError);
    expect((error as ObjectError).message).toMatch(
      /^the answer ended \(length\) after 4 tokens, before its object/,
    );
    expect((error as ObjectError).result.text).toBe(await cut.text());
    const Village = City.refine(({ people }) => people < 1000, { path: ["people"], message: "too many" });
    await expect(model.generate(QUESTION, { schema: Village }).object()).rejects.toThrow(
      "the answer.people: too many",
    );
  });

  it("that cannot be kept is refused with its place", async () => {
    const model = talker.says(BERN);
    const wrong = model.generate(QUESTION, {
      schema: { type: "object", properties: { a: { not: { type: "null" } } } },
    });
    await expect(wrong.result()).rejects.toMatchObject({
      place: "schema.properties.a.not",
      code: "unsupported",
    });
    const bare = model.generate(QUESTION, { schema: v.object({ a: v.string() }) as never });
    await expect(bare.result()).rejects.toThrow(/toStandardJsonSchema of @valibot/);
    await expect(model.generate(QUESTION, { schema: "text" as never }).result()).rejects.toThrow(PlaceError);
    const twice = { schema: City, constraint: { allowed: () => null, accept() {} } };
    await expect(model.generate(QUESTION, twice).result()).rejects.toThrow(
      /no constraint together with a schema/,
    );
  });
});

describe("parts", () => {
  it("tell text, reasoning and calls apart, however one asks; the pieces are the text as it was written", async () => {
    const call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>';
    const model = talker.says(`<think>\nHm.\n</think>\n\nI will see.\n${call}`);
    const tools = [
      { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
    ];
    const parts: AnswerPart[] = [];
    for await (const part of model.generate(QUESTION, { tools }).parts()) parts.push(part);
    const joined = (kind: string) =>
      parts.map((part) => (part.kind === kind && "text" in part ? part.text : "")).join("");
    expect([joined("reasoning"), joined("text")]).toEqual(["Hm.\n", "I will see."]);
    expect(parts.at(-1)).toMatchObject({
      kind: "call",
      call: { name: "weather", arguments: { city: "Bern" } },
    });
    const answer = model.generate(QUESTION, { tools });
    let text = "";
    for await (const piece of answer) text += piece.text;
    const result = await answer.result();
    expect(result.text).toBe(text);
    expect(result).toMatchObject({ content: "I will see.", calls: [{ name: "weather" }], object: undefined });
    expect(result.message).toMatchObject({
      role: "assistant",
      content: "I will see.",
      tool_calls: [{ type: "function", function: { name: "weather", arguments: { city: "Bern" } } }],
    });
  });

  it("end where a stop text does, and with the loop", async () => {
    const model = talker.says("<think>\nOne.\n</think>\n\ntwo three four");
    const answer = model.generate(QUESTION, { stop: " four" });
    let text = "";
    for await (const part of answer.parts()) if (part.kind === "text") text += part.text;
    expect(text).toBe("two three");
    const halted = model.generate(QUESTION);
    for await (const part of halted.parts()) if (part.kind === "text") break;
    expect(await halted.result()).toMatchObject({ stopReason: "left", calls: [] });
    expect((await halted.result()).reasoning).toMatch(/^One\.\s*$/);
    expect((await halted.result()).content).toBe("t");
    expect(model.activity).toEqual({ running: 0, waiting: 0 });
    {
      await using left = model.generate(QUESTION);
      for await (const _ of left.parts()) expect(model.activity.running).toBe(1);
    }
  });
});

describe("tools", () => {
  const call = (name: string, given: object) =>
    `<tool_call>\n{"name": "${name}", "arguments": ${JSON.stringify(given)}}\n</tool_call>`;
  const weather = tool({
    name: "weather",
    description: "The weather of a city",
    parameters: z.object({ city: z.string(), days: z.int().max(7).default(1) }),
    run({ city, days }) {
      expectTypeOf(days).toEqualTypeOf<number>();
      return { city, days, sky: "clear" };
    },
  });

  it("run in a loop until the model answers; what it cannot call it is told", async () => {
    const model = talker.says(
      `${call("weather", { city: "Bern" })}\n${call("weather", { city: 7 })}`,
      call("news", {}),
      "It is clear in Bern.",
    );
    const kinds: string[] = [];
    const found = await runTools(model, QUESTION, {
      tools: [weather],
      onPart: ({ kind }) => kinds.push(kind),
    });
    expect(found).toMatchObject({ rounds: 3, isCut: false, result: { content: "It is clear in Bern." } });
    expect(kinds.filter((kind) => kind === "call")).toHaveLength(3);
    const told = found.messages.filter(({ role }) => role === "tool").map(({ content }) => content);
    expect(told).toEqual([
      '{"city":"Bern","days":1,"sky":"clear"}',
      expect.stringMatching(/^error: arguments.city: /),
      "error: there is no tool news; there is weather",
    ]);
    for (const content of told) expect(talker.prompt()).toContain(content);
    expect(found.messages[0]).toBe(QUESTION[0]);
  });

  it("stop at the bound on rounds, and reject with what a function throws", async () => {
    const model = talker.says(call("weather", { city: "Bern" }));
    const cut = await runTools(model, QUESTION, { tools: [weather], rounds: 2 });
    expect(cut).toMatchObject({ rounds: 2, isCut: true, result: { calls: [{ name: "weather" }] } });
    const broken = tool({ ...weather, run: () => Promise.reject(new Error("no network")) } as never);
    await expect(runTools(model, QUESTION, { tools: [broken] })).rejects.toThrow("no network");
    await expect(runTools(model, QUESTION, { tools: [weather], rounds: 0 })).rejects.toThrow(NibbleError);
  });

  it("may be called instead of an answer that matches a schema", async () => {
    const tools = [weather];
    const called = talker
      .says(call("weather", { city: "Bern", days: 2 }))
      .generate(QUESTION, { tools, schema: City });
    const first = await called.result();
    expectTypeOf(first.object).toEqualTypeOf<{ city: string; people: number } | undefined>();
    expect(first).toMatchObject({ calls: [{ arguments: { city: "Bern", days: 2 } }], object: undefined });
    const answered = await talker.says(BERN).generate(QUESTION, { tools, schema: City }).result();
    expect(answered).toMatchObject({ calls: [], object: { city: "Bern", people: 134000 } });
    // Neither words nor calls that do not match.
    const held = talker.says("No.").generate(QUESTION, { tools, schema: z.enum(["yes"]), maxTokens: 90 });
    expect((await held.text())[0]).toMatch(/^["<]/);
  });

  it("are called where they have to be, whatever the model would say", async () => {
    const model = talker.says("I would rather talk.");
    const tools = [weather, { name: "news" }];
    const options = { tools, toolChoice: { name: "news" }, maxTokens: 120 };
    expect((await model.generate(QUESTION, options).result()).calls).toMatchObject([
      { name: "news", arguments: {} },
    ]);
    const none = await model.generate(QUESTION, { tools, toolChoice: "none" }).result();
    expect(none.content).toBe("I would rather talk.");
    const unknown = model.generate(QUESTION, { tools, toolChoice: { name: "sports" } }).result();
    await expect(unknown).rejects.toThrow('toolChoice is "sports"; allowed: weather, news');
    const raw = model.generate("text", { tools, raw: true }).result();
    await expect(raw).rejects.toThrow(/a conversation where tools are given/);
  });
});
