/** Several answers to one prompt, tokens made likelier or less so, and progress, over needle-14m. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LanguageModel, load } from "../../src/index.ts";
import { eventsOf, FACT, MESSAGES, type Serving, serving } from "./served.ts";

let model: LanguageModel;
let server: Serving;
const refused: string[] = [];
beforeAll(async () => {
  model = await load("needle", { device: "cpu", context: 512, threads: 1, parallel: 3 });
  server = serving(model, { refused: (line) => refused.push(line) });
});
afterAll(() => {
  server.served.grammars.close();
  return model.close();
});

const CHAT = "/v1/chat/completions";
const COMPLETE = "/v1/completions";
const post = (path: string, body: object) => server.ask(path, body);
const chat = (body: object) => post(CHAT, { messages: MESSAGES, ...body });

describe("n", () => {
  it("gives so many answers, each by the seed after the last; the prompt is read and counted once", async () => {
    const asked = { n: 3, temperature: 2, min_p: 0, top_p: 1, top_k: 0, max_tokens: 6, seed: 5 };
    const { body } = await chat(asked);
    expect(body.choices.map(({ index }: { index: number }) => index)).toEqual([0, 1, 2]);
    const texts = body.choices.map((choice: { message: { content: string } }) => choice.message.content);
    expect(new Set(texts).size).toBe(3);
    const { body: second } = await chat({ ...asked, n: 1, seed: 6 });
    expect(second.choices[0].message.content).toBe(texts[1]);
    expect(body.usage.prompt_tokens).toBe(second.usage.prompt_tokens);
    expect(body.usage.completion_tokens).toBe(18);
  });

  it("streams them under their numbers, for completions as well, each within its schema", async () => {
    const schema = { enum: ["yes", "no"] };
    for (const [path, more] of [
      [CHAT, { messages: MESSAGES }],
      [COMPLETE, { prompt: FACT }],
    ] as const) {
      const streaming = { stream: true, stream_options: { include_usage: true } };
      const response = await server.post(path, { ...more, ...streaming, n: 2, json_schema: schema });
      const events = await eventsOf(response);
      const said = ["", ""];
      // biome-ignore lint/suspicious/noExplicitAny: of either endpoint
      for (const choice of events.flatMap(({ choices }) => choices as any[]))
        said[choice.index] += choice.text ?? choice.delta.content ?? "";
      for (const text of said) expect(text).toMatch(/^"(yes|no)"$/);
      expect(events.at(-1)).toMatchObject({ choices: [], usage: { prompt_tokens: expect.any(Number) } });
    }
  });

  it("beyond what may run and wait is refused", async () => {
    expect(await chat({ n: 17 })).toMatchObject({
      status: 400,
      body: { error: { message: "n is 17; allowed: integers 1 to 16" } },
    });
    expect((await post(COMPLETE, { prompt: "a", n: 0 })).status).toBe(400);
  });
});

describe("single tokens", () => {
  it("are favored and forbidden by their ids", async () => {
    const [id] = model.tokenizer.encode("The");
    const free = await chat({ max_tokens: 1 });
    expect(free.body.choices[0].message.content).toBe("The");
    const { body } = await chat({ max_tokens: 1, logit_bias: { [id]: -100 } });
    expect(body.choices[0].message.content).not.toBe("The");
    const [dog] = model.tokenizer.encode(" dog");
    const many = await chat({ max_tokens: 3, logit_bias: { [dog]: 100 } });
    expect(many.body.choices[0].message.content).toBe(model.tokenizer.decode([dog, dog, dog]));
    const once = await chat({ max_tokens: 3, logit_bias: { [dog]: 100 }, frequency_penalty: 2, seed: 1 });
    expect(once.status).toBe(200);
    expect((await chat({ logit_bias: { [model.tokenizer.vocab]: 1 } })).body.error.message).toMatch(
      /^logit_bias is about "\d+"; allowed: ids of tokens, 0 to \d+$/,
    );
    expect((await chat({ logit_bias: { 5: 101 } })).body.error.param).toBe("logit_bias");
    expect((await chat({ presence_penalty: 2.5 })).body.error.param).toBe("presence_penalty");
  });
});

describe("prompt_progress", () => {
  it("tells in a stream how far the prompt is read, up to all of it", async () => {
    const long = [{ role: "user", content: `${FACT} `.repeat(12) }];
    const asked = { messages: long, stream: true, return_progress: true, max_tokens: 1 };
    const events = await eventsOf(await server.post(CHAT, asked));
    const told = events.flatMap(({ prompt_progress: found }) =>
      found ? [found as Record<string, number>] : [],
    );
    expect(told.length).toBeGreaterThan(0);
    const last = told.at(-1)!;
    expect(last.processed).toBe(last.total);
    expect(last).toMatchObject({ total: expect.any(Number), time_ms: expect.any(Number) });
    const again = await eventsOf(await server.post(CHAT, asked));
    const cached = again.find(({ prompt_progress: found }) => found)?.prompt_progress as Record<
      string,
      number
    >;
    expect(cached.cache).toBeGreaterThan(last.cache);
    const silent = await eventsOf(await server.post(CHAT, { ...asked, return_progress: false }));
    expect(silent.every((event) => !("prompt_progress" in event))).toBe(true);
  });
});

it("each refused request is one line for the log", async () => {
  refused.length = 0;
  await chat({ n: 99 });
  await server.post("/v1/nothing", {});
  await server.get(CHAT);
  expect(refused).toEqual([
    "400 POST /v1/chat/completions: n is 99; allowed: integers 1 to 16",
    "404 POST page: there is nothing at POST /v1/nothing",
    "405 GET /v1/chat/completions: /v1/chat/completions takes POST, OPTIONS, not GET",
  ]);
});
