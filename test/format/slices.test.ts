/** Long prompts in slices: the same ids, others get their turn meanwhile, and a signal ends the work. */
import { beforeAll, describe, expect, it, vi } from "vitest";
import { AnswerIds } from "../../src/format/answer-ids.ts";
import { AbortedError } from "../../src/format/errors.ts";
import { atOnce, inSlices, type Slices } from "../../src/format/slices.ts";
import { chatTemplateFromConfig } from "../../src/format/template.ts";
import { JinjaTemplate } from "../../src/format/template-jinja.ts";
import { chatSlices, encodeChat } from "../../src/format/template-prompt.ts";
import type { Tokenizer } from "../../src/format/tokenizer.ts";
import { goldenTokenizer } from "./tokenizer-vocabularies.ts";

/** The result of some work, and how often it can be left. */
function counted<Result>(work: Slices<Result>): { result: Result; pauses: number } {
  for (let pauses = 0; ; pauses++) {
    const step = work.next();
    if (step.done) return { result: step.value, pauses };
  }
}

const MEGABYTE = 2 ** 20;
const filled = (part: string) => part.repeat(Math.ceil(MEGABYTE / part.length)).slice(0, MEGABYTE);
/** Words that no memory of words holds. */
const numbered = () => Array.from({ length: 70_000 }, (_, at) => `w${at * 7919}x ö${at}`).join(" ");

const TEXTS: Record<string, () => string> = {
  prose: () => filled("The quick brown fox jumps over the lazy dog, 12 times.\n"),
  "words that differ": numbered,
  "one word": () => filled("a"),
  "control tokens": () => filled("<|im_end|><|im_start|>user\n"),
};

const VOCABULARIES = ["qwen2", "llama-spm", "gemma-4"] as const;
const tokenizers = new Map<string, Tokenizer>();

// Vocabularies of a hundred thousand tokens, on a machine that others use.
beforeAll(async () => {
  for (const name of VOCABULARIES) tokenizers.set(name, await goldenTokenizer(name));
}, 60_000);

describe("a megabyte", () => {
  it.each([...Object.keys(TEXTS).map((kind) => [kind, "qwen2"]), ["one word", "gemma-4"]])(
    "can be left while it is encoded: %s, %s",
    async (kind, name) => {
      const tokenizer = tokenizers.get(name)!;
      const text = TEXTS[kind]();
      const { result, pauses } = counted(tokenizer.slices(text));
      // Each 16,384 characters at most, some 4 ms; all of the text at once takes up to a second.
      expect(pauses).toBeGreaterThanOrEqual(Math.floor(text.length / 2 ** 14));
      expect(tokenizer.decode(result, { special: true })).toBe(text);
    },
  );

  it("lets timers have their turn", async () => {
    const tokenizer = tokenizers.get("qwen2")!;
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await inSlices(tokenizer.slices(numbered()), "encoding");
    clearInterval(timer);
    expect(turns).toBeGreaterThan(2);
  });
});

describe.each(VOCABULARIES)("%s", (name) => {
  it("gives the ids of the whole at once, also when two texts take turns", async () => {
    const tokenizer = tokenizers.get(name)!;
    const texts = [
      filled("ab").slice(0, 30_000),
      numbered().slice(0, 60_000),
      `${filled(" ").slice(0, 20_000)}x`,
    ];
    const expected = texts.map((text) => tokenizer.encode(text));
    const works = texts.map((text) => tokenizer.slices(text));
    const found: number[][] = [];
    while (found.filter(Boolean).length < works.length)
      for (const [at, work] of works.entries()) {
        const step = work.next();
        if (step.done && step.value) found[at] = step.value;
      }
    expect(found).toEqual(expected);
  });
});

describe("a conversation", () => {
  const source =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";
  const template = chatTemplateFromConfig({}, source)!;
  const messages = Array.from({ length: 4000 }, (_, at) => ({
    role: at % 2 === 0 ? "user" : "assistant",
    content: ` message ${at} of a long talk `,
  }));

  it("of many messages can be left, and has the ids of the whole at once", () => {
    const tokenizer = tokenizers.get("qwen2")!;
    const answers = new AnswerIds(tokenizer);
    const { result, pauses } = counted(chatSlices(tokenizer, template, messages, {}, answers));
    expect(pauses).toBeGreaterThan(4000);
    expect(result).toEqual(encodeChat(tokenizer, template, messages));
  });
});

describe("slices", () => {
  it("end with the signal", async () => {
    const stop = new AbortController();
    const endless = function* (): Slices<never> {
      for (;;) yield;
    };
    const work = inSlices(endless(), "reading the prompt", stop.signal);
    setTimeout(() => stop.abort(), 5);
    await expect(work).rejects.toBeInstanceOf(AbortedError);
  });

  it("of many works share their time: timers and sockets have a turn after a few of them", async () => {
    // A step takes 3 ms by this clock, so 3 of them are a turn.
    let now = 0;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => now);
    const order: string[] = [];
    const work = function* (name: string, steps: number): Slices<string> {
      for (let i = 0; i < steps; i++) {
        now += 3;
        order.push(name);
        yield;
      }
      return name;
    };
    let isOver = false;
    const ticks = () => {
      order.push("tick");
      if (!isOver) setImmediate(ticks);
    };
    setImmediate(ticks);
    try {
      const names = [..."abcdefgh"];
      const all = names.map((name) => inSlices(work(name, 7), "working"));
      const failing = inSlices(
        (function* (): Slices<void> {
          yield;
          throw new Error("failed");
        })(),
        "working",
      );
      await expect(failing).rejects.toThrow("failed");
      expect(await Promise.all(all)).toEqual(names);
    } finally {
      isOver = true;
      clock.mockRestore();
    }
    for (const turn of order.join("").split(/(?:tick)+/)) expect(turn.length).toBeLessThanOrEqual(3);
    // The first was alone with its first turn; then each has one before any has another.
    const turns = order.join("").replaceAll("tick", "");
    expect(turns).toHaveLength(7 * 8);
    expect(new Set(turns.slice(0, 27)).size).toBe(8);
  });

  it("of a template's loop come often enough", () => {
    const loop = new JinjaTemplate("{% for i in range(30000) %}{{ i }}{% endfor %}", "test");
    const work = loop.slices({}, new Date());
    let pauses = 0;
    let step = work.next();
    for (; !step.done; step = work.next()) pauses++;
    expect(pauses).toBeGreaterThan(4);
    expect(step.value).toBe(loop.run({}, new Date()));
    expect(atOnce(loop.slices({}, new Date()))).toBe(step.value);
  });
});
