/** `nibble chat` as a person's shell runs it, with needle on the CPU: through pipes, and on a pseudo terminal. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { tinyModel } from "../engine/tiny-model.ts";
import { nibble, requireFreshBuild, root, start } from "./nibble.ts";
import { refused } from "./refused.ts";

const FACTS = "The access code of Clara Whitfield is 48213.\nBoris Thorne's home city is Lisbon.";
const CODE = "What is the access code of Clara Whitfield?";
const CITY = "What is the home city of Boris Thorne?";
/** It has no end that anyone has seen. */
const RAMBLE = "The access code of Clara Whitfield is 48213. Remember this.";
const chat = ["chat", "needle", "--device", "cpu", "--context", "512"];
const lines = (...all: string[]) => all.map((line) => `${line}\n`).join("");

let folder: string;
let facts: string;
beforeAll(() => {
  requireFreshBuild();
  folder = mkdtempSync(join(tmpdir(), "nibble-"));
  facts = join(folder, "facts.txt");
  writeFileSync(facts, FACTS);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("nibble chat in a pipe", () => {
  it("remembers a document over turns, reads only what is new, and prints answers alone", async () => {
    const input = lines(`/file ${facts}`, CODE, CITY, CODE);
    const { code, stdout, stderr } = await nibble(chat, input);
    const known = "The access code of Clara Whitfield is 48213.";
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: lines(known, "The home city of Boris Thorne is Lisbon.", known),
    });
    expect(stderr).toMatch(/^\S+facts\.txt: 3\d tokens, at the beginning\n$/);
    const { stdout: figures } = await nibble(chat, lines(`/file ${facts}`, CODE, CITY, "/stats"));
    const [, prompt, reused] = /last prompt +(\d+) tokens: (\d+) reused/.exec(figures)!.map(Number);
    expect(prompt - reused).toBeLessThan(25);
    expect(reused).toBeGreaterThan(50);
  });

  it("takes the options of run, and a message of many lines", async () => {
    const options = [
      "--system",
      FACTS,
      "-n",
      "4",
      "--kv",
      "f16",
      "--threads",
      "1",
      "--temperature",
      "0",
      "--no-think",
    ];
    const { code, stdout } = await nibble(
      [...chat, ...options],
      lines('"""', CODE, '"""', "/stats", "/quit", "never"),
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(/^The access code[^\n]*\n/);
    expect(stdout).toMatch(/last answer +4 tokens/);
    expect(stdout).toMatch(/f16 for 512 tokens\n.*\n.*1 thread/);
    const document = await nibble([...chat, "-f", facts], CODE);
    expect(document.stdout).toBe("The access code of Clara Whitfield is 48213.\n");
  });

  it("saves and goes on in another process", async () => {
    const path = join(folder, "talk.json");
    const first = await nibble(chat, lines(`/file ${facts}`, CODE, `/save ${path}`));
    expect(first.code).toBe(0);
    expect(JSON.parse(readFileSync(path, "utf8"))).toMatchObject({
      ...{ kind: "nibble conversation", version: 1, model: "needle" },
      messages: [{ role: "system" }, { role: "user" }, { role: "assistant" }],
    });
    expect(first.stderr).toMatch(/^saved: \S+talk\.json, and what was read of it in \S+talk\.json\.kv \(/m);
    const second = await nibble(chat, lines(`/load ${path}`, CITY, "/stats"));
    expect(second.code).toBe(0);
    expect(second.stdout).toMatch(/^The home city of Boris Thorne is Lisbon\.\n/);
    const [, count] = /, (\d+) tokens of it need not be read again$/m.exec(second.stderr)!;
    expect(second.stdout).toContain(`: ${count} reused from the cache`);

    // Without it the conversation goes on as well, and a line says why it has to be read again.
    const bytes = readFileSync(`${path}.kv`);
    bytes[bytes.length >> 1] ^= 1;
    writeFileSync(`${path}.kv`, bytes);
    const third = await nibble(chat, lines(`/load ${path}`, CITY));
    expect(third).toMatchObject({ code: 0, stdout: "The home city of Boris Thorne is Lisbon.\n" });
    expect(third.stderr).toMatch(
      /^loaded: .*, 1 turn; the next answer will read it again: .*: damaged: .*$/m,
    );
  });

  it("goes on after errors, tells each in a line, and ends with the first one's code", async () => {
    const novel = join(root, "examples/texts/northanger-abbey.txt");
    const { code, stdout, stderr } = await nibble(
      chat,
      lines(
        `/file ${novel}`,
        "/file no-such.txt",
        "/nope",
        "/clear now",
        `/load ${facts}`,
        `/file ${facts}`,
        CODE,
      ),
    );
    expect({ code, stdout }).toEqual({ code: 3, stdout: "The access code of Clara Whitfield is 48213.\n" });
    const [tooLong, missing, unknown, argument, foreign] = stderr.split("\n");
    expect(tooLong).toMatch(/^nibble: .*northanger-abbey\.txt has 8,\d{3} tokens; .* of 512 are free/);
    expect(missing).toMatch(/^nibble: no-such\.txt: no such file$/);
    expect(unknown).toMatch(/^nibble: \/nope is no command; \/help lists them/);
    expect(argument).toMatch(/^nibble: \/clear takes no argument/);
    expect(foreign).toMatch(/^nibble: .*facts\.txt: no JSON/);
  });

  it("tells when the context is full, and what to do; nothing is lost", async () => {
    const path = join(folder, "full.json");
    const { code, stdout, stderr } = await nibble(
      ["chat", "needle", "--device", "cpu", "--context", "128", "--kv", "int4"],
      lines(RAMBLE, "And then?", `/save ${path}`),
    );
    expect(code).toBe(3);
    expect(stderr).toMatch(
      /^\(the context of 128 tokens is full: .*\)\nnibble: with this message .*\/clear.*\nsaved: /,
    );
    expect(`${JSON.parse(readFileSync(path, "utf8")).messages[1].content}\n`).toBe(stdout);
  });

  it("refuses a model without a chat template, before it is loaded, with the way out", async () => {
    const base = join(folder, "base.gguf");
    writeFileSync(base, tinyModel());
    const { code, stdout, stderr } = await nibble(["chat", base, "--device", "cpu"], "hi\n");
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(
      /^nibble: .*base\.gguf, which has no chat template.* nibble run MODEL PROMPT --raw\.\n$/,
    );
  });

  it.each<[string, string[], number, RegExp]>([
    ["no model", ["chat"], 2, /missing required argument 'model'/],
    ["a missing model", ["chat", "no-such.gguf"], 1, /no such file/],
    ["top-p of 2", [...chat, "--top-p", "2"], 2, /--top-p is 2/],
    ["stdin as a document", [...chat, "-f", "-"], 2, /--file is -; allowed: a file/],
    ["a document that is not there", [...chat, "-f", "no-such.txt"], 1, /no-such\.txt: no such file/],
    ["run's --json", [...chat, "--json"], 2, /unknown option '--json'/],
  ])("refuses %s", async (_what, args, code, message) => {
    // The first in a process of its own.
    const ended = await (args.length === 1 ? nibble(args, "hi\n") : refused(args));
    expect(ended.stderr).toMatch(message);
    expect(ended.stderr).toMatch(/^nibble: [^\n]+\n$/);
    expect(ended).toMatchObject({ code, stdout: "" });
  });

  it("ends at SIGINT, SIGTERM, and when its reader leaves", async () => {
    for (const [signal, wanted] of [
      ["SIGINT", 130],
      ["SIGTERM", 143],
    ] as const) {
      const { child, speaking, ended } = start(chat, null);
      child.stdin?.write(lines(RAMBLE));
      await speaking;
      child.kill(signal);
      expect(await ended).toMatchObject({ code: wanted, stderr: "" });
    }
    const { child, speaking, ended } = start([...chat.slice(0, -1), "8192"], lines(RAMBLE));
    await speaking;
    child.stdout?.destroy();
    expect(await ended).toMatchObject({ code: 0 });
  });
});

/** util-linux's `script` gives a pseudo terminal; BSD's and macOS's takes other arguments. */
const HAS_SCRIPT =
  process.platform === "linux" &&
  spawnSync("script", ["--version"], { encoding: "utf8" }).stdout?.includes("util-linux");
const REASON = HAS_SCRIPT ? "" : " (skipped: no util-linux `script` here, which gives a pseudo terminal)";

describe.runIf(HAS_SCRIPT)(`nibble chat on a terminal${REASON}`, () => {
  /** Types each text once the one before it was followed by what it waits for. */
  async function type(
    steps: readonly (readonly [awaited: string, keys: string])[],
    env: NodeJS.ProcessEnv = {},
    options: readonly string[] = [],
  ) {
    const words = [
      process.execPath,
      join(root, "dist/cli/nibble.js"),
      ...chat.slice(0, -1),
      "8192",
      "--kv",
      "int4",
      ...options,
    ];
    const command = words.map((word) => `'${word}'`).join(" ");
    const child = spawn("script", ["-qec", command, join(folder, "typescript")], {
      cwd: root,
      env: { ...process.env, TERM: "xterm", XDG_STATE_HOME: join(folder, "state"), NO_COLOR: "", ...env },
    });
    let seen = "";
    child.stdout.on("data", (data) => {
      seen += data;
    });
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    let from = 0;
    for (const [awaited, keys] of steps) {
      const until = Date.now() + 20_000;
      while (!seen.includes(awaited, from)) {
        if (Date.now() > until)
          throw new Error(`waited for ${JSON.stringify(awaited)} in ${JSON.stringify(seen)}`);
        await sleep(20);
      }
      from = seen.indexOf(awaited, from) + awaited.length;
      child.stdin.write(keys);
    }
    const code = await ended;
    return { code, seen };
  }

  it("Ctrl-C stops the answer and keeps it, twice at an empty prompt leaves; colours only where wanted", async () => {
    const { code, seen } = await type([
      [">>> ", `${RAMBLE}\r`],
      [" more", "\x03"],
      ["is kept)", ""],
      [">>> ", "/context\r"],
      ["template", ""],
      [">>> ", "half a line"],
      // Twice: the first takes the line away.
      ["half a line", "\x03\x03"],
      ["leaves)", ""],
      [">>> ", "\x03"],
    ]);
    expect(code).toBe(0);
    expect(seen).toContain("(stopped; what was said is kept)");
    expect(seen).toMatch(/question 1 +\d+\s+answer 1 +\d+/);
    expect(seen).toContain("\x1b[2m");
    const state = join(folder, "state", "nibble", "chat-history");
    expect(statSync(state).mode & 0o777).toBe(0o600);
    expect(readFileSync(state, "utf8")).toBe(lines(RAMBLE, "/context"));
  });

  it("what is pasted is one message, whatever its lines look like", async () => {
    const env = { XDG_STATE_HOME: join(folder, "state3") };
    const path = join(folder, "pasted.json");
    const { code } = await type(
      [
        [">>> ", `\x1b[200~/quit\r${FACTS.replace("\n", "\\\r")}\r\x1b[201~`],
        ["Lisbon", `${CITY}\r`],
        ["ended after 4 tokens", ""],
        [">>> ", `/save ${path}\r`],
        ["saved", ""],
        [">>> ", "\x1b[200~one\rtwo\x1b[201~"],
        ["two", "\x03\x04"],
      ],
      env,
      ["-n", "4"],
    );
    expect(code).toBe(0);
    const { messages } = JSON.parse(readFileSync(path, "utf8"));
    expect(messages).toHaveLength(2);
    expect(messages[0].content).toBe(`/quit\n${FACTS.replace("\n", "\\\n")}\n${CITY}`);
  });

  it("the arrow keys bring back what was typed in an earlier session, and Ctrl-D leaves", async () => {
    const env = { XDG_STATE_HOME: join(folder, "state2"), NO_COLOR: "1" };
    await type(
      [
        [">>> ", `/file ${facts}\r`],
        [">>> ", `${CODE}\r`],
        ["48213.", ""],
        [">>> ", "\x04"],
      ],
      env,
    );
    const { code, seen } = await type(
      [
        [">>> ", "\x1b[A"],
        [CODE, "\x1b[A"],
        [facts, "\r"],
        [">>> ", "\x1b[A\x1b[A\r"],
        ["is 48213.", ""],
        [">>> ", "\x04"],
      ],
      env,
    );
    expect(code).toBe(0);
    expect(seen).not.toContain("\x1b[2m");
  });
});
