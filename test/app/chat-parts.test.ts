/** A chat's parts that need no model: messages of many lines, commands, the history file, what reaches the screen. */
import {
  appendFileSync,
  chmodSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { complete, parseCommand } from "../../src/app/chat-commands.ts";
import { History, historyPath, MOST_LINES } from "../../src/app/chat-history.ts";
import { Screen } from "../../src/app/chat-screen.ts";
import { MessageLines } from "../../src/app/message-lines.ts";

const isWindows = process.platform === "win32";
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "nibble-"));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

describe("messages out of lines", () => {
  const messages = (lines: readonly string[]) => {
    const assembler = new MessageLines();
    const whole = lines.map((line) => assembler.add(line)).filter((message) => message !== null);
    return { whole, open: assembler.isOpen ? assembler.take() : null };
  };
  it.each<[string, string[], string[], string | null]>([
    ["a line", ["a", "b"], ["a", "b"], null],
    ["a backslash", ["a\\", "b\\", "c"], ["a\nb\nc"], null],
    ["two backslashes", ["a\\\\", "b"], ["a\\\\", "b"], null],
    ["quotes", ['"""', "a", "", "b\\", '"""', "c"], ["a\n\nb\\", "c"], null],
    ["quotes with text beside them", ['"""a', 'b"""'], ["a\nb"], null],
    ["quotes on one line", ['"""a"""'], ["a"], null],
    ["quotes around nothing", ['"""', '"""', "a"], ["", "a"], null],
    ["quotes inside a line", ['a """ b'], ['a """ b'], null],
    ["quotes that stay open", ['"""', "a"], [], "a"],
    ["a line that goes on and does not", ["a\\"], [], "a"],
  ])("%s", (_what, lines, whole, open) => {
    expect(messages(lines)).toEqual({ whole, open });
  });

  it("carry any text between quotes", () => {
    const line = fc.string({ maxLength: 8 }).filter((text) => !text.includes('"'));
    fc.assert(
      fc.property(fc.array(line, { minLength: 1 }), (lines) => {
        expect(messages(['"""', ...lines, '"""']).whole).toEqual([lines.join("\n")]);
      }),
    );
  });
});

describe("commands", () => {
  it("are a slash and a word; paths and two slashes are text", () => {
    expect(parseCommand("/file  a b.txt ")).toEqual({ name: "file", argument: "a b.txt" });
    expect(parseCommand("/quit")).toEqual({ name: "quit", argument: "" });
    for (const text of ["/usr/bin is full", "//quit", "quit", "/", "/ quit", "/no_think why?"])
      expect(parseCommand(text), text).toBeNull();
  });

  it("are completed, and so are their paths", () => {
    expect(complete("/s")).toEqual([["/system ", "/save ", "/stats"], "/s"]);
    writeFileSync(join(folder, "one file.txt"), "");
    writeFileSync(join(folder, ".hidden"), "");
    expect(complete(`/file ${folder}/o`)).toEqual([[`${folder}/one file.txt`], `${folder}/o`]);
    expect(complete(`/load ${folder}/`)).toEqual([[`${folder}/one file.txt`], `${folder}/`]);
    expect(complete("/file /no/such/")).toEqual([[], "/file /no/such/"]);
    expect(complete("hello")).toEqual([[], "hello"]);
  });
});

