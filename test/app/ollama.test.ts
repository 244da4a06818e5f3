/** Ollama's API, by its own client (`ollama` on npm) and by hand; embeddings, by openai's. In this process, over needle-14m. */
import { Ollama } from "ollama";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LanguageModel, load } from "../../src/index.ts";
import { eventsOf, FACT, MESSAGES, QUESTION, type Serving, serving } from "./served.ts";

let model: LanguageModel;
let server: Serving;
let client: Ollama;
let fetching: typeof fetch;

beforeAll(async () => {
  model = await load("needle", { device: "cpu", threads: 1, context: 512, embeddings: true });
  server = serving(model, { pooling: "last" });
  fetching = ((input: string | URL | Request, init?: RequestInit) =>
    server.api(new Request(input, init))) as typeof fetch;
  client = new Ollama({ host: "http://localhost", fetch: fetching });
});
afterAll(async () => {
  server.close();
  await model.close();
});

describe("ollama's client", () => {
  it("chats, whole and streamed", async () => {
    const whole = await client.chat({ model: "needle", messages: MESSAGES });
    expect(whole.message).toEqual({ role: "assistant", content: FACT });
    expect(whole).toMatchObject({ model: "needle", done: true, done_reason: "stop" });
    expect(whole.prompt_eval_count).toBeGreaterThan(10);
    expect(whole.eval_count).toBeGreaterThan(5);
    let text = "";
    let last: object = {};
    for await (const part of await client.chat({
      model: "needle:latest",
      messages: MESSAGES,
      stream: true,
    })) {
      text += part.message.content;
      last = part;
    }
    expect(text).toBe(FACT);
    expect(last).toMatchObject({ done: true, done_reason: "stop", eval_count: whole.eval_count });
  });

  it("generates: with a system prompt, raw, held to options and a schema", async () => {
    const said = await client.generate({ model: "needle", system: FACT, prompt: QUESTION });
    expect(said.response).toBe(FACT);
    const raw = await client.generate({
      ...{
        model: "needle",
        prompt: "Hugo Marsh lives in",
        raw: true,
        options: { num_predict: 3, temperature: 0, num_ctx: 4096 },
      },
    });
    expect(raw).toMatchObject({ done_reason: "length", eval_count: 3 });
    const schema = {
      type: "object",
      properties: { city: { enum: ["Lisbon", "Vienna"] } },
      required: ["city"],
    };
    const held = await client.chat({ model: "needle", messages: MESSAGES, format: schema });
    expect(["Lisbon", "Vienna"]).toContain(JSON.parse(held.message.content).city);
  });

  it("lists, shows, and loads", async () => {
    const { models } = await client.list();
    expect(models).toMatchObject([{ name: "needle", details: { family: "llama", format: "gguf" } }]);
    const shown = await client.show({ model: "needle" });
    expect(shown).toMatchObject({ capabilities: ["completion"], details: { family: "llama" } });
    expect(shown.template).toContain("message");
    expect((await client.ps()).models[0].name).toBe("needle");
    const loaded = await client.generate({ model: "needle", prompt: "" });
    expect(loaded).toMatchObject({ done: true, done_reason: "load", response: "" });
  });

  it("embeds", async () => {
    const { embeddings } = await client.embed({
      model: "needle",
      input: ["a harbor", "a haven", "a harbor"],
    });
    expect(embeddings.map((vector) => vector.length)).toEqual([384, 384, 384]);
    expect(embeddings[2]).toEqual(embeddings[0]);
    const { embedding } = await client.embeddings({ model: "needle", prompt: "a harbor" });
    expect(embedding).toEqual(embeddings[0]);
    expect(embedding.reduce((sum, x) => sum + x * x, 0)).toBeCloseTo(1, 5);
  });

  it.each<[string, () => Promise<unknown>, RegExp]>([
    [
      "another model",
      () => client.chat({ model: "llama3", messages: MESSAGES }),
      /model "llama3" not found; there is "needle"/,
    ],
    [
      "an image",
      () => client.chat({ model: "needle", messages: [{ role: "user", content: "x", images: ["aGk="] }] }),
      /images/,
    ],
    [
      "a template",
      () => client.generate({ model: "needle", prompt: "x", template: "{{ .Prompt }}" }),
      /template is not supported/,
    ],
    [
      "a sampler",
      () => client.chat({ model: "needle", messages: MESSAGES, options: { mirostat: 2 } }),
      /mirostat/,
    ],
    [
      "a temperature",
      () => client.chat({ model: "needle", messages: MESSAGES, options: { temperature: -1 } }),
      /temperature is -1/,
    ],
    [
      "how to think",
      () => client.chat({ model: "needle", messages: MESSAGES, think: "high" }),
      /reasoning_effort/,
    ],
    ["a pull", () => client.pull({ model: "llama3" }), /the models that it was started with/],
    ["a long prompt", () => client.generate({ model: "needle", prompt: "word ".repeat(900) }), /context/],
    ["no text", () => client.embed({ model: "needle", input: "" }), /input/],
  ])("%s is refused with one line", async (_what, ask, message) => {
    await expect(ask()).rejects.toThrow(message);
    expect(server.faults).toEqual([]);
  });

  it("who leaves ends the generation", async () => {
    const stream = await client.chat({
      model: "needle",
      messages: MESSAGES,
      stream: true,
      options: { num_predict: 400 },
    });
    for await (const _ of stream) break;
    stream.abort();
    await expect.poll(() => model.activity.running).toBe(0);
  });
});

