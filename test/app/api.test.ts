/** The API as a function, over needle-14m on the CPU: what it answers, what it refuses, and that nothing is left behind. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventResponse } from "../../src/app/api/events.ts";
import { AbortedError, DeviceError, type LanguageModel, load } from "../../src/index.ts";
import { scriptedModel } from "./scripted-model.ts";
import { eventsOf, FACT, MESSAGES, type Serving, serving } from "./served.ts";

let model: LanguageModel;
let server: Serving;
beforeAll(async () => {
  model = await load("needle", { device: "cpu", context: 1024, threads: 1 });
  server = serving(model);
});
afterAll(() => {
  server.served.grammars.close();
  return model.close();
});

const CHAT = "/v1/chat/completions";
const chat = async (body: object) => {
  const response = await server.post(CHAT, { messages: MESSAGES, ...body });
  return { status: response.status, body: await response.json() };
};

type Chunk = { choices: { delta: { content?: string } }[] };
const contentOf = (events: readonly object[]) =>
  events.map((event) => (event as Chunk).choices[0]?.delta.content ?? "").join("");

describe("response_format", () => {
  const person = {
    type: "object",
    properties: {
      city: { enum: ["Lisbon", "Vienna"] },
      age: { type: "integer", minimum: 3, maximum: 120 },
      tags: { type: "array", items: { type: "string", maxLength: 8 }, maxItems: 3 },
      isOpen: { type: "boolean" },
    },
    required: ["city", "age", "tags", "isOpen"],
  };
  const format = { type: "json_schema", json_schema: { name: "person", schema: person, strict: true } };

  it("json_schema: the answer matches, streamed as whole, for any sampling", async () => {
    for (const more of [
      {},
      { temperature: 1.5, seed: 3 },
      { temperature: 1, top_k: 0, top_p: 1, min_p: 0, seed: 4 },
    ]) {
      const { body } = await chat({ response_format: format, ...more });
      const { message, finish_reason } = body.choices[0];
      const { city, age, tags, isOpen } = JSON.parse(message.content);
      expect(finish_reason).toBe("stop");
      expect(["Lisbon", "Vienna"]).toContain(city);
      expect(age).toBeGreaterThanOrEqual(3);
      expect(age).toBeLessThanOrEqual(120);
      expect(tags.length).toBeLessThanOrEqual(3);
      expect(isOpen).toBeTypeOf("boolean");
      const events = await eventsOf(
        await server.post(CHAT, { messages: MESSAGES, response_format: format, stream: true, ...more }),
      );
      expect(contentOf(events)).toBe(message.content);
    }
  });

  it("json_object: an object, cut off only by max_tokens", async () => {
    const { body } = await chat({ response_format: { type: "json_object" }, max_tokens: 30 });
    expect(body.choices[0].message.content).toMatch(/^\{/);
    expect(["stop", "length"]).toContain(body.choices[0].finish_reason);
  });

  it("of a text continued", async () => {
    const response = await server.post("/v1/completions", {
      prompt: "The answer: ",
      response_format: { type: "json_schema", json_schema: { name: "n", schema: { enum: [12, 34] } } },
    });
    expect([12, 34]).toContain(JSON.parse((await response.json()).choices[0].text));
  });

  it("what is not kept is refused at its place", async () => {
    const wrong = {
      type: "json_schema",
      json_schema: { name: "a", schema: { not: { type: "string" } } },
    };
    expect(await chat({ response_format: wrong })).toMatchObject({
      status: 400,
      body: {
        error: {
          param: "response_format.json_schema.schema.not",
          message: expect.stringContaining("not supported"),
        },
      },
    });
    expect((await chat({ response_format: { type: "xml" } })).status).toBe(400);
  });
});

it("tools are refused where the template has no place for them", async () => {
  const tools = [{ type: "function", function: { name: "f", parameters: { type: "object" } } }];
  expect(await chat({ tools })).toMatchObject({ status: 400, body: { error: { param: "tools" } } });
  const { body } = await chat({ tools, tool_choice: "none" });
  expect(body.choices[0].message.content).toBe(FACT);
});

describe("an answer", () => {
  it("is the same for the same seed, and for chat and its tokens continued", async () => {
    const sampling = {
      temperature: 1.2,
      top_k: 50,
      top_p: 0.9,
      min_p: 0,
      repeat_penalty: 1.1,
      max_tokens: 12,
    };
    const texts = [];
    for (const seed of [5, 5, 6]) {
      const { body } = await chat({
        ...sampling,
        seed,
        messages: [{ role: "user", content: "Tell of whales." }],
      });
      texts.push(body.choices[0].message.content);
    }
    expect(texts[1]).toBe(texts[0]);
    expect(texts[2]).not.toBe(texts[0]);
    const ids = model.encode(MESSAGES);
    const response = await server.post("/v1/completions", { prompt: ids, max_tokens: 50 });
    const { choices, usage } = await response.json();
    expect(choices[0].text.trim()).toBe(FACT);
    expect(usage.prompt_tokens).toBe(ids.length);
  });

  it("ends at a stop text, which is no part of it, also streamed", async () => {
    for (const stop of [" is 4", ["nothing", " is 4"]]) {
      const { body } = await chat({ stop });
      expect(body.choices[0]).toMatchObject({
        message: { content: "The access code of Clara Whitfield" },
        finish_reason: "stop",
      });
      const events = await eventsOf(await server.post(CHAT, { messages: MESSAGES, stop, stream: true }));
      expect(contentOf(events)).toBe("The access code of Clara Whitfield");
    }
  });

  it("takes -1 for no seed and no limit, as llama.cpp's clients say it", async () => {
    const { status, body } = await chat({ seed: -1, max_tokens: -1 });
    expect([status, body.choices?.[0].message.content]).toEqual([200, FACT]);
    expect((await chat({ max_tokens: -2 })).body.error.message).toBe(
      "max_tokens is -2; allowed: integers 0 to 2147483648",
    );
  });

  it("ends with max_tokens, and with the context", async () => {
    const { body } = await chat({ max_completion_tokens: 2 });
    expect(body.choices[0].finish_reason).toBe("length");
    expect(body.usage.completion_tokens).toBe(2);
    const none = await chat({ max_tokens: 0 });
    expect(none.body.choices[0]).toMatchObject({ message: { content: "" }, finish_reason: "length" });
    const prompt = { prompt: new Array(1020).fill(70), ignore_eos: true };
    const full = await (await server.post("/v1/completions", prompt)).json();
    expect(full.choices[0].finish_reason).toBe("length");
    expect(full.usage.total_tokens).toBe(1025);
  });

  it("tells how likely its tokens were", async () => {
    const { body } = await chat({ logprobs: true, top_logprobs: 3 });
    const { content } = body.choices[0].logprobs;
    expect(content.map(({ token }: { token: string }) => token).join("")).toBe(FACT);
    const bytes = content.flatMap((token: { bytes: number[] }) => token.bytes);
    expect(new TextDecoder().decode(Uint8Array.from(bytes))).toBe(FACT);
    for (const { token, logprob, top_logprobs } of content) {
      expect(top_logprobs).toHaveLength(3);
      expect(top_logprobs[0]).toMatchObject({ token, logprob });
      expect(logprob).toBeLessThanOrEqual(0);
    }
    const events = await eventsOf(
      await server.post(CHAT, { messages: MESSAGES, logprobs: true, stream: true }),
    );
    type Told = { choices: { logprobs: { content: { token: string }[] } | null }[] };
    const told = events.flatMap((event) => (event as unknown as Told).choices[0].logprobs?.content ?? []);
    expect(told.map(({ token }) => token).join("")).toBe(FACT);

    const asked = { prompt: "The ship", max_tokens: 4, logprobs: 2 };
    const { choices } = await (await server.post("/v1/completions", asked)).json();
    const { tokens, token_logprobs, top_logprobs, text_offset } = choices[0].logprobs;
    expect(tokens.join("")).toBe(choices[0].text);
    expect(text_offset[0]).toBe(0);
    expect(text_offset[3]).toBe(tokens.slice(0, 3).join("").length);
    expect(Object.keys(top_logprobs[0])).toHaveLength(2);
    expect(top_logprobs[0][tokens[0]]).toBe(token_logprobs[0]);
  });

  it("is counted", async () => {
    const counting = serving(model);
    await counting.post(CHAT, { messages: MESSAGES });
    const again = await (await counting.post(CHAT, { messages: MESSAGES })).json();
    await counting.post(CHAT, { messages: [] });
    const { prompt_tokens, completion_tokens, prompt_tokens_details } = again.usage;
    expect(prompt_tokens_details.cached_tokens).toBe(prompt_tokens - 1);
    const metrics = await (await counting.get("/metrics")).text();
    const value = (name: string) => Number(new RegExp(`^${name} (.*)$`, "m").exec(metrics)?.[1]);
    expect(value('nibble_requests_total{route="/v1/chat/completions",status="200"}')).toBe(2);
    expect(value('nibble_requests_total{route="/v1/chat/completions",status="400"}')).toBe(1);
    expect(value("nibble_prompt_tokens_total")).toBe(2 * prompt_tokens);
    expect(value("nibble_generated_tokens_total")).toBe(2 * completion_tokens);
    expect(value("nibble_reused_tokens_total")).toBeGreaterThanOrEqual(prompt_tokens - 1);
    expect(value("nibble_first_token_seconds_count")).toBe(2);
    expect(value('nibble_request_seconds_bucket{le="[+]Inf"}')).toBe(2);
    expect(value("nibble_requests_running")).toBe(0);
    expect(value("nibble_cache_tokens")).toBe(model.plan.cacheTokens);
    expect(value("nibble_cache_tokens_used")).toBe(0);
    expect(value("nibble_cache_tokens_known")).toBeGreaterThanOrEqual(prompt_tokens);
    for (const line of metrics.trimEnd().split("\n"))
      expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|\w+(\{.*\})? [\d.e+-]+)$/);
  });

  it("tells what was guessed ahead", async () => {
    // It says one sentence again and again.
    const counting = serving(await scriptedModel());
    let [accepted, rejected] = [0, 0];
    for (let i = 0; i < 3; i++) {
      const asked = { prompt: "The ship", max_tokens: 120 };
      const { usage } = await (await counting.post("/v1/completions", asked)).json();
      accepted += usage.completion_tokens_details.accepted_prediction_tokens;
      rejected += usage.completion_tokens_details.rejected_prediction_tokens;
      expect(usage.completion_tokens).toBe(120);
    }
    const metrics = await (await counting.get("/metrics")).text();
    expect(metrics).toContain(`nibble_drafted_tokens_total ${accepted + rejected}\n`);
    expect(metrics).toContain(`nibble_accepted_tokens_total ${accepted}\n`);
    expect(accepted).toBeGreaterThan(30);
    counting.served.grammars.close();
  });
});

describe("tokens", () => {
  it("are those of the text, control tokens among them unless they are not wanted", async () => {
    const tokens = async (body: object) => (await (await server.post("/tokenize", body)).json()).tokens;
    const content = `${FACT} <|im_end|>`;
    const { tokenizer } = model;
    expect(await tokens({ content })).toEqual(tokenizer.encode(content, { special: true }));
    expect(await tokens({ content, parse_special: false })).toEqual(tokenizer.encode(content));
    const wrong = await server.post("/tokenize", { text: FACT });
    expect([wrong.status, (await wrong.json()).error.param]).toEqual([400, "content"]);
  });
});

describe("several requests", () => {
  const endless = { prompt: "The ship", ignore_eos: true, temperature: 1, seed: 1 };
  const short = { prompt: "The ship", max_tokens: 2 };

  it("are answered in their order", async () => {
    const order: number[] = [];
    const all = [0, 1, 2, 3, 4].map(async (number) => {
      const response = await server.post("/v1/completions", { ...short, prompt: `${number} ships` });
      expect(response.status).toBe(200);
      order.push(number);
    });
    await Promise.all(all);
    expect(order).toEqual([0, 1, 2, 3, 4]);
  });

  it("more than may wait are told to come again", async () => {
    const small = serving(model, { mostWaiting: 1 });
    const leaving = new AbortController();
    const running = small.post("/v1/completions", endless, { signal: leaving.signal });
    const waiting = small.post("/v1/completions", short);
    await expect.poll(() => model.activity.waiting).toBe(1);
    const third = await small.post("/v1/completions", short);
    expect(third.status).toBe(503);
    expect(third.headers.get("retry-after")).toBe("1");
    expect((await third.json()).error.code).toBe("queue_full");
    leaving.abort();
    expect((await running).status).toBe(503);
    expect((await waiting).status).toBe(200);
    expect(model.activity).toEqual({ running: 0, waiting: 0 });
  });

  it("a reader of a stream that leaves frees the slot; who waits may leave, too", async () => {
    const stream = await server.post("/v1/completions", { ...endless, stream: true });
    const leaving = new AbortController();
    const waiting = server.post("/v1/completions", short, { signal: leaving.signal });
    const next = server.post("/v1/completions", short);
    const reader = stream.body!.getReader();
    await reader.read();
    // Requests get into the queue at their own pace; the stream's first event does not wait for them.
    await expect.poll(() => model.activity).toEqual({ running: 1, waiting: 2 });
    leaving.abort();
    await waiting;
    expect(model.activity.waiting).toBe(1);
    await reader.cancel();
    expect((await next).status).toBe(200);
    expect(model.activity.running).toBe(0);
  });

  it("the end of the server ends them with an error, in the stream where there is one", async () => {
    const ending = serving(model);
    const stream = await ending.post("/v1/completions", { ...endless, stream: true });
    const whole = ending.post("/v1/completions", short);
    ending.close();
    expect((await whole).status).toBe(503);
    const events = await eventsOf(stream);
    expect(events.at(-1)).toMatchObject({ error: { code: "stopped" } });
    expect(ending.faults).toEqual([]);
  });
});

describe("two sessions", () => {
  it("answer at once, and each conversation finds its own beginning again", async () => {
    const two = await load("needle", { device: "cpu", context: 512, threads: 1, parallel: 2 });
    try {
      const parallel = serving(two, { mostWaiting: 0 });
      const endless = { prompt: "The ship", ignore_eos: true, stream: true };
      const stream = await parallel.post("/v1/completions", endless);
      const cached = async (messages: readonly object[]) => {
        const response = await parallel.post(CHAT, { messages, max_tokens: 1 });
        expect(response.status).toBe(200);
        return (await response.json()).usage.prompt_tokens_details.cached_tokens;
      };
      // The endless one runs all the while.
      await cached(MESSAGES);
      expect(await cached(MESSAGES)).toBeGreaterThan(20);
      expect(two.activity).toEqual({ running: 1, waiting: 0 });
      await stream.body!.cancel();
      await expect.poll(() => two.activity.running).toBe(0);
      await cached(MESSAGES);
      const other = [{ role: "user", content: "Boris Thorne's home city is Lisbon. Where does he live?" }];
      await cached(other);
      expect(await cached(MESSAGES)).toBeGreaterThan(20);
      expect(await cached(other)).toBeGreaterThan(10);
      const streams = [
        await parallel.post("/v1/completions", endless),
        await parallel.post("/v1/completions", endless),
      ];
      expect((await parallel.post("/v1/completions", { prompt: "a" })).status).toBe(503);
      for (const { body } of streams) await body!.cancel();
    } finally {
      await two.close();
    }
  });
});

it("a device that fails is told by /health, until it generates again", async () => {
  let isLost = true;
  const generateFrom: LanguageModel["generateFrom"] = (...asked) => {
    if (isLost) throw new DeviceError("gpu", "the device was lost");
    return model.generateFrom(...asked);
  };
  const { tokenizer, chatTemplate, config, plan } = model;
  const { activity } = model;
  const losable = {
    tokenizer,
    chatTemplate,
    config,
    plan,
    activity,
    generateFrom,
    encodeInSlices: model.encodeInSlices.bind(model),
  };
  const watched = serving(losable as unknown as LanguageModel);
  expect((await watched.post(CHAT, { messages: MESSAGES })).status).toBe(500);
  const health = await watched.get("/health");
  expect([health.status, (await health.json()).error.message]).toEqual([503, "gpu: the device was lost"]);
  expect(watched.faults).toHaveLength(1);
  isLost = false;
  expect((await watched.post(CHAT, { messages: MESSAGES })).status).toBe(200);
  expect((await watched.get("/health")).status).toBe(200);
});

describe("a stream of events", () => {
  it("does not run over a slow reader, and hears that it has gone", async () => {
    let sent = 0;
    let hasGone = false;
    let failure: unknown = null;
    const response = eventResponse({
      async write({ send }) {
        try {
          for (;;) {
            await send("x".repeat(1000));
            sent++;
          }
        } catch (error) {
          failure = error;
          throw error;
        }
      },
      onGone: () => {
        hasGone = true;
      },
      describe: () => "told to nobody",
    });
    const reader = response.body!.getReader();
    await reader.read();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const before = sent;
    expect(before).toBeLessThan(1200);
    for (let i = 0; i < 500; i++) await reader.read();
    await expect.poll(() => sent).toBeGreaterThan(before + 300);
    await reader.cancel();
    expect(hasGone).toBe(true);
    await expect.poll(() => failure).toBeInstanceOf(AbortedError);
  });
});

describe("who may call", () => {
  const status = async (
    headers: Record<string, string>,
    options = {},
    url = "http://127.0.0.1:8080/v1/models",
  ) => {
    const { api } = serving(model, options);
    const response = await api(new Request(url, { headers }));
    return response.status;
  };
  it.each([
    ["http://localhost:8080/v1/models", 200],
    ["http://[::1]:8080/v1/models", 200],
    ["http://192.168.1.7/v1/models", 200],
    ["http://app.localhost/v1/models", 200],
    ["http://evil.example:8080/v1/models", 403],
    ["http://localhost.evil.example/v1/models", 403],
    ["http://127.0.0.1.evil.example/v1/models", 403],
    ["http://box.local/v1/models", 200],
  ])("under %s: %d", async (url, expected) => {
    expect(await status({}, { hosts: ["box.local"] }, url)).toBe(expected);
  });

  it.each([
    ["http://127.0.0.1:8080", 200],
    ["http://127.0.0.1:3000", 403],
    ["https://evil.example", 403],
    ["null", 403],
    ["https://app.example", 200],
    ["https://app.example.evil.example", 403],
  ])("a page of %s: %d", async (origin, expected) => {
    expect(await status({ origin }, { origins: ["https://app.example"] })).toBe(expected);
  });

  it("a page of an allowed origin may read the answer, others get no such header", async () => {
    const { api } = serving(model, { origins: ["https://app.example"], apiKey: "k" });
    const ask = (method: string, headers: Record<string, string>) =>
      api(new Request("http://127.0.0.1/v1/chat/completions", { method, headers }));
    const preflight = await ask("OPTIONS", {
      origin: "https://app.example",
      "access-control-request-headers": "authorization, x-stainless-lang",
      "access-control-request-private-network": "true",
    });
    expect(preflight.status).toBe(204);
    expect(Object.fromEntries(preflight.headers)).toMatchObject({
      "access-control-allow-origin": "https://app.example",
      "access-control-allow-headers": "authorization, x-stainless-lang",
      "access-control-allow-private-network": "true",
      vary: "origin",
    });
    const other = await ask("OPTIONS", { origin: "https://evil.example" });
    expect(other.status).toBe(403);
    expect(other.headers.has("access-control-allow-origin")).toBe(false);
    expect((await serving(model).get("/v1/models")).headers.has("access-control-allow-origin")).toBe(false);
    expect(await status({ origin: "https://any.example" }, { origins: ["*"] })).toBe(200);
  });

  it.each([
    [{}, 401],
    [{ authorization: "Bearer wrong" }, 401],
    [{ authorization: "Basic key" }, 401],
    [{ authorization: "Bearer key" }, 200],
    [{ authorization: "bearer key" }, 200],
  ])("with an API key asked for, %j: %d", async (headers, expected) => {
    expect(await status(headers as Record<string, string>, { apiKey: "key" })).toBe(expected);
  });
});
