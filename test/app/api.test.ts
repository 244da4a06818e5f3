/** The API as a function, over needle-14m on the CPU: what it answers, what it refuses, and that nothing is left behind. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LanguageModel, load } from "../../src/index.ts";
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
      json_schema: { name: "a", schema: { type: "string", pattern: "a" } },
    };
    expect(await chat({ response_format: wrong })).toMatchObject({
      status: 400,
      body: {
        error: {
          param: "response_format.json_schema.schema.pattern",
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
