/**
 * What becomes of a turn: finished, stopped, failed, too long. The model says what the test wants, through the real
 * scheduler, generation loop and Qwen 3's template; one character is one token.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LanguageModel } from "../../src/answer/model.ts";
import { contextLines, statisticsLines } from "../../src/app/chat-report.ts";
import type { Screen, ShownPart } from "../../src/app/chat-screen.ts";
import { Chat } from "../../src/app/chat-turns.ts";
import { chatTemplateFromConfig } from "../../src/format/template.ts";
import type { Tokenizer } from "../../src/format/tokenizer.ts";
import { END, type ScriptOptions, scripted } from "../engine/scripted.ts";

const VOCAB = 129;
const idOf = (char: string) => Math.min(char.charCodeAt(0), 127) + 1;
const tokenizer: Tokenizer = {
  vocab: VOCAB,
  endIds: new Set([END]),
  bosId: null,
  addBos: false,
  encode: (text) => [...text].map(idOf),
  // biome-ignore lint/correctness/useYield: short
  *slices(text) {
    return [...text].map(idOf);
  },
  decode: (ids) => ids.map((id) => (id === END ? "" : String.fromCharCode(id - 1))).join(""),
  stream: () => ({ push: (id) => tokenizer.decode([id]), end: () => "" }),
  bytes: () => new Uint8Array(0),
  protect: (text) => text,
  warnings: [],
  fit: () => tokenizer,
  controlIds: new Set(),
  controls: () => [],
};
const qwen3 = readFileSync(new URL("../golden/templates/Qwen-Qwen3-0.6B.jinja", import.meta.url), "utf8");

/** `say` sets the next answer; without an end ("...") it goes on for ever. */
function chatting(
  options: { context?: number; think?: boolean; source?: string } & Partial<ScriptOptions> = {},
) {
  const { context = 1000, think, source = qwen3, ...script } = options;
  let reply = "";
  let start = -1;
  const { scheduler, steps } = scripted(
    (position) => {
      if (start < 0) start = position;
      const char = reply[position - start];
      if (char === undefined) return reply.endsWith("...") ? idOf(".") : END;
      return idOf(char);
    },
    { vocab: VOCAB, context, ...script },
  );
  const shown: ShownPart[] = [];
  const notes: string[] = [];
  const screen = {
    isTerminal: true,
    part: async (part: ShownPart) => void shown.push(part),
    endAnswer() {},
    note: (text: string) => void notes.push(text),
  } as unknown as Screen;
  const model = new LanguageModel({
    scheduler,
    tokenizer,
    template: chatTemplateFromConfig({ chat_template: source }),
    plan: {
      context,
      kv: "int4",
      cacheBytes: 1024,
      weightBytes: 2048,
      cacheTokens: context,
      graph: { caches: [], pools: [] },
    },
    model: { config: { trainedContext: 4000 } },
    device: { description: "scripted" },
  } as unknown as ConstructorParameters<typeof LanguageModel>[0]);
  const outside = new AbortController();
  const settings = {
    ...{ name: "scripted", system: null, sampling: { temperature: 0 } },
    template: think === undefined ? {} : { enable_thinking: think },
  };
  const chat = new Chat(model, settings, screen, outside.signal);
  const answer = (question: string, says: string, stop = new AbortController().signal) => {
    reply = says;
    start = -1;
    shown.length = 0;
    return chat.answer(question, stop);
  };
  const text = (kind: ShownPart["kind"]) =>
    shown
      .filter((part) => part.kind === kind)
      .map((part) => part.text)
      .join("");
  const again = (says: string, stop = new AbortController().signal) => {
    reply = says;
    start = -1;
    return chat.regenerate(stop);
  };
  return { chat, answer, again, notes, text, steps, outside, screen };
}

/** Aborts once the screen has shown so many characters. */
function stopAfter(screen: Screen, characters: number): AbortSignal {
  const stop = new AbortController();
  let seen = 0;
  const part = screen.part.bind(screen);
  screen.part = async (shown) => {
    await part(shown);
    seen += shown.text.length;
    if (seen >= characters) stop.abort();
  };
  return stop.signal;
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "nibble-"));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});
const file = (name: string, text: string) => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};

