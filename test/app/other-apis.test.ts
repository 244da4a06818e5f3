/** /v1/messages by Anthropic's client and /v1/responses by OpenAI's, over a model that says what a test wants. */
import Anthropic from "@anthropic-ai/sdk";
import fc from "fast-check";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { MESSAGES_API } from "../../src/app/api/anthropic/request.ts";
import { RESPONSES } from "../../src/app/api/responses/request.ts";
import { type Talking, talking } from "../answer/talking.ts";
import { type Serving, serving } from "./served.ts";

let talker: Talking;
let server: Serving;
let anthropic: Anthropic;
let openai: OpenAI;
beforeAll(async () => {
  talker = await talking("needle", "Qwen-Qwen3-0.6B");
  server = serving(talker.model, { apiKey: "key", defaults: { temperature: 0 } });
  const fetch = (url: string | URL | Request, init?: RequestInit) => server.api(new Request(url, init));
  const options = { apiKey: "key", maxRetries: 0, fetch, dangerouslyAllowBrowser: true };
  anthropic = new Anthropic({ ...options, baseURL: "http://localhost" });
  openai = new OpenAI({ ...options, baseURL: "http://localhost/v1" });
});
afterAll(() => {
  server.served.grammars.close();
  return talker.model.close();
});

const model = "needle";
const call = (given: object) =>
  `<tool_call>\n{"name": "weather", "arguments": ${JSON.stringify(given)}}\n</tool_call>`;
const THOUGHT = "<think>\nA city.\n</think>\n\n";
const SCHEMA = {
  type: "object" as const,
  properties: { city: { type: "string" as const } },
  required: ["city"],
};
const user = { role: "user" as const, content: "Where is the fair?" };

describe("Anthropic's messages", () => {
  const tools = [{ name: "weather", description: "The weather", input_schema: SCHEMA }];
  const asked = { model, max_tokens: 100, messages: [user] };

  it("answer with thinking, text and calls, whole and streamed alike", async () => {
    const said = `${THOUGHT}I will see.\n${call({ city: "Bern" })}`;
    talker.says(said, said);
    const message = await anthropic.messages.create({ ...asked, system: "Be short.", tools });
    expect(talker.prompt()).toMatch(/Be short\.[\s\S]*weather[\s\S]*Where is the fair\?/);
    expect(message).toMatchObject({
      type: "message",
      role: "assistant",
      stop_reason: "tool_use",
      content: [
        { type: "thinking", thinking: "A city.\n" },
        { type: "text", text: "I will see." },
        { type: "tool_use", name: "weather", input: { city: "Bern" } },
      ],
    });
    const stream = anthropic.messages.stream({ ...asked, system: "Be short.", tools });
    const events: string[] = [];
    stream.on("streamEvent", ({ type }) => events.push(type));
    const streamed = await stream.finalMessage();
    const withoutIds = (blocks: readonly object[]) => blocks.map((block) => ({ ...block, id: null }));
    expect(withoutIds(streamed.content)).toEqual(withoutIds(message.content));
    expect([streamed.stop_reason, streamed.usage.output_tokens]).toEqual([
      "tool_use",
      message.usage.output_tokens,
    ]);
    expect([events[0], events.at(-1)]).toEqual(["message_start", "message_stop"]);
    expect(events.filter((type) => type === "content_block_start")).toHaveLength(3);
    // What the cache held is counted apart.
    const { input_tokens, cache_read_input_tokens } = streamed.usage;
    const { input_tokens: counted } = await anthropic.messages.countTokens({
      model,
      ...{ messages: [user], system: "Be short.", tools },
    });
    expect(input_tokens + (cache_read_input_tokens ?? 0)).toBe(counted);
  });

  it("take results of tools, thinking and a beginning of the answer", async () => {
    talker.says(" clear.");
    const blocks = [
      { type: "thinking" as const, thinking: "Hm.", signature: "" },
      { type: "tool_use" as const, id: "toolu_1", name: "weather", input: { city: "Bern" } },
    ];
    const result = { type: "tool_result" as const, tool_use_id: "toolu_1", content: "rain", is_error: true };
    const text = { type: "text" as const, text: "And now?" };
    const messages = [
      user,
      { role: "assistant" as const, content: blocks },
      { role: "user" as const, content: [text, result] },
      { role: "assistant" as const, content: "It is" },
    ];
    const message = await anthropic.messages.create({
      ...asked,
      messages,
      tools,
      stop_sequences: [".", "!"],
    });
    expect(message).toMatchObject({
      content: [{ type: "text", text: " clear" }],
      ...{ stop_reason: "stop_sequence", stop_sequence: "." },
    });
    const prompt = talker.prompt();
    expect(prompt).toMatch(
      /<tool_call>[\s\S]*Bern[\s\S]*<tool_response>\nerror: rain[\s\S]*And now\?[\s\S]*It is$/,
    );
  });

  it("can be held to a call, to a schema, and to a number of tokens", async () => {
    talker.says("No.");
    const named = {
      ...asked,
      tools: [{ name: "now", input_schema: { type: "object" as const, properties: {} } }],
    };
    const forced = await anthropic.messages.create({ ...named, tool_choice: { type: "any" } });
    expect(forced.content).toMatchObject([{ type: "tool_use", name: "now", input: {} }]);
    const output_config = { format: { type: "json_schema" as const, schema: { enum: ["yes", "no"] } } };
    const { content } = await anthropic.messages.create({ ...asked, output_config });
    expect(content).toMatchObject([{ type: "text", text: expect.stringMatching(/^"(yes|no)"$/) }]);
    expect((await anthropic.messages.create({ ...asked, max_tokens: 1 })).stop_reason).toBe("max_tokens");
  });

  it("are refused with the place in their own words, in their own form", async () => {
    const wrong = async (body: object) => {
      const error = await anthropic.messages
        .create({ ...asked, ...body } as never)
        .catch((error: unknown) => error);
      const { status, error: told } = error as InstanceType<typeof Anthropic.APIError>;
      return [status, (told as { error: { type: string; message: string } }).error];
    };
    expect(await wrong({ max_tokens: undefined })).toEqual([
      400,
      { type: "invalid_request_error", message: "max_tokens is missing; allowed: an integer from 1 on" },
    ]);
    const image = { type: "image", source: { type: "base64", media_type: "image/png", data: "" } };
    const [, images] = await wrong({ messages: [{ role: "user", content: [image] }] });
    expect(images).toMatchObject({
      message: 'messages[0].content[0].type is "image"; this server reads text only',
    });
    const strange = [
      { name: "a", input_schema: { type: "object", properties: { b: { not: { type: "null" } } } } },
    ];
    const [, schema] = await wrong({ tools: strange, tool_choice: { type: "any" } });
    expect(schema).toMatchObject({
      message: "tools[0].input_schema.properties.b.not is not supported in schemas",
    });
    const [, server] = await wrong({ tools: [{ type: "web_search_20250305", name: "web_search" }] });
    expect(server).toMatchObject({
      message: expect.stringMatching(/^tools\[0\]\.type is .* no tools of its own$/),
    });
    expect(await wrong({ model: "claude" })).toMatchObject([404, { type: "not_found_error" }]);
    const stranger = new Anthropic({
      apiKey: "other",
      baseURL: "http://localhost",
      maxRetries: 0,
      fetch: (anthropic as never as { fetch: typeof fetch }).fetch,
    });
    await expect(stranger.messages.create(asked)).rejects.toMatchObject({ status: 401 });
  });
});

