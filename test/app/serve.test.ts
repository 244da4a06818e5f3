/** `nibble serve` as a process: the official openai client against it, sockets, signals. */
import { request } from "node:http";
import { connect } from "node:net";
import OpenAI, { type APIError, APIUserAbortError } from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nibble, type Running, requireFreshBuild, serveNeedle } from "./nibble.ts";
import { FACT, MESSAGES } from "./served.ts";

interface Server extends Running {
  url: string;
  client: OpenAI;
}

async function startServer(args: readonly string[] = []): Promise<Server> {
  const running = await serveNeedle(args);
  return { ...running, client: new OpenAI({ baseURL: `${running.url}/v1`, apiKey: "any", maxRetries: 0 }) };
}

let server: Server;
beforeAll(async () => {
  requireFreshBuild();
  server = await startServer();
});
afterAll(() => server.child.kill("SIGKILL"));

const asked = { model: "needle", messages: MESSAGES };

describe("the openai client", () => {
  it("lists the model", async () => {
    const { data } = await server.client.models.list();
    expect(data.map(({ id, object }) => ({ id, object }))).toEqual([{ id: "needle", object: "model" }]);
    expect((await server.client.models.retrieve("needle")).owned_by).toBe("nibble");
  });

  it("chats", async () => {
    const answer = await server.client.chat.completions.create(asked);
    expect(answer.object).toBe("chat.completion");
    expect(answer.choices).toHaveLength(1);
    expect(answer.choices[0]).toMatchObject({
      index: 0,
      message: { role: "assistant", content: FACT },
      finish_reason: "stop",
      logprobs: null,
    });
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage ?? {};
    expect(prompt_tokens).toBeGreaterThan(20);
    expect(total_tokens).toBe((prompt_tokens ?? 0) + (completion_tokens ?? 0));
    const again = await server.client.chat.completions.create(asked);
    expect(again.usage?.prompt_tokens_details?.cached_tokens).toBe((prompt_tokens ?? 0) - 1);
  });

  it("streams, with usage at the end", async () => {
    const stream = await server.client.chat.completions.create({
      ...asked,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let usage: OpenAI.CompletionUsage | null | undefined;
    const finish: (string | null)[] = [];
    let pieces = 0;
    for await (const chunk of stream) {
      pieces++;
      usage = chunk.usage;
      for (const { delta, finish_reason } of chunk.choices) {
        text += delta.content ?? "";
        if (finish_reason) finish.push(finish_reason);
      }
    }
    expect(text).toBe(FACT);
    expect(pieces).toBeGreaterThan(10);
    expect(finish).toEqual(["stop"]);
    expect(usage?.completion_tokens).toBeGreaterThan(10);
  });

  it("tells usage while it streams where that is asked for", async () => {
    const stream = await server.client.chat.completions.create({
      ...asked,
      stream: true,
      stream_options: { include_usage: true, continuous_usage_stats: true } as object,
    });
    const counts: number[] = [];
    const prompts = new Set<number>();
    for await (const { usage } of stream) {
      if (!usage) continue;
      counts.push(usage.completion_tokens);
      prompts.add(usage.prompt_tokens);
    }
    expect(counts[0]).toBe(0);
    expect(counts.length).toBeGreaterThan(10);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(prompts.size).toBe(1);
  });

  it("continues text, whole and streamed", async () => {
    const prompt = { model: "needle", prompt: "The ship", max_tokens: 6, temperature: 0.7, seed: 3 };
    const whole = await server.client.completions.create(prompt);
    expect(whole.choices[0].finish_reason).toBe("length");
    expect(whole.usage?.completion_tokens).toBe(6);
    let text = "";
    for await (const chunk of await server.client.completions.create({ ...prompt, stream: true }))
      text += chunk.choices[0]?.text ?? "";
    expect(text).toBe(whole.choices[0].text);
  });

  it("gets errors as its own classes", async () => {
    const wrong = (body: object) =>
      server.client.chat.completions.create({ ...asked, ...body }).catch((error: APIError) => error);
    expect(await wrong({ model: "gpt-4o" })).toBeInstanceOf(OpenAI.NotFoundError);
    expect(await wrong({ temperature: -1 })).toMatchObject({ status: 400, param: "temperature" });
    const long = [{ role: "user", content: "word ".repeat(3000) }];
    expect(await wrong({ messages: long })).toMatchObject({ status: 400, code: "context_length_exceeded" });
    expect(await wrong({ messages: long, stream: true })).toMatchObject({ status: 400 });
    const embedding = server.client.embeddings.create({ model: "needle", input: "a" });
    await expect(embedding).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining("--embeddings"),
    });
  });

  it("that goes away frees its slot, running or waiting", async () => {
    const endless = { model: "needle", prompt: "The ship", temperature: 1, seed: 5, ignore_eos: true };
    const stream = await server.client.completions.create({ ...endless, stream: true });
    const waiting = new AbortController();
    const second = server.client.completions.create(endless, { signal: waiting.signal });
    for await (const _ of stream) break;
    waiting.abort();
    await expect(second).rejects.toBeInstanceOf(APIUserAbortError);
    stream.controller.abort();
    const answer = await server.client.chat.completions.create(asked);
    expect(answer.choices[0].message.content).toBe(FACT);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toContain("nibble_requests_running 0\nnibble".split("\n")[0]);
    expect(metrics).toContain("nibble_requests_waiting 0");
  });

  it("needs the key where one was asked for", async () => {
    const locked = await startServer(["--api-key", "secret-1"]);
    try {
      await expect(locked.client.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
      const client = new OpenAI({ baseURL: `${locked.url}/v1`, apiKey: "secret-1", maxRetries: 0 });
      expect((await client.models.list()).data).toHaveLength(1);
      expect((await fetch(`${locked.url}/health`)).status).toBe(200);
    } finally {
      locked.child.kill("SIGKILL");
    }
  });
});

describe("the socket", () => {
  const port = () => Number(new URL(server.url).port);
  const say = (text: string) =>
    new Promise<string>((resolve) => {
      const socket = connect(port(), "127.0.0.1", () => socket.write(text));
      let out = "";
      socket.on("data", (data) => {
        out += data;
      });
      socket.on("close", () => resolve(out));
    });

  it.each([
    ["no HTTP", "GARBAGE\r\n\r\n"],
    ["headers without end", `GET / HTTP/1.1\r\nHost: localhost\r\nX: ${"a".repeat(40_000)}\r\n\r\n`],
    ["no Host", "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"],
    ["a Host that is none", "GET /health HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n"],
    ["another site's name", "GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"],
  ])("answers %s with an error of JSON", async (_what, text) => {
    const answer = await say(text);
    expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /);
    expect(JSON.parse(answer.slice(answer.indexOf("\r\n\r\n")))).toHaveProperty("error.message");
  });

  it.each([
    [
      "an IPv4 address written as IPv6",
      "GET /health HTTP/1.1\r\nHost: [::ffff:127.0.0.1]\r\nConnection: close\r\n\r\n",
    ],
    ["HTTP/1.0 without Host", "GET /health HTTP/1.0\r\n\r\n"],
  ])("answers %s", async (_what, text) => {
    expect(await say(text)).toMatch(/^HTTP\/1\.1 200 /);
  });

  it("survives a client that leaves in the middle of its request", async () => {
    await new Promise<void>((resolve) => {
      const half = request({ port: port(), host: "127.0.0.1", method: "POST", path: "/v1/completions" });
      half.setHeader("content-length", "1000");
      half.on("error", () => resolve());
      half.write('{"prompt":');
      setTimeout(() => half.destroy(), 50);
    });
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
  });
});