describe("the history file", () => {
  it("lies where the system keeps such things", () => {
    const at = (env: NodeJS.ProcessEnv, platform: NodeJS.Platform) => historyPath(env, platform, "/home/a");
    expect(at({ XDG_STATE_HOME: "/state" }, "linux")).toBe(join("/state", "nibble", "chat-history"));
    for (const env of [{}, { XDG_STATE_HOME: "" }, { XDG_STATE_HOME: "relative" }])
      expect(at(env, "linux")).toBe(join("/home/a", ".local", "state", "nibble", "chat-history"));
    expect(at({}, "darwin")).toBe(
      join("/home/a", "Library", "Application Support", "nibble", "chat-history"),
    );
    expect(at({}, "win32")).toBe(join("/home/a", "AppData", "Local", "nibble", "chat-history"));
  });

  const path = () => join(folder, "deep", "nibble", "chat-history");

  it("remembers what was typed, newest first, for its user only", () => {
    const history = new History(path());
    expect(history.lines()).toEqual([]);
    for (const line of ["one", " ", "zwei é", "with \u001b[31m colours", "x".repeat(5000)]) history.add(line);
    expect(new History(path()).lines()).toEqual(["zwei é", "one"]);
    if (isWindows) return;
    expect(statSync(path()).mode & 0o777).toBe(0o600);
    chmodSync(path(), 0o644);
    new History(path()).lines();
    expect(statSync(path()).mode & 0o777).toBe(0o600);
  });

  it("stays small, and gives nothing that a terminal would obey", () => {
    const history = new History(path());
    history.add("first");
    appendFileSync(path(), "bad \u009b31m\n");
    appendFileSync(path(), Array.from({ length: 5000 }, (_, i) => `line ${i}\n`).join(""));
    const lines = history.lines();
    expect(lines).toHaveLength(MOST_LINES);
    expect(lines[0]).toBe("line 4999");
    expect(readFileSync(path(), "utf8").split("\n")).toHaveLength(MOST_LINES + 1);
    expect(history.lines()).toEqual(lines);
    appendFileSync(path(), `${"y".repeat(2 ** 20)}\nlast\n`);
    expect(history.lines()[0]).toBe("last");
    expect(statSync(path()).size).toBeLessThan(2 ** 18);
  });

  it("is no reason not to chat when it cannot be written", () => {
    writeFileSync(join(folder, "file"), "");
    const history = new History(join(folder, "file", "chat-history"));
    expect(history.lines()).toEqual([]);
    expect(() => history.add("a")).not.toThrow();
  });
});

describe("the screen", () => {
  const shown = async (
    isTerminal: boolean,
    env: NodeJS.ProcessEnv,
    parts: [kind: "reasoning" | "text", text: string][],
  ) => {
    let text = "";
    vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
      text += chunk;
      return true;
    });
    const screen = new Screen(new AbortController().signal, isTerminal, env);
    for (const [kind, part] of parts) await screen.part({ kind, text: part });
    screen.endAnswer();
    vi.restoreAllMocks();
    return text;
  };
  const both: [kind: "reasoning" | "text", text: string][] = [
    ["reasoning", "Hm"],
    ["reasoning", "."],
    ["text", "Yes."],
  ];

  it("dims reasoning, names it without colours, and leaves it out of a pipe", async () => {
    expect(await shown(true, {}, both)).toBe("\x1b[2mHm.\n\n\x1b[22mYes.\n");
    expect(await shown(true, { NO_COLOR: "1" }, both)).toBe("[reasoning]\nHm.\n\n[answer]\nYes.\n");
    expect(await shown(true, { TERM: "dumb" }, both)).toBe("[reasoning]\nHm.\n\n[answer]\nYes.\n");
    expect(await shown(true, { NO_COLOR: "" }, both)).toBe("\x1b[2mHm.\n\n\x1b[22mYes.\n");
    expect(await shown(false, {}, both)).toBe("Yes.\n");
    expect(await shown(true, {}, both.slice(0, 1))).toBe("\x1b[2mHm\x1b[22m\n");
    expect(await shown(true, {}, [["text", "Yes.\n"]])).toBe("Yes.\n");
  });

  it("lets no control sequence of a model through to a terminal", async () => {
    const text: [kind: "text", text: string][] = [["text", "a\u001b]0;title\u0007\tb\r\n\u009b2J"]];
    expect(await shown(true, {}, text)).toBe("a\\u001b]0;title\\u0007\tb\\r\n\\u009b2J\n");
  });
});