describe("an answer that is asked for again", () => {
  it("takes the place of the last one; where none comes, that one is kept", async () => {
    const { chat, answer, again, notes } = chatting();
    await expect(again("x")).rejects.toThrow("/regen is first; allowed: a message before it");
    await answer("One?", "Yes.");
    await again("No.");
    expect(chat.conversation.turns).toMatchObject([{ question: "One?", answer: "No." }]);
    expect(notes.join()).toContain("the likeliest answer comes again");
    const stopped = new AbortController();
    stopped.abort();
    await again("Perhaps.", stopped.signal);
    expect(chat.conversation.turns).toMatchObject([{ question: "One?", answer: "No." }]);
  });

  it("what is told first may not fill the context", () => {
    const { chat } = chatting({ context: 100 });
    expect(() => chat.tellFirst("word ".repeat(50))).toThrow(
      /with it the conversation has .* It was not changed/,
    );
    expect(chat.conversation.system).toBeNull();
  });
});

describe("a turn", () => {
  it("shows thinking apart, keeps it out of what the model reads next, and reads only what is new", async () => {
    const { chat, answer, text } = chatting();
    await answer("One?", "<think>\nHm.\n</think>\n\nYes.");
    expect([text("reasoning"), text("text")]).toEqual(["Hm.\n", "Yes."]);
    expect(chat.conversation.turns).toEqual([{ question: "One?", answer: "Yes.", thinking: "Hm." }]);
    await answer("Two?", "No.");
    const [first, second] = chat.results;
    // Up to where the first answer began; the thought that stood there is gone.
    expect(second.reusedTokens).toBe(first.promptTokens);
    await answer("Three?", "Well.");
    const third = chat.results[2];
    expect(third.reusedTokens).toBe(second.promptTokens + "No.".length);
    expect(statisticsLines(chat)[0]).toContain(`: ${third.reusedTokens} reused from the cache, `);
  });

  it("may be told not to think, and knows a template that opens the thought itself", async () => {
    const calm = chatting({ think: false });
    await calm.answer("One?", "Yes.");
    expect([calm.text("reasoning"), calm.text("text")]).toEqual(["", "Yes."]);
    const source =
      "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]<think>\n{% endif %}";
    const eager = chatting({ source });
    await eager.answer("One?", "Hm.\n</think>\n\nYes.");
    expect([eager.text("reasoning"), eager.text("text")]).toEqual(["Hm.\n", "Yes."]);
  });

  it("that is stopped keeps what was said, and the next goes on from there", async () => {
    const { chat, answer, notes, screen } = chatting();
    await answer("One?", "Yes and...", stopAfter(screen, 8));
    expect(chat.conversation.turns).toHaveLength(1);
    expect(chat.conversation.turns[0].answer).toMatch(/^Yes and/);
    expect(notes.at(-1)).toContain("what was said is kept");
    await answer("Two?", "No.");
    expect(chat.results[0].reusedTokens).toBeGreaterThan("One?Yes and".length);
  });

  it("that is stopped before anything was said, or while thinking, is taken back with its document kept", async () => {
    const { chat, answer, notes, screen } = chatting();
    await answer("One?", "Yes.");
    await chat.attachFile(file("a.txt", "A document."));
    await answer("Two?", "<think>Hm...", stopAfter(screen, 2));
    const stopped = new AbortController();
    stopped.abort();
    await answer("Two?", "No.", stopped.signal);
    expect(notes.slice(-2)).toEqual([
      expect.stringContaining("taken back"),
      expect.stringContaining("taken back"),
    ]);
    expect(chat.conversation.turns).toHaveLength(1);
    expect(chat.conversation.waiting).toEqual(["A document."]);
    await answer("Two?", "No.");
    expect(chat.conversation.turns[1].question).toBe("A document.\n\nTwo?");
  });

  it("that fails keeps what was said and tells why; an end from outside tells nothing", async () => {
    const { chat, answer } = chatting({ failsAt: 80 });
    await expect(answer("One?", `${"and ".repeat(20)}.`)).rejects.toThrow("scripted: lost");
    expect(chat.conversation.turns[0].answer).toMatch(/^and and /);
    const ended = chatting();
    ended.outside.abort();
    await expect(ended.answer("One?", "Yes.")).rejects.toThrow("was stopped");
  });

  it("may be empty", async () => {
    const { chat, answer, notes } = chatting();
    await answer("One?", "");
    expect(chat.conversation.turns).toEqual([{ question: "One?", answer: "", thinking: "" }]);
    expect(notes).toEqual(["(no answer)"]);
  });
});

