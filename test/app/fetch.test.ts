/** `nibble-llm/server`: the API as a function, in front of which a program stands. */
import { Hono } from "hono";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createFetch, type Fetch } from "../../src/app/fetch.ts";
import { ArgumentError } from "../../src/index.ts";
import { type Talking, talking } from "../answer/talking.ts";

let talker: Talking;
let own: Fetch;
const refused: string[] = [];
beforeAll(async () => {
  talker = await talking("needle", "Qwen-Qwen3-0.6B");
  own = createFetch(talker.model, {
    ...{ names: ["talker"], basePath: "/ai", apiKey: "key", allowHosts: ["example.org"], strict: true },
    onRefused: (line) => refused.push(line),
  });
});
afterAll(() => {
  own.close();
  return talker.model.close();
});

it("serves behind another router, under its own path, by its options", async () => {
  const app = new Hono()
    .get("/", (context) => context.text("home"))
    .all("/ai/*", (context) => own(context.req.raw));
  const client = new OpenAI({
    ...{ apiKey: "key", maxRetries: 0, baseURL: "http://example.org/ai/v1" },
    fetch: async (url, init) => app.fetch(new Request(url as string, init)),
  });
  talker.says("In Bern.");
  const messages = [{ role: "user" as const, content: "Where?" }];
  const { choices } = await client.chat.completions.create({ model: "talker", messages });
  expect(choices[0].message.content).toBe("In Bern.");
  let text = "";
  for await (const event of await client.chat.completions.create({ model: "talker", messages, stream: true }))
    text += event.choices[0]?.delta.content ?? "";
  expect(text).toBe("In Bern.");
  await expect(
    client.chat.completions.create({ model: "talker", messages, mood: 1 } as never),
  ).rejects.toThrow(/mood/);
  expect(refused).toEqual([expect.stringMatching(/^400 POST \/v1\/chat\/completions: mood is not known/)]);
  const status = async (url: string) => (await own(new Request(url))).status;
  expect(await status("http://example.org/ai/v1/models")).toBe(401);
  expect(await status("http://example.org/ai/health")).toBe(200);
  expect(await status("http://other.org/ai/health")).toBe(403);
  expect(await status("http://example.org/aix/health")).toBe(404);
});

it.each([{ basePath: "/ai/" }, { queue: -1 }, { apiKey: "a b" }, { defaults: { topP: 2 } }])(
  "%j is refused",
  (options) => {
    expect(() => createFetch(talker.model, options)).toThrow(ArgumentError);
  },
);