describe("OpenAI's responses", () => {
  const tools = [
    {
      type: "function" as const,
      name: "weather",
      description: "The weather",
      parameters: SCHEMA,
      strict: false,
    },
  ];

  it("answer with reasoning, text and calls, whole and streamed alike", async () => {
    const said = `${THOUGHT}I will see.\n${call({ city: "Bern" })}`;
    talker.says(said, said);
    const asked = { model, input: "Where is the fair?", instructions: "Be short.", tools };
    const whole = await openai.responses.create(asked);
    expect(talker.prompt()).toMatch(/Be short\.[\s\S]*weather[\s\S]*Where is the fair\?/);
    expect(whole).toMatchObject({ object: "response", status: "completed", output_text: "I will see." });
    expect(whole.output).toMatchObject([
      { type: "reasoning", content: [{ type: "reasoning_text", text: "A city.\n" }] },
      { type: "message", role: "assistant", status: "completed" },
      { type: "function_call", name: "weather", arguments: '{"city":"Bern"}', status: "completed" },
    ]);
    const stream = openai.responses.stream(asked);
    const types: string[] = [];
    const numbers: number[] = [];
    for await (const event of stream) {
      types.push(event.type);
      numbers.push(event.sequence_number);
    }
    expect(numbers).toEqual(numbers.map((_, at) => at));
    expect([types[0], types.at(-1)]).toEqual(["response.created", "response.completed"]);
    for (const type of ["response.output_text.delta", "response.function_call_arguments.done"])
      expect(types).toContain(type);
    const streamed = await stream.finalResponse();
    expect(streamed.output_text).toBe(whole.output_text);
    expect(streamed.output.map(({ type }) => type)).toEqual(whole.output.map(({ type }) => type));
    expect(whole.usage?.total_tokens).toBe(streamed.usage?.total_tokens);
  });

  it("go on from a response that is kept, with what a tool answered", async () => {
    talker.says(call({ city: "Bern" }), "Clear.", "Again.");
    const first = await openai.responses.create({ model, input: [user], tools });
    const [called] = first.output;
    if (called.type !== "function_call") throw new Error("no call");
    const output = { type: "function_call_output" as const, call_id: called.call_id, output: "clear sky" };
    const second = await openai.responses.create({
      model,
      previous_response_id: first.id,
      input: [output],
      tools,
    });
    expect(second.output_text).toBe("Clear.");
    expect(talker.prompt()).toMatch(/Where is the fair\?[\s\S]*<tool_call>[\s\S]*Bern[\s\S]*clear sky/);
    const third = { model, previous_response_id: second.id, input: "And now?", store: false };
    const { id } = await openai.responses.create(third);
    expect(talker.prompt()).toMatch(/clear sky[\s\S]*Clear\.[\s\S]*And now\?/);
    await expect(openai.responses.create({ ...third, previous_response_id: id })).rejects.toMatchObject({
      ...{ status: 400, code: "previous_response_not_found", param: "previous_response_id" },
    });
  });

  it("can be given the items of an earlier one, and held to a schema", async () => {
    talker.says('{"city":"Bern"}');
    const input = [
      user,
      {
        type: "reasoning" as const,
        id: "rs_1",
        summary: [],
        content: [{ type: "reasoning_text" as const, text: "Hm." }],
      },
      { type: "function_call" as const, call_id: "c1", name: "weather", arguments: '{"city":"Bern"}' },
      { type: "function_call_output" as const, call_id: "c1", output: "snow" },
      { role: "user" as const, content: [{ type: "input_text" as const, text: "Which city?" }] },
    ];
    const format = zodTextFormat(z.object({ city: z.string() }), "city");
    const parsed = await openai.responses.parse({ model, input, text: { format } });
    expect(parsed.output_parsed).toEqual({ city: "Bern" });
    expect(talker.prompt()).toMatch(/<tool_call>[\s\S]*snow[\s\S]*Which city\?/);
    const short = await openai.responses.create({ model, input: "Hello", max_output_tokens: 1 });
    expect(short).toMatchObject({
      status: "incomplete",
      incomplete_details: { reason: "max_output_tokens" },
    });
  });

  it("are refused with the place in their own words", async () => {
    const wrong = (body: object) =>
      openai.responses
        .create({ model, input: "a", ...body } as never)
        .catch(({ status, message }) => ({ status, message }));
    expect(await wrong({ background: true })).toMatchObject({
      status: 400,
      message: /background is not supported/,
    });
    const strange = { type: "object", properties: { b: { not: { type: "null" } } } };
    const format = { type: "json_schema", name: "a", schema: strange };
    expect(await wrong({ text: { format } })).toMatchObject({
      message: expect.stringContaining("text.format.schema.properties.b.not is not supported in schemas"),
    });
    expect(await wrong({ tools: [{ type: "web_search" }] })).toMatchObject({
      message: expect.stringContaining('tools[0].type is "web_search"; this server runs no tools of its own'),
    });
    expect(await wrong({ input: [] })).toMatchObject({ status: 400 });
    expect(await wrong({ max_output_tokens: -5 })).toMatchObject({
      message: expect.stringContaining("max_output_tokens"),
    });
  });
});

