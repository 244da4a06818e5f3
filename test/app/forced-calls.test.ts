/**
 * tool_choice and strict arguments over the server's APIs and the library, with families whose calls are written with
 * control tokens: templates of Gemma 4 and gpt-oss over needle's vocabulary with their tokens. The model says what it
 * wants, as far as the grammar lets it.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Talking, talking } from "../answer/talking.ts";
import { eventsOf, type Serving, serving } from "./served.ts";

const FAMILIES = {
  gemma: {
    template: "google-gemma-4-31B-it",
    controls: [
      ...["<|turn>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", '<|"|>'],
      ...["<|channel>", "<channel|>", "<|tool_response>", "<tool_response|>", "<|think|>", "<turn|>"],
    ],
    call: '<|tool_call>call:weather{city:<|"|>Bern<|"|>,days:3}<tool_call|>',
    wrong: '<|tool_call>call:weather{city:<|"|>Bern<|"|>,days:99}<tool_call|>',
    thought: "<|channel>thought\nHm.\n<channel|>",
  },
  "gpt-oss": {
    template: "openai-gpt-oss-20b",
    controls: [
      ...["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"],
    ],
    call: '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "Bern", "days": 3}<|call|>',
    wrong:
      '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "Bern", "days": 99}<|call|>',
    thought: "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant",
  },
} as const;
type Family = keyof typeof FAMILIES;

const PARAMETERS = {
  type: "object",
  properties: { city: { enum: ["Bern", "Basel"] }, days: { type: "integer", minimum: 1, maximum: 12 } },
  required: ["city", "days"],
};
const QUESTION = [{ role: "user", content: "How is the weather?" }];
const WEATHER = { name: "weather", description: "The weather of a city", parameters: PARAMETERS };
const TOOLS = [{ type: "function", function: WEATHER }];
const WORDS = "It is sunny.";

const talkers = new Map<Family, Talking>();
const servers = new Map<Family, Serving>();
beforeAll(async () => {
  for (const family of Object.keys(FAMILIES) as Family[]) {
    const { template, controls } = FAMILIES[family];
    const talker = await talking("needle", template, controls);
    talkers.set(family, talker);
    servers.set(family, serving(talker.model));
  }
});
afterAll(async () => {
  for (const server of servers.values()) server.served.grammars.close();
  for (const { model } of talkers.values()) await model.close();
});

function expectArguments(given: { city: string; days: number }): void {
  expect(["Bern", "Basel"]).toContain(given.city);
  expect(given.days).toBeGreaterThan(0);
  expect(given.days).toBeLessThan(13);
}

describe.each(Object.keys(FAMILIES) as Family[])("%s", (family) => {
  const { call, wrong, thought } = FAMILIES[family];
  const says = (...texts: string[]) => talkers.get(family)!.says(...texts);
  const server = () => servers.get(family)!;

  it.each([
    ["whatever it would say", WORDS, "required"],
    ["what it says where that matches", call, "required"],
    ["arguments that match", wrong, { type: "function", function: { name: "weather" } }],
  ])("chat completions: %s, whole and streamed", async (_what, said, tool_choice) => {
    says(said);
    const asked = { messages: QUESTION, tools: TOOLS, tool_choice, max_tokens: 80 };
    const { status, body } = await server().ask("/v1/chat/completions", asked);
    expect(status, JSON.stringify(body)).toBe(200);
    const [{ message, finish_reason }] = body.choices;
    expect(finish_reason).toBe("tool_calls");
    expect(message.tool_calls[0].function.name).toBe("weather");
    expectArguments(JSON.parse(message.tool_calls[0].function.arguments));
    if (said === call)
      expect(JSON.parse(message.tool_calls[0].function.arguments)).toEqual({ city: "Bern", days: 3 });
    const events = await eventsOf(await server().post("/v1/chat/completions", { ...asked, stream: true }));
    type Delta = { tool_calls?: { function: { name: string; arguments: string } }[] };
    const deltas = events.map((event) => (event.choices as { delta: Delta }[])[0].delta);
    const calls = deltas.flatMap(({ tool_calls = [] }) => tool_calls);
    expect(calls[0].function.arguments).toBe(message.tool_calls[0].function.arguments);
  });

  it("one call where no more are wanted, after a thought", async () => {
    const kwargs = { enable_thinking: true };
    says(`${thought}${call}${call}`);
    const asked = { messages: QUESTION, tools: TOOLS, tool_choice: "required", max_tokens: 120 };
    const more = {
      parallel_tool_calls: false,
      ...(family === "gemma" ? { chat_template_kwargs: kwargs } : {}),
    };
    const { body } = await server().ask("/v1/chat/completions", { ...asked, ...more });
    const [{ message }] = body.choices;
    expect(message.tool_calls).toHaveLength(1);
    expect(message.reasoning_content?.trim()).toBe("Hm.");
  });

  it("strict arguments where the model decides, and words", async () => {
    says(wrong, WORDS);
    const strict = [{ type: "function", function: { ...WEATHER, strict: true } }];
    const asked = { messages: QUESTION, tools: strict, max_tokens: 80 };
    const { body } = await server().ask("/v1/chat/completions", asked);
    expectArguments(JSON.parse(body.choices[0].message.tool_calls[0].function.arguments));
    const free = await server().ask("/v1/chat/completions", asked);
    if (family === "gemma") expect(free.body.choices[0].message.content).toBe(WORDS);
  });

  it("responses, messages, Ollama's and the library force calls, too, and take none", async () => {
    says(WORDS);
    const tools = [{ type: "function", ...WEATHER }];
    const asked = { input: "How is the weather?", tools, max_output_tokens: 80 };
    const responses = await server().ask("/v1/responses", { ...asked, tool_choice: "required" });
    const found = responses.body.output.find(({ type }: { type: string }) => type === "function_call");
    expectArguments(JSON.parse(found.arguments));
    const { name, description } = WEATHER;
    const messages = await server().ask("/v1/messages", {
      ...{ messages: QUESTION, max_tokens: 80, tool_choice: { type: "tool", name } },
      tools: [{ name, description, input_schema: PARAMETERS }],
    });
    const use = messages.body.content.find(({ type }: { type: string }) => type === "tool_use");
    expectArguments(use.input);
    const ollama = await server().ask("/api/chat", {
      ...{ model: "needle", messages: QUESTION, tools: TOOLS, tool_choice: "required", stream: false },
      options: { num_predict: 80 },
    });
    expectArguments(ollama.body.message.tool_calls[0].function.arguments);
    const options = { tools: [WEATHER], maxTokens: 80 };
    const { model } = talkers.get(family)!;
    const { calls } = await model.generate(QUESTION, { ...options, toolChoice: { name } }).result();
    expectArguments(calls[0].arguments as never);
    const none = await model.generate(QUESTION, { ...options, toolChoice: "none" }).result();
    expect(none.calls).toEqual([]);
  });

  it("a call or an answer that matches a schema", async () => {
    const schema = { type: "object", properties: { sky: { enum: ["clear"] } }, required: ["sky"] };
    const answer = { type: "json_schema", json_schema: { name: "a", schema } };
    const final =
      family === "gemma" ? '{"sky":"clear"}' : `${thought}<|channel|>final<|message|>{"sky":"clear"}`;
    says(call, final);
    const asked = { messages: QUESTION, tools: TOOLS, response_format: answer, max_tokens: 120 };
    const first = await server().ask("/v1/chat/completions", asked);
    expectArguments(JSON.parse(first.body.choices[0].message.tool_calls[0].function.arguments));
    const second = await server().ask("/v1/chat/completions", asked);
    expect(JSON.parse(second.body.choices[0].message.content)).toEqual({ sky: "clear" });
  });
});