describe("the end", () => {
  it("SIGTERM: what runs is finished, nothing new is taken", async () => {
    const ending = await startServer();
    const stream = await ending.client.completions.create({
      ...{ model: "needle", prompt: "The ship", max_tokens: 60, ignore_eos: true, stream: true },
    });
    let pieces = 0;
    for await (const _ of stream as AsyncIterable<unknown>) if (++pieces === 3) ending.child.kill("SIGTERM");
    expect(pieces).toBeGreaterThan(20);
    await expect(fetch(`${ending.url}/health`)).rejects.toThrow();
    expect(await ending.ended).toMatchObject({ code: 143, stderr: "" });
  });

  it("Ctrl-C without grace: what runs is told", async () => {
    const ending = await startServer(["--grace", "0"]);
    const stream = await ending.client.completions.create({
      ...{ model: "needle", prompt: "The ship", ignore_eos: true, stream: true },
    });
    const read = async () => {
      for await (const _ of stream as AsyncIterable<unknown>) ending.child.kill("SIGINT");
    };
    await expect(read()).rejects.toThrow();
    expect(await ending.ended).toMatchObject({ code: 130, stderr: "" });
  });

  it("SIGTERM while long prompts are read: those who wait are told", async () => {
    const ending = await startServer(["--grace", "0", "--context", "8192"]);
    const prompt = "The ship sailed on. ".repeat(1000);
    const answers = [true, false].map((stream) =>
      fetch(`${ending.url}/v1/completions`, { method: "POST", body: JSON.stringify({ prompt, stream }) }),
    );
    const [running] = await Promise.all(answers.slice(0, 1));
    ending.child.kill("SIGTERM");
    expect(await running.text()).toContain("the server is shutting down");
    expect((await answers[1]).status).toBe(503);
    expect(await ending.ended).toMatchObject({ code: 143, stderr: "" });
  });

  it("wrong options are one line", async () => {
    const cases: [string[], number, RegExp][] = [
      [["--port", "70000"], 2, /--port is 70000; allowed: 0 \(any that is free\) to 65535/],
      [["--cors", "example.org"], 2, /--cors is example\.org; allowed: an origin/],
      [["--api-key", ""], 2, /--api-key is empty; allowed: visible ASCII/],
      [["--top-p", "2"], 2, /--top-p is 2/],
      [["--port", String(new URL(server.url).port)], 1, /in use already/],
    ];
    for (const [args, code, message] of cases) {
      const ended = await nibble(["serve", "needle", ...args]);
      expect(ended).toMatchObject({ code, stdout: "" });
      expect(ended.stderr).toMatch(message);
    }
  });
});
