/** Chat templates of public reports, through the server: what was refused or changed in silence is answered. */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { callFormat } from "../../src/answer/calls/call-formats.ts";
import { chatTemplateFromGguf } from "../../src/format/template.ts";
import type { Tokenizer } from "../../src/format/tokenizer.ts";
import type { Piece } from "../../src/index.ts";
import { goldenMetadata, goldenTokenizer } from "../format/tokenizer-vocabularies.ts";
import { servingTemplate } from "./served.ts";

const templates = JSON.parse(
  readFileSync(new URL("../cases/templates.json", import.meta.url), "utf8"),
) as Record<string, Record<string, unknown>>;

let tokenizer: Tokenizer;
let vocabulary: Record<string, unknown>;

beforeAll(async () => {
  tokenizer = await goldenTokenizer("qwen2");
  vocabulary = await goldenMetadata("qwen2");
}, 60_000);

const templateOf = (name: string) =>
  chatTemplateFromGguf({
    "tokenizer.ggml.tokens": vocabulary["tokenizer.ggml.tokens"],
    ...templates[name],
  })!;

/** What a server with this template makes of a request: the status, and the prompt that the model got. */
async function asked(
  name: string,
  body: object,
): Promise<{ status: number; prompt: string; error?: string }> {
  // biome-ignore lint/correctness/useYield: an answer without words
  async function* pieces(prompt: readonly number[]): AsyncGenerator<Piece, never> {
    const counts = { promptTokens: prompt.length, reusedTokens: 0, generatedTokens: 0 };
    return { stopReason: "end", text: "", ids: [], ...counts, promptMs: 1, generateMs: 1, seed: 1 } as never;
  }
  const server = servingTemplate(tokenizer, templateOf(name), pieces);
  const response = await server.post("/v1/chat/completions", body);
  const { error } = (await response.json()) as { error?: { message: string } };
  return { status: response.status, prompt: server.prompt(), error: error?.message };
}

const user = (content: string) => ({ role: "user", content });
const tool = (parameters: object) => ({
  type: "function",
  function: { name: "look", description: "Looks.", parameters },
});

describe("a template", () => {
  it("that filters None is answered: Functionary 3.1", async () => {
    const { status, prompt } = await asked("template-none", { messages: [user("Hi")] });
    expect([status, prompt]).toEqual([200, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"]);
  });

  it("that filters what is undefined is answered: Hermes 3 with a parameter that is not described", async () => {
    const tools = [tool({ type: "object", properties: { x: { type: "string" } } })];
    const { status, prompt } = await asked("template-undefined", { messages: [user("Hi")], tools });
    expect(status).toBe(200);
    expect(prompt).toMatch(/^look\(x: \)<\|im_start\|>user/);
  });

  it("that strips line ends keeps the blanks of an indented answer: Qwen 3, SmolLM 3", async () => {
    const messages = [user("Code?"), { role: "assistant", content: "\n    x" }, user("More")];
    const { prompt } = await asked("template-strip", { messages });
    expect(prompt).toContain("<|im_start|>assistant\n    x<|im_end|>");
  });

  it("for tools alone keeps them: Hermes 2 Pro and 3", async () => {
    expect(callFormat(templateOf("named-templates"))?.marks).toContain("<tool_call>");
    const tools = [tool({ type: "object", properties: { x: { type: "string" } } })];
    const { status, prompt } = await asked("named-templates", { messages: [user("Hi")], tools });
    expect([status, prompt.split("<")[0]]).toEqual([200, "look: x "]);
    expect((await asked("named-templates", { messages: [user("Hi")] })).prompt).toMatch(
      /^<\|im_start\|>user/,
    );
  });

  it("without a place for a system message has it before the first question: Mistral 0.1, Gemma 2", async () => {
    const messages = [{ role: "system", content: "Be brief." }, user("Hi")];
    const { status, prompt } = await asked("template-roles", { messages });
    expect([status, prompt]).toEqual([200, expect.stringMatching(/\[INST\] Be brief\.\n\nHi \[\/INST\]$/)]);
    const twice = await asked("template-roles", { messages: [user("Hi"), user("Hi")] });
    expect([twice.status, twice.error]).toEqual([400, expect.stringMatching(/roles must alternate/)]);
  });
});