describe("fields of any value", () => {
  const value = fc.oneof(
    fc.constantFrom<unknown>(
      null,
      true,
      0,
      -1,
      1.5,
      1e308,
      "",
      "x",
      "auto",
      "\ud800",
      [],
      {},
      [[]],
      [null],
      [{}],
    ),
    fc.constantFrom<unknown>(
      { type: "text" },
      [{ type: "tool_use" }],
      [{ type: "tool_result", content: [{}] }],
    ),
    fc.constantFrom<unknown>([{ type: "function_call" }], [{ role: "assistant", content: [null] }], {
      format: {},
    }),
    fc.jsonValue({ maxDepth: 3 }),
    fc.constant(JSON.parse('{"__proto__":{"n":1},"constructor":{"prototype":1},"toString":1}')),
  );
  const kinds = [
    ["/v1/messages", MESSAGES_API, { model, max_tokens: 2, messages: [user] }],
    ["/v1/responses", RESPONSES, { model, max_output_tokens: 2, input: "a" }],
  ] as const;
  const field = fc
    .constantFrom(...kinds)
    .chain((kind) =>
      fc.tuple(fc.constant(kind), fc.constantFrom(...kind[1].keys(), "mood", "__proto__"), value),
    );

  it("are answered, or refused with 400", async () => {
    talker.says("Yes.");
    const seen = new Set<number>();
    const property = fc.asyncProperty(field, async ([[path, , body], name, given]) => {
      const asked = {
        ...body,
        ...JSON.parse(`{${JSON.stringify(name)}:${JSON.stringify(given) ?? "null"}}`),
      };
      const response = await server.post(path, asked, { headers: { "x-api-key": "key" } });
      const text = await response.text();
      expect(server.faults.splice(0), text).toEqual([]);
      expect([200, 400, 404], text).toContain(response.status);
      expect(text).not.toMatch(/\[object|TypeError|RangeError/);
      seen.add(response.status);
    });
    await fc.assert(property, { numRuns: 200, seed: 3 });
    expect([...seen].sort()).toEqual(expect.arrayContaining([200, 400]));
    expect(talker.model.activity).toEqual({ running: 0, waiting: 0 });
  });
});
