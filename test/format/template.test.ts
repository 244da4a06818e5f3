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

/** Jinja2's exceptions where ours say more, or less, by design. */
const OTHER_WORDS: Record<string, RegExp> = {
  ZeroDivisionError: /division by zero/,
  IndexError: /out of range/,
  TypeError: /./,
  ValueError: /./,
};

describe("features of Jinja2", () => {
  const { variables, cases } = JSON.parse(readFileSync(new URL("features.json", folder), "utf8")) as {
    variables: Record<string, unknown>;
    cases: { template: string; text?: string; error?: string }[];
  };

  it.each(cases)("$template", ({ template, text, error = "" }) => {
    const render = () => new JinjaTemplate(template, "test").run(variables, new Date());
    if (text !== undefined) return expect(render()).toBe(text);
    const [, name, message] = /^(\w+): (.*)$/s.exec(error)!;
    expect(render).toThrow(UnsupportedError);
    expect(render).toThrow(OTHER_WORDS[name] ?? message);
  });
});

it.each(["include 'a'", "import 'a' as b", "from 'a' import b", "extends 'a'", "block a"])(
  "{%% %s %%} is refused for what it is",
  (statement) => {
    const [name] = statement.split(" ");
    expect(() => new JinjaTemplate(`{% ${statement} %}`, "test")).toThrow(
      `test: not a Jinja template ({% ${name} %} needs other templates, and a chat template stands alone)`,
    );
  },
);

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
      "False 1 <s>",
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
    expect(() => of("{% if %}").render(hi)).toThrow(FormatError);
    expect(() => of("{{ 'x' ").render(hi)).toThrow(
      /tokenizer_config\.json: chat_template: not a Jinja template/,
    );
    expect(() => of(`{{ ${"(".repeat(50_000)} }}`).render(hi)).toThrow(FormatError);
  });

  const doubled = (start: string, times = 60) =>
    `{% set n = namespace(v=${start}) %}{% for i in range(${times}) %}{% set n.v = n.v + n.v %}{% endfor %}`;
  const pairs = "{% set n = namespace(l=[]) %}{% for i in range(60) %}{% set n.l = [n.l, n.l] %}{% endfor %}";

  it.each([
    [
      "loops",
      "{% for i in range(900) %}{% for j in range(900) %}x{% endfor %}{% endfor %}",
      /steps|characters/,
    ],
    ["empty loops", "{% for i in range(900) %}{% for j in range(900) %}{% endfor %}{% endfor %}", /steps/],
    ["range", "{{ range(1000000000) }}", /a list of 1000000000; allowed: at most 1000/],
    ["doubled texts", doubled("'abc'"), /a text of \d+ characters; allowed: at most 10000/],
    ["doubled lists", doubled("[1, 2]"), /a list of \d+/],
    ["slices", `${doubled("'a'", 13)}{% for i in range(900) %}{{ n.v[::2] }}{% endfor %}`, /a list of 4096/],
    [
      "whole slices",
      `${doubled("'a'", 13)}{% for i in range(900) %}{% set x = n.v[1:] %}{% endfor %}`,
      /steps/,
    ],
    ["split", `${doubled("'a'", 13)}{{ n.v.split("a") | length }}`, /a list of 1001/],
    ["split at blanks", `${doubled("'a '", 12)}{{ n.v.split() | length }}`, /a list of 1001/],
    ["lines", `${doubled("'\\n'", 13)}{{ n.v.splitlines() | length }}`, /a list of 1001/],
    ["characters", `${doubled("'a'", 13)}{{ n.v | list }}`, /a list of 8192/],
    ["tojson of pairs", `${pairs}{{ n.l | tojson }}`, /steps|characters/],
    ["writing pairs", `${pairs}{{ n.l }}`, /steps|characters/],
    ["comparing pairs", `${pairs}{{ n.l == [n.l[0], n.l[1]] }}`, /steps/],
    ["the result", "{% for i in range(900) %}{{ text }}{% endfor %}", /characters/],
    ["repetition", "{{ 'a' * 1000000000 }}", /a text of 1000000000/],
    ["repetition of lists", "{{ [1] * 1000000000 }}", /a list of 1000000000/],
    ["replace", "{{ text.replace('x', text) }}", /a text of 25000000/],
    ["replace between characters", "{{ text.replace('', text) }}", /a text of 25010000/],
    ["the filter replace", "{{ text | replace('x', 'yyy') }}", /a text of 15000/],
    ["join", "{{ text.join(range(900) | map('string')) }}", /a text of/],
    ["the filter join", "{{ range(900) | join(text) }}", /a text of/],
    ["center", "{{ 'a'.center(1000000000) }}", /a text of 1000000000/],
    ["the filter center", "{{ 'a' | center(1000000000) }}", /a text of 1000000000/],
    ["zfill", "{{ 'a'.zfill(1000000000) }}", /a text of 1000000000/],
    ["a width in %", "{{ '%1000000000s' % 'a' }}", /a text of 1000000000/],
    ["a width in format", "{{ '{:>1000000000}'.format('a') }}", /a text of 1000000000/],
    ["indent", "{{ 'a' | indent(1000000000) }}", /a text of 1000000000/],
    ["indented lines", `${doubled("'a\\n'", 9)}{{ n.v | indent(900) }}`, /a text of/],
    ["tojson's indent", "{{ [1] | tojson(indent=1000000000) }}", /a text of 1000000000/],
    ["tojson's separators", "{{ range(900) | list | tojson(separators=(text, text)) }}", /a text of/],
    ["escape", "{{ text | e | e | length }}", /a text of 25000/],
    ["strftime", "{{ strftime_now(text) }}", /a text of/],
    ["searching", "{% for i in range(900) %}{% if text in text %}{% endif %}{% endfor %}", /steps/],
    ["searching lists", "{% set l = range(900) | list %}{% for i in l %}{{ 'x' in l }}{% endfor %}", /steps/],
    ["sorting", "{% for i in range(900) %}{% set x = range(900) | sort %}{% endfor %}", /steps/],
    ["map", "{% for i in range(900) %}{% set x = range(900) | map('string') %}{% endfor %}", /steps/],
    ["macros", "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", /steps|call stack/],
    ["endless macros", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", /call stack|steps/],
    ["arguments", "{{ [].count(*range(900), *range(900)) }}", /only one|no Jinja/i],
  ])("stay inside their bounds: %s", (_, source, message) => {
    const bounds = { steps: 20_000, characters: 10_000, elements: 1000 };
    const run = () => new JinjaTemplate(source, "test").run({ text: "x".repeat(5000) }, new Date(), bounds);
    expect(run).toThrow(NibbleError);
    expect(run).toThrow(message);
  });

  it("stay inside the bounds that they have: what hung in attacks", () => {
    const letters =
      "{% set n = namespace(x='a') %}{% for i in range(26) %}{% set n.x = n.x ~ n.x %}{% endfor %}";
    for (const source of [
      "{% for i in range(1000000) %}{% for j in range(1000000) %}{% endfor %}{% endfor %}",
      `${letters}{% for i in range(60) %}{% set z = n.x[::2] %}{% endfor %}`,
      `${letters}{{ n.x.split("a") | length }}`,
      `${pairs}{{ n.l | tojson }}`,
    ])
      expect(() => of(source).render(hi)).toThrow(FormatError);
  });

  it("have as many steps as a long conversation needs", () => {
    const source =
      "{% for m in messages %}{% for n in range(60) %}{% if n == loop.index0 %}{% endif %}{% endfor %}{{ m.content }}{% endfor %}";
    const messages = Array.from({ length: 5000 }, () => ({ role: "user", content: "x" }));
    expect(of(source).render(messages)).toBe("x".repeat(5000));
    expect(() => of(source.replace("60", "999999")).render(hi)).toThrow(/steps/);
  });

  it("tell it before they are needed", () => {
    const told = (chat_template: unknown) => of(chat_template).warnings;
    expect(told("{{ messages[0].content }}")).toEqual([]);
    expect(told("{% if %}")).toEqual([expect.stringMatching(/cannot be read: .*not a Jinja template/)]);
    expect(told("{% include 'x' %}")).toEqual([expect.stringMatching(/cannot be read: .*include/)]);
    expect(told("{{ raise_exception('never') }}")).toEqual([
      expect.stringMatching(/fails on a plain question: .*never/),
    ]);
    expect(told("{% if tools %}{{ x | magic }}{% if x is odder(1) %}{% endif %}{% endif %}")).toEqual([
      expect.stringMatching(/uses the filter 'magic'/),
      expect.stringMatching(/uses the test 'odder'/),
    ]);
    const tools = { name: "tool_use", template: "{{ x" };
    const named = [{ name: "default", template: "plain" }, tools];
    expect(told(named)).toEqual([expect.stringMatching(/cannot be read: .*tool_use/)]);
    expect(of(named).render(hi)).toBe("plain");
    expect(() => of(named).render(hi, { tools: [1] })).toThrow(FormatError);
  });

  it("of the publishers tell nothing", () => {
    for (const file of Object.keys(golden.templates))
      expect(of(readFileSync(new URL(file, folder), "utf8")).warnings).toEqual([]);
  });

  it("say what they say without what a terminal would obey", () => {
    const render = () => of("{{ raise_exception('\x1b]0;PWN\x07 no') }}").render(hi);
    expect(render).toThrow(/chat_template: {2}\]0;PWN {2}no\)/);
  });

  it("are refused when they are too long or mostly blank", () => {
    const render = (source: string) => () => of(source).render(hi);
    expect(render("x".repeat(2 ** 19 + 1))).toThrow(/524289 characters; allowed: at most 524288/);
    expect(render(`a${" ".repeat(1025)}b`)).toThrow(/1025 blanks in a row; allowed: at most 1024/);
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
