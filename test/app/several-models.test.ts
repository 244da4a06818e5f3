/**
 * `nibble serve` with several models: two tiny ones in a folder on the CPU, a damaged one and a note beside them, asked by the
 * clients of OpenAI, Ollama and Anthropic. In this process; one test starts the command.
 */
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Anthropic from "@anthropic-ai/sdk";
import { Ollama } from "ollama";
import OpenAI, { type APIError } from "openai";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { type Api, createApi } from "../../src/app/api/api.ts";
import type { OnDemand } from "../../src/app/api/on-demand.ts";
import { modelSources } from "../../src/app/model-files.ts";
import { type OfferOptions, openServing, type Serving } from "../../src/app/serve-models.ts";
import { tinyModel } from "../engine/tiny-model.ts";
import { T } from "../format/write-gguf.ts";
import { requireFreshBuild, start } from "./nibble.ts";

const MIB = 2 ** 20;
const TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}";

let folder: string;
let told: string[];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "nibble-several-"));
  const templated = tinyModel({
    keys: (keys) => [...keys, ["tokenizer.chat_template", T.string, TEMPLATE]],
  });
  mkdirSync(join(folder, "makers", "deep"), { recursive: true });
  writeFileSync(join(folder, "small.gguf"), templated);
  writeFileSync(join(folder, "makers", "deep", "other.gguf"), templated);
  writeFileSync(join(folder, "broken.gguf"), templated.subarray(0, 5000));
  writeFileSync(join(folder, "mmproj-small.gguf"), "eyes");
  writeFileSync(join(folder, "README.md"), "models");
});
afterAll(() => rmSync(folder, { recursive: true }));

/** However long it takes on a busy machine. */
const until = (check: () => void) => vi.waitFor(check, { timeout: 50_000, interval: 5 });

interface Several {
  serving: Serving;
  api: Api;
  openai: OpenAI;
  ollama: Ollama;
  anthropic: Anthropic;
  states(): Record<string, string>;
}

let opened: Serving | null = null;
afterEach(async () => {
  await opened?.close();
  opened = null;
  vi.restoreAllMocks();
});

async function several(options: Partial<OfferOptions> = {}, models = [folder]): Promise<Several> {
  told = [];
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    told.push(String(text));
    return true;
  });
  const all = { alias: [], parallel: 1, queue: 8, kv: "int4" };
  const computing = { device: "cpu", threads: 1, memory: 1024 * MIB } as const;
  const never = new AbortController().signal;
  const serving = await openServing(models, { ...all, ...computing, ...options }, never, never);
  opened = serving;
  const api = createApi(serving.offered, { apiKey: null, origins: [], hosts: [] }, async () => null);
  const fetching = ((input: string | URL | Request, init?: RequestInit) =>
    api(new Request(input, init))) as typeof fetch;
  const client = { apiKey: "any", maxRetries: 0, fetch: fetching };
  return {
    ...{ serving, api },
    openai: new OpenAI({ ...client, baseURL: "http://localhost/v1" }),
    ollama: new Ollama({ host: "http://localhost", fetch: fetching }),
    anthropic: new Anthropic({ ...client, baseURL: "http://localhost" }),
    states: () => Object.fromEntries(serving.offered.models.map(({ names, state }) => [names[0], state])),
  };
}

const messages = [{ role: "user" as const, content: "abc" }];
const asked = { messages, max_tokens: 2 };

