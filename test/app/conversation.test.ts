/** Conversations: where documents and thoughts go, and files that are hostile, broken, foreign or in the way. */
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Conversation, parseConversation } from "../../src/app/conversation.ts";
import { readConversation, typedPath, writeWhole } from "../../src/app/conversation-file.ts";
import { chatTemplateFromConfig } from "../../src/format/template.ts";
import { FormatError, NibbleError } from "../../src/index.ts";
import { requireFreshBuild, startNode } from "./nibble.ts";

const now = new Date("2026-01-02T03:04:05Z");

describe("a conversation", () => {
  it("has documents in the system message until something was asked, later in front of the question", () => {
    const talk = new Conversation("Be brief.", true);
    talk.attach("One.");
    expect(talk.messages("Q1")).toEqual([
      { role: "system", content: "Be brief.\n\nOne." },
      { role: "user", content: "Q1" },
    ]);
    talk.add("Q1", "A1", "");
    talk.attach("Two.");
    const undo = talk.attach("Three.");
    expect(talk.messages("Q2").at(-1)).toEqual({ role: "user", content: "Two.\n\nThree.\n\nQ2" });
    undo();
    talk.add("Q2", "A2", "");
    expect(talk.waiting).toEqual([]);
    expect(talk.messages("Q3").map(({ content }) => content)).toEqual([
      ...["Be brief.\n\nOne.", "Q1", "A1", "Two.\n\nQ2", "A2", "Q3"],
    ]);
    talk.clear();
    expect(talk.messages("Q").map(({ content }) => content)).toEqual(["Be brief.", "Q"]);
  });

  it("has the system message in front of the first question where the template has no place for one", () => {
    const talk = new Conversation("Be brief.", false);
    talk.attach("One.");
    expect(talk.messages("Q1")).toEqual([{ role: "user", content: "Be brief.\n\nOne.\n\nQ1" }]);
    talk.add("Q1", "A1", "");
    expect(talk.messages("Q2").map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
    expect(talk.messages("Q2")[0].content).toBe("Be brief.\n\nOne.\n\nQ1");
  });

  it("leaves it to the template what it sees of earlier thoughts: Qwen 3 and R1 show none", () => {
    const talk = new Conversation(null, true);
    talk.add("Q1", "A1", "A secret thought.");
    expect(talk.messages("Q2")[1]).toEqual({
      ...{ role: "assistant", content: "A1", reasoning_content: "A secret thought." },
    });
    for (const file of ["Qwen-Qwen3-0.6B.jinja", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja"]) {
      const source = readFileSync(new URL(`../golden/templates/${file}`, import.meta.url), "utf8");
      const text = chatTemplateFromConfig({ chat_template: source })!.render(talk.messages("Q2"));
      expect(text).toContain("A1");
      expect(text).not.toContain("secret");
    }
  });
});

describe("a conversation's text", () => {
  const turn = fc.record({ question: fc.string(), answer: fc.string(), thinking: fc.string() });

  it("comes back as it was", () => {
    fc.assert(
      fc.property(fc.option(fc.string()), fc.array(turn), fc.string(), (system, turns, model) => {
        const talk = new Conversation(system, true);
        for (const { question, answer, thinking } of turns) talk.add(question, answer, thinking);
        expect(parseConversation(talk.toJson(model, now), "x")).toEqual({ model, system, turns });
      }),
    );
  });

  const good = {
    kind: "nibble conversation",
    version: 1,
    model: "needle",
    saved: now.toISOString(),
    messages: [
      { role: "system", content: "S" },
      { role: "user", content: "Q" },
      { role: "assistant", content: "A" },
    ],
  };
  const user = { role: "user", content: "Q" };
  const wrong: [what: string, text: string, message: RegExp][] = [
    ["nothing", "", /^x: no JSON/],
    ["half a file", JSON.stringify(good).slice(0, -20), /^x: no JSON/],
    ["a list", "[]", /^x: a list; allowed: an object/],
    ["null", "null", /^x: null/],
    ["another kind", JSON.stringify({ ...good, kind: "x" }), /^x: kind: "x"/],
    ["no kind", JSON.stringify({ messages: [] }), /^x: kind: missing/],
    ["a later version", JSON.stringify({ ...good, version: 2 }), /^x: version: 2; allowed: 1,/],
    ["a version as text", JSON.stringify({ ...good, version: "1" }), /^x: version: "1"/],
    ["no model", JSON.stringify({ ...good, model: undefined }), /^x: model: missing/],
    ["messages that are none", JSON.stringify({ ...good, messages: { length: 1e9 } }), /^x: messages: /],
    ["a message that is none", JSON.stringify({ ...good, messages: [7] }), /^x: messages\[0\]: 7/],
    [
      "an unknown role",
      JSON.stringify({ ...good, messages: [{ role: "tool", content: "" }] }),
      /role: "tool"/,
    ],
    ["a role out of the prototype", JSON.stringify({ ...good, messages: [{ role: "__proto__" }] }), /role: /],
    [
      "content as parts",
      JSON.stringify({ ...good, messages: [{ ...user, content: [] }] }),
      /content: a list/,
    ],
    [
      "a thought that is no text",
      JSON.stringify({ ...good, messages: [{ ...user, reasoning_content: 1 }] }),
      /reasoning_content: 1/,
    ],
    ["a question without an answer", JSON.stringify({ ...good, messages: [user] }), /messages\[1\]: missing/],
    ["two questions", JSON.stringify({ ...good, messages: [user, user] }), /messages\[1\]: user/],
    [
      "a second system message",
      JSON.stringify({ ...good, messages: [good.messages[0], ...good.messages] }),
      /messages\[1\]: role system/,
    ],
    [
      "control characters",
      JSON.stringify({ ...good, kind: "\u001b]0;\u009b" }),
      /^x: kind: "\\u001b\]0;\\u009b"/,
    ],
    ["very deep", `${"[".repeat(1e5)}${"]".repeat(1e5)}`, /^x: a list/],
  ];
  it.each(wrong)("%s is refused in one short line", (_what, text, message) => {
    let error: unknown;
    try {
      parseConversation(text, "x");
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(FormatError);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).not.toContain("\n");
    expect((error as Error).message.length).toBeLessThan(200);
  });

  it("never fails but with a FormatError, and keeps fields that it does not know out", () => {
    const json = fc.json();
    const near = fc
      .tuple(fc.constantFrom(...Object.keys(good)), fc.jsonValue())
      .map(([key, value]) => JSON.stringify({ ...good, [key]: value }));
    fc.assert(
      fc.property(fc.oneof(json, near, fc.string()), (text) => {
        try {
          parseConversation(text, "x");
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 1000 },
    );
    const extra = JSON.stringify({
      ...good,
      messages: [{ ...user, __proto__: 1, polluted: 1 }, { ...good.messages[2] }],
    });
    expect(Object.keys(parseConversation(extra, "x").turns[0])).toEqual(["question", "answer", "thinking"]);
  });
});

describe("a conversation's file", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "nibble-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const never = new AbortController().signal;

  it("is only its user's, is replaced when it may be, and else is left alone", async () => {
    const path = join(folder, "a.json");
    const text = (answer: string) => {
      const talk = new Conversation(null, true);
      talk.add("Q", answer, "");
      return talk.toJson("needle", now);
    };
    await writeWhole(path, text("one"), false);
    if (process.platform !== "win32") expect(statSync(path).mode & 0o777).toBe(0o600);
    await expect(writeWhole(path, text("two"), false)).rejects.toThrow("exists already");
    expect((await readConversation(path, never)).turns[0].answer).toBe("one");
    await writeWhole(path, text("two"), true);
    expect((await readConversation(path, never)).turns[0].answer).toBe("two");
    expect(readdirSync(folder)).toEqual(["a.json"]);
  });

  it("cannot be where no folder is, or where one is; and what cannot be read is told", async () => {
    await expect(writeWhole(join(folder, "no", "b.json"), "{}", false)).rejects.toThrow("no such folder");
    await expect(writeWhole(folder, "{}", false)).rejects.toThrow(NibbleError);
  });

  it("that fails on the way leaves nothing half-written", async () => {
    const here = mkdtempSync(join(folder, "full-"));
    const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    async function* failing(error: Error) {
      yield new Uint8Array(100_000);
      throw error;
    }
    await expect(writeWhole(join(here, "new"), failing(full), false)).rejects.toThrow(
      /^\S+new: the disk is full; nothing was written$/,
    );
    await writeWhole(join(here, "old"), "kept", false);
    await expect(writeWhole(join(here, "old"), failing(full), true)).rejects.toThrow("the disk is full");
    const stopped = new NibbleError("aborted", "saving was stopped");
    await expect(writeWhole(join(here, "old"), failing(stopped), true)).rejects.toBe(stopped);
    expect(readdirSync(here)).toEqual(["old"]);
    expect(readFileSync(join(here, "old"), "utf8")).toBe("kept");
    await expect(readConversation(join(folder, "none.json"), never)).rejects.toThrow("no such file");
    const binary = join(folder, "binary.json");
    writeFileSync(binary, Uint8Array.of(0xff, 0xfe));
    await expect(readConversation(binary, never)).rejects.toThrow("not UTF-8");
  });

  it("leaves nothing behind that blocks or stays, when it is killed", async () => {
    requireFreshBuild();
    const here = mkdtempSync(join(folder, "killed-"));
    const path = join(here, "talk.json");
    const write =
      "const { writeWhole } = await import(process.argv[1]);\n" +
      "async function* slow() { yield new Uint8Array(9); console.log('half'); await new Promise((done) => setTimeout(done, 60_000)); }\n" +
      "await writeWhole(process.argv[2], slow(), false);";
    const module = new URL("../../dist/app/conversation-file.js", import.meta.url).href;
    const { child, speaking, ended } = startNode(["--input-type=module", "-e", write, module, path]);
    await speaking;
    child.kill("SIGKILL");
    await ended;
    expect(readdirSync(here)).toEqual([`talk.json.${child.pid}.unfinished`]);
    // Of a process that runs, and of no process.
    const others = [`talk.json.${process.ppid}.unfinished`, "talk.json.x.unfinished", "talk.json.kv"];
    for (const name of others) writeFileSync(join(here, name), "other");
    await writeWhole(path, "one", false);
    expect(readdirSync(here)).toEqual([...others, "talk.json"].sort());
  });

  it("takes the place of an empty file, and not of one that came meanwhile", async () => {
    const path = join(folder, "claimed.json");
    writeFileSync(path, "");
    await writeWhole(path, "one", false);
    expect(readFileSync(path, "utf8")).toBe("one");
    await expect(writeWhole("/dev/null", "one", false)).rejects.toThrow("exists already");
    const link = join(folder, "link.json");
    symlinkSync("nowhere", link);
    await expect(writeWhole(link, "one", false)).rejects.toThrow("exists already");
    const late = join(folder, "late.json");
    async function* meanwhile() {
      yield new Uint8Array(1);
      writeFileSync(late, "other");
    }
    await expect(writeWhole(late, meanwhile(), false)).rejects.toThrow("exists already");
    expect(readFileSync(late, "utf8")).toBe("other");
  });

  it("has a path as people type it", () => {
    expect(typedPath(" a b.txt ")).toBe("a b.txt");
    expect(typedPath("'a b.txt'")).toBe("a b.txt");
    expect(typedPath('"a"')).toBe("a");
    expect(typedPath("~/a")).toBe(join(homedir(), "a"));
    if (process.platform !== "win32") expect(typedPath("a\\ \\(b\\).txt")).toBe("a (b).txt");
  });
});