describe("a full context", () => {
  it("ends the answer, which is kept; what does not fit is refused, and nothing else changes", async () => {
    const { chat, answer, notes } = chatting({ context: 120 });
    await answer("One?", "For ever...");
    const [turn] = chat.conversation.turns;
    expect(turn.answer).toMatch(/^For ever\.{5}/);
    expect(notes.at(-1)).toMatch(/context of 120 tokens is full.*kept.*\/save.*--context \(up to 4,000\)/);
    const refused = answer("Two?", "No.");
    await expect(refused).rejects.toThrow(
      /conversation has 1\d\d tokens; the context holds 120.*was not put in/,
    );
    await expect(refused).rejects.toMatchObject({ code: "context" });
    expect(chat.conversation.turns).toEqual([turn]);
    const path = join(folder, "full.json");
    await chat.save(path);
    chat.clear();
    await answer("Two?", "No.");
    expect(chat.conversation.turns).toHaveLength(1);
    expect(JSON.parse(readFileSync(path, "utf8")).messages[1].content).toBe(turn.answer);
  });

  it("takes no document that does not fit", async () => {
    const { chat, answer, notes } = chatting({ context: 200 });
    const long = file("long.txt", "word ".repeat(100));
    await expect(chat.attachFile(long)).rejects.toThrow(
      /has 5\d\d tokens; 1\d\d of the context of 200 are free/,
    );
    await chat.attachFile(file("short.txt", "A fact."));
    expect(notes).toEqual([expect.stringMatching(/short\.txt: 3\d tokens, at the beginning/)]);
    await answer("One?", "Yes.");
    expect(contextLines(chat).join("\n")).toMatch(
      /^1\d\d of 200 tokens .*system +7\n +question 1 +4\n +answer 1 +4\n/s,
    );
    for (const path of ["", "-"]) await expect(chat.attachFile(path)).rejects.toThrow("allowed: the path");
  });

  it("is told of before it is full", async () => {
    const { answer, notes } = chatting({ context: 120 });
    await answer("One?", "x".repeat(60));
    expect(notes).toEqual([expect.stringMatching(/11\d of the context's 120 tokens are used/)]);
  });
});

describe("files", () => {
  it("go on where they ended, in the same file; others are left alone", async () => {
    const path = join(folder, "talk.json");
    const one = chatting();
    await expect(one.chat.save(path)).rejects.toThrow("nothing to save yet");
    await one.answer("One?", "<think>Hm.</think>Yes.");
    await one.chat.save(path);
    const two = chatting();
    await two.chat.load(path);
    expect(two.chat.conversation.turns).toEqual(one.chat.conversation.turns);
    await two.answer("Two?", "No.");
    await expect(two.chat.load(path)).rejects.toThrow("is not saved");
    await two.chat.save("");
    await one.chat.load(path);
    expect(one.chat.conversation.turns).toHaveLength(2);
    const other = file("other.json", "mine");
    await expect(one.chat.save(other)).rejects.toThrow("exists already");
    expect(readFileSync(other, "utf8")).toBe("mine");
    await expect(one.chat.load(other)).rejects.toThrow("no JSON");
    expect(one.chat.conversation.turns).toHaveLength(2);
    await expect(one.chat.load("")).rejects.toThrow("allowed: a file that /save wrote");
  });

  it("of another model are named", async () => {
    const path = join(folder, "talk.json");
    const one = chatting();
    await one.answer("One?", "Yes.");
    writeFileSync(path, one.chat.conversation.toJson("other\u001b[2J.gguf"));
    const two = chatting();
    await two.chat.load(path);
    expect(two.notes[0]).toContain('1 turn, until now with "other\\u001b[2J.gguf"');
  });
});