describe("several models in a folder", () => {
  it("are listed, loaded when they are named, and told of", async () => {
    const { openai, ollama, anthropic, api, states, serving } = await several({
      alias: ["gpt-4o=other"],
      context: 512,
    });
    expect(serving.name).toBe("3 models");
    const { data } = await openai.models.list();
    expect(data).toMatchObject([
      { id: "broken", status: { value: "unloaded" } },
      { id: "other", status: { value: "unloaded" }, nibble: { fileBytes: expect.any(Number) } },
      { id: "small", status: { value: "unloaded" } },
    ]);
    const answer = await openai.chat.completions.create({ ...asked, model: "gpt-4o" });
    expect(answer).toMatchObject({ model: "other", usage: { completion_tokens: 2 } });
    expect(states()).toEqual({ broken: "unloaded", other: "loaded", small: "unloaded" });
    // Trained for fewer tokens than were asked for.
    expect(await openai.models.retrieve("makers/deep/other")).toMatchObject({
      ...{ id: "other", status: { value: "loaded" }, nibble: { context: 128, kv: "int4" } },
    });
    expect(told.join("")).toContain("other goes without --context");
    const said = await anthropic.messages.create({ model: "small", max_tokens: 2, messages });
    expect(said).toMatchObject({ model: "small", usage: { output_tokens: 2 } });
    const counted = await anthropic.messages.countTokens({ model: "other", messages });
    expect(counted.input_tokens).toBeGreaterThan(1);
    const { models } = await ollama.list();
    expect(models.map(({ name, details }) => [name, details.family])).toEqual([
      ["broken", ""],
      ["other", "llama"],
      ["small", "llama"],
    ]);
    expect((await ollama.ps()).models.map(({ name }) => name)).toEqual(["other", "small"]);
    const metrics = await (await api(new Request("http://localhost/metrics"))).text();
    expect(metrics).toContain("nibble_models_loaded 2");
    expect(metrics).toMatch(/nibble_cache_bytes\{model="small"\} \d{4}/);
    expect((await api(new Request("http://localhost/health"))).status).toBe(200);
    expect(told.join("")).toMatch(/loaded small in [\d.]+ s: 128 tokens of context/);
  });

  it("answer by every API, each from what it has said itself", async () => {
    const { openai, ollama, api } = await several({ embeddings: true, pooling: "mean" });
    const post = async (path: string, body: object) => {
      const response = await api(
        new Request(`http://localhost${path}`, { method: "POST", body: JSON.stringify(body) }),
      );
      return { status: response.status, body: await response.json() };
    };
    const first = await openai.responses.create({ model: "small", input: "abc", max_output_tokens: 16 });
    const next = await openai.responses.create({
      ...{ model: "other", input: "d", previous_response_id: first.id, max_output_tokens: 16 },
    });
    expect([first.model, next.model]).toEqual(["small", "other"]);
    const { data } = await openai.embeddings.create({ model: "small", input: "abc" });
    expect(data[0].embedding).toHaveLength(64);
    expect((await post("/tokenize", { model: "other", content: "abc" })).body.tokens.length).toBeGreaterThan(
      1,
    );
    expect(await post("/tokenize", { content: "abc" })).toMatchObject({
      status: 400,
      body: { error: { message: expect.stringContaining('"broken", "other", "small"') } },
    });
    expect(await post("/v1/completions", { model: "smal", prompt: "abc" })).toMatchObject({
      ...{ status: 404, body: { error: { message: expect.stringContaining('near to it: "small"') } } },
    });
    await expect(ollama.chat({ model: "llama3", messages })).rejects.toThrow(/"llama3" not found/);
  });

  it("are given back as Ollama's clients and llama.cpp's ask, and shown without being loaded", async () => {
    const { ollama, api, states } = await several();
    expect(await ollama.show({ model: "small" })).toMatchObject({
      ...{ template: TEMPLATE, details: { family: "llama" }, model_info: { "llama.context_length": 128 } },
    });
    expect(states()).toMatchObject({ small: "unloaded" });
    const load = await ollama.generate({ model: "small:latest", prompt: "", keep_alive: "10m" });
    expect(load).toMatchObject({ done_reason: "load" });
    const { models } = await ollama.ps();
    const minutes = (Date.parse(String(models[0].expires_at)) - Date.now()) / 60_000;
    expect(minutes).toBeGreaterThan(1);
    expect(minutes).toBeLessThanOrEqual(10);
    const answer = await ollama.chat({
      model: "other",
      messages,
      keep_alive: 0,
      options: { num_predict: 2 },
    });
    expect(answer.load_duration).toBeGreaterThan(0);
    await until(() => expect(states()).toMatchObject({ small: "loaded", other: "unloaded" }));
    expect(await ollama.generate({ model: "small", prompt: "", keep_alive: 0 })).toMatchObject({
      done_reason: "unload",
    });
    expect(states()).toMatchObject({ small: "unloaded" });
    const post = (path: string, model: string) =>
      api(new Request(`http://localhost${path}`, { method: "POST", body: JSON.stringify({ model }) }));
    // Of one that is not loaded it changes nothing.
    expect((await post("/models/unload", "small")).status).toBe(200);
    expect(await (await post("/models/load", "small")).json()).toEqual({ success: true });
    await until(() => expect(states()).toMatchObject({ small: "loaded" }));
    expect((await post("/models/unload", "small")).status).toBe(200);
    expect(states()).toMatchObject({ small: "unloaded" });
    expect((await post("/models/load", "nothing")).status).toBe(404);
    await expect(ollama.generate({ model: "small", prompt: "", keep_alive: "soon" })).rejects.toThrow(
      /keep_alive/,
    );
  });

  it("have the draft model that is given where it has the same tokens, and go without it where not", async () => {
    const strange = join(folder, "makers", "strange.draft");
    writeFileSync(strange, tinyModel({ pieces: 7 }));
    const alike = await several({ draft: join(folder, "small.gguf") });
    await alike.openai.chat.completions.create({ ...asked, model: "other" });
    const { bytes, facts } = (alike.serving.offered as OnDemand).find("other")!;
    expect(bytes).toBeGreaterThan(1.5 * facts!.totalBytes);
    await opened?.close();
    const other = await several({ draft: strange });
    await other.openai.chat.completions.create({ ...asked, model: "other" });
    const alone = (other.serving.offered as OnDemand).find("other")!;
    expect(alone.bytes).toBe(alone.facts!.totalBytes);
    expect(told.join("")).toContain("other goes without --draft");
  });

  it("that cannot be loaded end their own requests only", async () => {
    const { openai, states } = await several();
    const wrong = await openai.chat.completions
      .create({ ...asked, model: "broken" })
      .catch((e: APIError) => e);
    expect(wrong).toMatchObject({
      status: 400,
      code: "model_not_loaded",
      message: expect.stringContaining("broken"),
    });
    expect(states()).toMatchObject({ broken: "failed" });
    expect((await openai.models.retrieve("broken")) as object).toMatchObject({
      status: { value: "failed", problem: expect.stringContaining("broken.gguf") },
    });
    await openai.chat.completions.create({ ...asked, model: "small" });
  });

  it("share the memory: one makes room for another, not while it answers, and what never fits is refused with the numbers", async () => {
    const first = await several();
    await first.openai.chat.completions.create({ ...asked, model: "small" });
    const { plan } = (first.serving.offered as OnDemand).find("small")!.served!.model;
    const aside = 1024 * MIB - plan.limitBytes;
    await first.serving.close();
    const { openai, states } = await several({ memory: aside + 1.5 * plan.totalBytes });
    const stream = await openai.completions.create({
      ...{ model: "small", prompt: "abc", max_tokens: 60, stream: true },
      ...({ ignore_eos: true } as object),
    });
    const events = stream[Symbol.asyncIterator]();
    await events.next();
    const other = openai.chat.completions.create({ ...asked, model: "other" });
    // It waits, unless the stream's answer is done and only its events are not read yet.
    await until(() => expect(states().other).not.toBe("unloaded"));
    let finish: string | null = null;
    for (let event = await events.next(); !event.done; event = await events.next())
      finish = event.value.choices[0]?.finish_reason ?? finish;
    expect(finish).toBe("length");
    expect((await other).usage?.completion_tokens).toBe(2);
    expect(states()).toMatchObject({ small: "unloaded", other: "loaded" });
    expect(told.join("")).toContain("closing small: to make room for other");
    await opened?.close();
    const none = await several({ memory: aside + 0.5 * plan.totalBytes, context: 128 });
    const refused = await none.openai.chat.completions
      .create({ ...asked, model: "small" })
      .catch((e: APIError) => e);
    expect(refused).toMatchObject({
      status: 400,
      code: "model_too_large",
      message: expect.stringMatching(/need [\d.]+ GiB/),
    });
  });

  it("of the Hub are downloaded before the server runs, and keep their names", async () => {
    const path = join(folder, "small.gguf");
    const [source] = await modelSources(
      ["hf:owner/small-GGUF:Q8_0"],
      ["gpt=owner/small-GGUF:Q8_0"],
      async () => path,
    );
    expect(source).toMatchObject({ source: path, fileBytes: statSync(path).size });
    expect(source.names).toEqual(
      expect.arrayContaining(["owner/small-GGUF:Q8_0", "hf:owner/small-GGUF:Q8_0", "gpt"]),
    );
  });

  it("are named one by one, too; a wrong name, alias or folder is told before the server runs", async () => {
    const { states } = await several({}, ["needle", join(folder, "small.gguf")]);
    expect(states()).toEqual({ needle: "unloaded", small: "unloaded" });
    mkdirSync(join(folder, "makers", "none"));
    for (const [models, options, message] of [
      [["needle", "llama3"], {}, /no file or folder has this name/],
      [[join(folder, "makers", "none")], {}, /a folder with GGUF files/],
      [[folder], { alias: ["gpt-4o"] }, /alias is gpt-4o; allowed: NAME=MODEL.*small/],
      [["needle", "needle"], {}, /each model once/],
    ] as const)
      await expect(
        several({ ...options, alias: [...("alias" in options ? options.alias : [])] }, [...models]),
      ).rejects.toThrow(message);
  });
});

it("the command: loads on a request, and closes at the end", async () => {
  requireFreshBuild();
  const running = start(
    ["serve", folder, "--port", "0", "--threads", "1", "--device", "cpu", "--keep", "-1"],
    null,
  );
  const line = await new Promise<string>((resolve, reject) => {
    running.child.stdout?.once("data", (data) => resolve(String(data)));
    running.ended.then(({ stderr }) => reject(new Error(stderr)));
  });
  expect(line).toMatch(
    /^3 models at http.*broken, other, small · loaded when asked for, kept for ever unused/,
  );
  const url = /http:\/\/[^ ]+/.exec(line)?.[0] ?? "";
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "any", maxRetries: 0 });
  expect((await client.chat.completions.create({ ...asked, model: "small" })).usage?.completion_tokens).toBe(
    2,
  );
  running.child.kill("SIGTERM");
  const ended = await running.ended;
  expect(ended.code).toBe(143);
  expect(ended.stderr).toMatch(/^nibble: loading small\nnibble: loaded small in .*\n$/);
});
