/** `nibble-llm/ai-sdk` by Vercel's own package. */
import type { EmbeddingModelV3, LanguageModelV3 } from "@ai-sdk/provider";
import { embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { afterAll, beforeAll, expect, it } from "vitest";
import { z } from "zod";
import { nibble, nibbleEmbedding } from "../../src/answer/ai-sdk/model.ts";
import { load } from "../../src/answer/load.ts";
import { type Talking, talking } from "./talking.ts";

let talker: Talking;
let model: LanguageModelV3;
beforeAll(async () => {
  talker = await talking("needle", "Qwen-Qwen3-0.6B");
  // As the package's own type has it.
  model = nibble(talker.model) as LanguageModelV3;
});
afterAll(() => talker.model.close());

const call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>';

it("text, whole and streamed, with reasoning, usage and options", async () => {
  const said = "<think>\nHm.\n</think>\n\nIn Bern. Or not.";
  talker.says(said, said);
  const asked = { model, prompt: "Where?", system: "Be short.", stopSequences: [" Or"], maxRetries: 0 };
  const whole = await generateText(asked);
  expect([whole.text, whole.reasoningText, whole.finishReason]).toEqual(["In Bern.", "Hm.\n", "stop"]);
  expect(whole.usage.outputTokens).toBeGreaterThan(3);
  expect(talker.prompt()).toContain("Be short.");
  const stream = streamText(asked);
  let text = "";
  for await (const delta of stream.textStream) text += delta;
  expect([text, await stream.reasoningText]).toEqual([whole.text, whole.reasoningText]);
  const cut = await generateText({ ...asked, maxOutputTokens: 2 });
  expect([cut.finishReason, cut.usage.outputTokens]).toEqual(["length", 2]);
});

it("tools are called and answered until the model says something", async () => {
  talker.says(call, "Clear in Bern.");
  const weather = tool({
    description: "The weather",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => ({ city, sky: "clear" }),
  });
  const asked = { model, prompt: "Weather?", tools: { weather }, stopWhen: stepCountIs(3), maxRetries: 0 };
  const { text, steps } = await generateText(asked);
  expect(text).toBe("Clear in Bern.");
  expect(steps.map(({ finishReason }) => finishReason)).toEqual(["tool-calls", "stop"]);
  expect(talker.prompt()).toContain('{"city":"Bern","sky":"clear"}');
  talker.says("No.");
  const now = tool({ inputSchema: z.object({}) });
  const one = { ...asked, tools: { now }, toolChoice: "required" as const, maxOutputTokens: 120 };
  const forced = await generateText({ ...one, stopWhen: stepCountIs(1) });
  expect(forced.steps[0].content[0]).toMatchObject({ type: "tool-call", toolName: "now" });
  talker.says(call, "Clear.");
  const kinds: string[] = [];
  for await (const { type } of streamText(asked).fullStream) kinds.push(type);
  expect(kinds).toEqual(
    expect.arrayContaining(["tool-input-start", "tool-call", "tool-result", "text-delta", "finish"]),
  );
});

it("objects match their schema", async () => {
  talker.says('{"city":"Bern","people":134000}');
  const schema = z.object({ city: z.string(), people: z.int().positive() });
  const { output } = await generateText({
    model,
    prompt: "A city?",
    output: Output.object({ schema }),
    maxRetries: 0,
  });
  expect(output).toEqual({ city: "Bern", people: 134000 });
});

it("ends with the signal, and refuses files by name", async () => {
  talker.says("A very long answer that goes on and on.");
  const controller = new AbortController();
  const stream = streamText({
    model,
    prompt: "Go on",
    abortSignal: controller.signal,
    maxRetries: 0,
    onError() {},
  });
  for await (const _ of stream.textStream) controller.abort();
  expect(talker.model.activity).toEqual({ running: 0, waiting: 0 });
  const image = { type: "image" as const, image: Uint8Array.of(1) };
  const seen = generateText({ model, messages: [{ role: "user", content: [image] }], maxRetries: 0 });
  await expect(seen).rejects.toThrow("prompt[0] has a part of type file; this model reads text only");
});

it("embeddings, of a model that was loaded for them", async () => {
  const values = ["A whale.", "A fish."];
  await using needle = await load("needle", { device: "cpu", context: 256, embeddings: true });
  const embedding = nibbleEmbedding(needle, { pooling: "mean" }) as EmbeddingModelV3;
  const { embeddings, usage } = await embedMany({ model: embedding, values, maxRetries: 0 });
  const { vectors, tokens } = await needle.embed(values, { pooling: "mean" });
  expect(embeddings).toEqual(vectors.map((vector) => [...vector]));
  expect(usage.tokens).toBe(tokens);
  const providerOptions = { nibble: { dimensions: 16 } };
  const short = await embedMany({ model: embedding, values, maxRetries: 0, providerOptions });
  expect(short.embeddings[0]).toHaveLength(16);
  // needle's file says nothing of a pooling.
  const unsaid = nibbleEmbedding(needle) as EmbeddingModelV3;
  await expect(embedMany({ model: unsaid, values, maxRetries: 0 })).rejects.toThrow(/pooling/);
});
