/** Chat templates: the golden ones against Hugging Face's renderer, where they are found, and what they may not do. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FormatError, NibbleError, UnsupportedError } from "../../src/format/errors.ts";
import {
  type ChatMessage,
  chatTemplateFromConfig,
  chatTemplateFromGguf,
  type RenderOptions,
} from "../../src/format/template.ts";
import { JinjaTemplate } from "../../src/format/template-jinja.ts";
import { goldenMetadata } from "./tokenizer-vocabularies.ts";

const folder = new URL("../golden/templates/", import.meta.url);
const golden = JSON.parse(readFileSync(new URL("rendered.json", folder), "utf8")) as {
  cases: Record<
    string,
    { messages: ChatMessage[]; add_generation_prompt: boolean } & Record<string, unknown>
  >;
  templates: Record<
    string,
    { bos_token: string; eos_token: string; expected: Record<string, { text?: string; error?: string }> }
  >;
};

describe.each(Object.keys(golden.templates))("%s", (file) => {
  const { bos_token, eos_token, expected } = golden.templates[file];
  const chat_template = readFileSync(new URL(file, folder), "utf8");
  const template = chatTemplateFromConfig({ bos_token, eos_token: { content: eos_token }, chat_template })!;

  it.each(Object.keys(golden.cases))("%s", (name) => {
    const { messages, add_generation_prompt, ...options } = golden.cases[name];
    const render = () =>
      template.render(messages, { ...options, addGenerationPrompt: add_generation_prompt } as RenderOptions);
    const { text, error } = expected[name];
    if (text !== undefined) expect(render()).toBe(text);
    else {
      expect(render).toThrow(UnsupportedError);
      expect(render).toThrow(error);
    }
  });
});

const hi: ChatMessage[] = [{ role: "user", content: "Hi" }];
const of = (chat_template: unknown) => chatTemplateFromConfig({ chat_template, bos_token: "<s>" })!;

describe("where templates are", () => {
  it("in GGUF metadata, with the tokens they name", async () => {
    const template = chatTemplateFromGguf(await goldenMetadata("needle"))!;
    expect(template.render(hi, { addGenerationPrompt: true })).toBe(
      "<|begin|><|user|>Hi<|end|><|assistant|>",
    );
    expect(chatTemplateFromGguf(await goldenMetadata("qwen2"))!.source).toContain("<|im_start|>");
    expect(chatTemplateFromGguf(await goldenMetadata("llama-bpe"))).toBe(null);
  });

  it("under names in GGUF metadata", () => {
    const template = chatTemplateFromGguf({
      "tokenizer.ggml.tokens": ["a"],
      "tokenizer.chat_template": "plain",
      "tokenizer.chat_templates": ["tool_use"],
      "tokenizer.chat_template.tool_use": "tools: {{ tools | length }}",
    })!;
    expect(template.render(hi)).toBe("plain");
    expect(template.render(hi, { tools: [] })).toBe("plain");
    expect(template.render(hi, { tools: [{}] })).toBe("tools: 1");
  });

  it("in a folder: as a text, a list, a file of its own, or nowhere", () => {
    const list = [
      { name: "tool_use", template: "tools" },
      { name: "default", template: "plain" },
    ];
    expect(of("{{ bos_token }}{{ messages[0].content }}").render(hi)).toBe("<s>Hi");
    expect(of(list).render(hi)).toBe("plain");
    expect(of(list).render(hi, { tools: [1] })).toBe("tools");
    expect(chatTemplateFromConfig({ chat_template: "old" }, "new")!.render(hi)).toBe("new");
    expect(chatTemplateFromConfig({}, "{{ eos_token }}", { eos_token: "</s>" })!.render(hi)).toBe("</s>");
    expect(chatTemplateFromConfig({})).toBe(null);
    expect(chatTemplateFromConfig(undefined)).toBe(null);
  });
});

describe("what templates are given", () => {
  it("a clock", () => {
    const now = new Date(2024, 6, 4, 9, 5);
    expect(of("{{ strftime_now('%d %b %Y, %B %A %H:%M %%') }}").render(hi, { now })).toBe(
      "04 Jul 2024, July Thursday 09:05 %",
    );
  });

  it("variables of the caller, which cannot replace the messages", () => {
    const options = { enable_thinking: false, messages: [], bos_token: "x" };
    expect(of("{{ enable_thinking }} {{ messages | length }} {{ bos_token }}").render(hi, options)).toBe(
      "false 1 <s>",
    );
  });

  it("range, tojson, namespace and loops", () => {
    const source = "{% for i in range(1, 7, 2) %}{{ i }}{% endfor %}{{ {'a': [1, 'é']} | tojson }}";
    expect(of(source).render(hi)).toBe('135{"a": [1, "é"]}');
  });
});

describe("templates that fail", () => {
  it("say why, once", () => {
    expect(() => of("{{ raise_exception('No system role') }}").render(hi)).toThrow(/No system role/);
    expect(() => of("{{ nothing.at.all() }}").render(hi)).toThrow(UnsupportedError);
    expect(() => of("{% if %}")).toThrow(FormatError);
    expect(() => of("{{ 'x' ")).toThrow(/tokenizer_config\.json: chat_template: no Jinja template/);
    expect(() => of(`{{ ${"(".repeat(50_000)} }}`)).toThrow(FormatError);
  });

  it("stay inside their bounds", () => {
    const bounds = { steps: 20_000, characters: 10_000, elements: 1000 };
    const run = (source: string) => () =>
      new JinjaTemplate(source, "test").run({ text: "x".repeat(5000) }, new Date(), bounds);
    const doubled = (value: string) =>
      `{% set n = namespace(v=${value}) %}{% for i in range(60) %}{% set n.v = n.v + n.v %}{% endfor %}`;
    expect(run("{% for i in range(1000) %}{% for j in range(1000) %}x{% endfor %}{% endfor %}")).toThrow(
      /steps/,
    );
    expect(run("{{ range(1000000000) }}")).toThrow(/range\(\) of 1000000000; allowed: at most 1000/);
    expect(run("{{ range(0, 1, 0) }}")).toThrow(/range\(\)/);
    expect(run(doubled("'abc'"))).toThrow(/a text of \d+ characters; allowed: at most 10000/);
    expect(run(doubled("[1, 2]"))).toThrow(/a list of \d+/);
    expect(run("{% for i in range(900) %}{{ text }}{% endfor %}")).toThrow(/characters/);
    expect(run("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")).toThrow(NibbleError);
    expect(run("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}")).toThrow(NibbleError);
  });

  it("are refused when they are too long or mostly blank", () => {
    expect(() => of("x".repeat(2 ** 19 + 1))).toThrow(/524289 characters; allowed: at most 524288/);
    expect(() => of(`a${" ".repeat(1025)}b`)).toThrow(/1025 blanks in a row; allowed: at most 1024/);
  });

  it("give one error whatever they hold", () => {
    const part = fc.oneof(
      fc.constantFrom(
        "{{",
        "}}",
        "{%",
        "%}",
        "for x in ",
        "messages",
        "if ",
        "endif",
        "endfor",
        "set x = ",
        "|",
        "tojson",
      ),
      fc.constantFrom(
        ".content",
        "[0]",
        "(",
        ")",
        "1",
        "'a'",
        "+",
        "==",
        " ",
        "\n",
        "{#",
        "#}",
        "macro f()",
        "-",
      ),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 14 }), (parts) => {
        try {
          of(parts.join("")).render(hi);
        } catch (error) {
          expect(error).toBeInstanceOf(NibbleError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