describe("/v1/embeddings", () => {
  const openai = () =>
    new OpenAI({ baseURL: "http://localhost/v1", apiKey: "none", fetch: fetching, maxRetries: 0 });

  it("gives openai's client vectors, in both encodings, shorter ones, and of token ids", async () => {
    const ask = (more: object) => openai().embeddings.create({ model: "needle", input: "a harbor", ...more });
    const plain = await ask({ encoding_format: "float" });
    const packed = await ask({});
    expect(packed.data[0].embedding.length).toBe(384);
    expect(
      Math.max(...packed.data[0].embedding.map((x, i) => Math.abs(x - plain.data[0].embedding[i]))),
    ).toBeLessThan(1e-7);
    const short = await ask({ dimensions: 64, encoding_format: "float" });
    expect(short.data[0].embedding.reduce((sum, x) => sum + x * x, 0)).toBeCloseTo(1, 5);
    const ids = model.tokenizer.encode("a harbor");
    expect(plain.usage.prompt_tokens).toBe(ids.length);
    const byIds = await ask({ input: [ids], encoding_format: "float" });
    expect(byIds.data[0].embedding).toEqual(plain.data[0].embedding);
  });

  it.each([
    [{ input: [] }, /input/],
    [{ input: ["a", ""] }, /none empty/],
    [{ input: "a", dimensions: 385 }, /dimensions is 385; allowed: integers 1 to 384/],
    [{ input: "a", encoding_format: "hex" }, /encoding_format/],
    [{ input: [[99999]] }, /token id is 99999/],
  ])("%j is refused", async (body, message) => {
    const response = await server.post("/v1/embeddings", { model: "needle", ...body });
    expect(response.status).toBe(400);
    expect(JSON.stringify(await response.json())).toMatch(message);
  });

  it("a model that is not made for it says so, with the way out", async () => {
    const honest = serving(model);
    const response = await honest.post("/v1/embeddings", { input: "a" });
    expect(response.status).toBe(400);
    expect(JSON.stringify(await response.json())).toMatch(/names no pooling.*Qwen3-Embedding/);
    honest.close();
  });
});

describe("model.embed", () => {
  it("the mean of a text is that of the states of its tokens, however many are read at a time", async () => {
    const ids = model.tokenizer.encode(
      "The access code of Clara Whitfield is 48213. Boris lives in Lisbon, a city of hills.",
    );
    expect(ids.length).toBeGreaterThan(model.plan.graph.maxOutputs);
    const options = { normalize: false };
    const [mean] = (await model.embed([{ ids }], { ...options, pooling: "mean" })).vectors;
    const prefixes = ids.map((_, i) => ({ ids: ids.slice(0, i + 1) }));
    const { vectors } = await model.embed(prefixes, { ...options, pooling: "last" });
    const [first] = (await model.embed([{ ids }], { ...options, pooling: "cls" })).vectors;
    const size = Math.max(...mean.map(Math.abs));
    mean.forEach((x, i) => {
      expect(Math.abs(x - vectors.reduce((sum, vector) => sum + vector[i], 0) / ids.length)).toBeLessThan(
        0.02 * size,
      );
    });
    expect(first).toEqual(vectors[0]);
  });

  it("asks to be loaded for it", async () => {
    const plain = await load("needle", { device: "cpu", threads: 1, context: 64 });
    await expect(plain.embed(["a"], { pooling: "last" })).rejects.toThrow(
      /embeddings is false; allowed: true when/,
    );
    await plain.close();
  });
});

it("events of the other API are as ever", async () => {
  const response = await server.post("/v1/chat/completions", { messages: MESSAGES, stream: true });
  expect((await eventsOf(response)).length).toBeGreaterThan(2);
});
