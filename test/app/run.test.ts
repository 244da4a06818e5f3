import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nibble, requireFreshBuild, root, start } from "./nibble.ts";
import { refused } from "./refused.ts";

const NOVEL = join(root, "examples/texts/northanger-abbey.txt");
const NEEDLE = join(root, "models/needle-14m/needle-14m-Q8_0.gguf");
const FACT = "The access code of Clara Whitfield is 48213.";
const QUESTION = "What is the access code of Clara Whitfield?";
const small = ["--context", "512"];
const long = ["The ship", "--raw", "--ignore-end", "--context", "4096", "--temperature", "1", "--seed", "5"];

let folder: string;
const file = (name: string, content: string | Uint8Array) => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

beforeAll(() => {
  requireFreshBuild();
  folder = mkdtempSync(join(tmpdir(), "nibble-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("nibble run answers", () => {
  it("from a document, on stdout alone, and ends by itself", async () => {
    const document = file("fact.txt", FACT);
    const { code, stdout, stderr } = await nibble(["run", "needle", QUESTION, "-f", document, ...small]);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: `${FACT}\n`, stderr: "" });
  });

  it("from a document on stdin", async () => {
    const { code, stdout } = await nibble(["run", "needle", QUESTION, "-f", "-", ...small], FACT);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${FACT}\n` });
  });

  it("a prompt on stdin, from two documents in their order, as from one that holds both", async () => {
    const other = "Hugo Marsh's codename is Falcon.";
    const apart = ["-f", file("one.txt", other), "-f", file("two.txt", FACT)];
    const together = ["-f", file("both.txt", `${other}\n\n${FACT}`)];
    const two = await nibble(["run", "needle", "-", ...apart, ...small, "--json"], `${QUESTION}\n`);
    const one = await nibble(["run", "needle", QUESTION, ...together, ...small, "--json"]);
    expect([two.code, one.code]).toEqual([0, 0]);
    const said = ({ stdout }: typeof one) => {
      const { ids, promptTokens } = JSON.parse(stdout);
      return { ids, promptTokens };
    };
    expect(said(two)).toEqual(said(one));
  });

  it("with one JSON object", async () => {
    const { code, stdout, stderr } = await nibble([
      ...["run", "needle", "The ship", "--raw", "-n", "5", "--ignore-end", "--temperature", "0.8"],
      ...["--seed", "7", "--kv", "f16", "--threads", "1", "--json", ...small],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const found = JSON.parse(stdout);
    expect(found).toMatchObject({
      model: "needle",
      stopReason: "length",
      seed: 7,
      generatedTokens: 5,
      draftedTokens: expect.any(Number),
      acceptedTokens: expect.any(Number),
      plan: { kv: "f16", context: 512 },
    });
    expect(found.ids).toHaveLength(5);
    expect(found.text).toEqual(expect.any(String));
    expect(found.device).toContain("1 thread");
    expect(found.plan.cacheBytes).toBe(found.plan.cacheBytesF16);
    for (const key of ["promptTokens", "loadMs", "promptMs", "generateMs", "generateTokensPerSecond"])
      expect(found[key], key).toBeGreaterThan(0);
  });

  it("up to a stop text, and for no tokens at all", async () => {
    const document = file("fact.txt", FACT);
    const common = ["run", "needle", QUESTION, "-f", document, ...small];
    expect(await nibble([...common, "--stop", " is 4"])).toMatchObject({
      code: 0,
      stdout: "The access code of Clara Whitfield\n",
    });
    expect(await nibble([...common, "-n", "0"])).toMatchObject({ code: 0, stdout: "" });
  });
});

describe("exit codes", () => {
  const wrong: [what: string, args: string[], code: number, message: RegExp][] = [
    ["no arguments", ["run"], 2, /missing required argument 'model'/],
    ["an unknown option", ["run", "needle", "hi", "--kvs", "int4"], 2, /unknown option '--kvs'/],
    ["an unknown command", ["walk"], 2, /unknown command 'walk'/],
    ["no number", ["run", "needle", "hi", "-n", "many"], 2, /'many' is invalid\. A number is needed/],
    ["a negative count", ["run", "needle", "hi", "-n", "-1"], 2, /'-1' is invalid\. A whole number/],
    [
      "an unknown KV format",
      ["run", "needle", "hi", "--kv", "int3"],
      2,
      /KV cache format is "int3"; allowed: f16, int4, rq4, kv4/,
    ],
    ["top-p of 2", ["run", "needle", "hi", "--top-p", "2"], 2, /--top-p is 2; allowed: 0 to 1/],
    ["no threads", ["run", "needle", "hi", "--threads", "0"], 2, /--threads is 0; allowed: integers 1 to/],
    ["too long a context", ["run", "needle", "hi", "--context", "99999"], 2, /--context is 99999.* 32768/],
    ["stdin twice", ["run", "needle", "-", "-f", "-"], 2, /given twice/],
    ["a missing model", ["run", "no-such.gguf", "hi"], 1, /no-such\.gguf: no such file/],
    ["a missing document", ["run", "needle", "hi", "-f", "no-such.txt"], 1, /no-such\.txt: no such file/],
    ["a folder as document", ["run", "needle", "hi", "-f", "src"], 1, /src: is a folder/],
    ["a name of no model", ["run", "hf:name", "hi"], 2, /model is "hf:name"; allowed: hf:owner\/name/],
    [
      "too little memory",
      ["run", "needle", "hi", "--memory", "180MB", "--context", "30000"],
      3,
      /the memory is 0\.18 GiB\. Longest context that fits: 2\d{4} tokens/,
    ],
    [
      "too long a prompt",
      ["run", "needle", "hi", "-f", NOVEL, "--context", "1024"],
      3,
      /8\d{3} tokens.* 1024/,
    ],
  ];

  it.each(wrong)("%s", async (_what, args, code, message) => {
    // The first in a process of its own.
    const ended = await (args === wrong[0][1] ? nibble : refused)(args);
    expect(ended.stderr).toMatch(message);
    expect(ended.stderr).toMatch(/^nibble: [^\n]+\n$/);
    expect(ended).toMatchObject({ code, stdout: "" });
  });

  it("a truncated model", async () => {
    const path = file("short.gguf", readFileSync(NEEDLE));
    truncateSync(path, 5_000_000);
    const { code, stdout, stderr } = await nibble(["run", path, "hi"]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^nibble: .*short\.gguf.*\n$/);
  });

  it("a document that is not text", async () => {
    const path = file("bytes.txt", Uint8Array.of(0x66, 0xff, 0xfe));
    const { code, stderr } = await nibble(["run", "needle", "hi", "-f", path]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/bytes\.txt: bytes that are not UTF-8/);
  });

  it("are listed by --help", async () => {
    const { code, stdout } = await nibble(["--help"]);
    expect(code).toBe(0);
    for (const text of ["Exit codes:", "  2 ", "  3 ", "  130 "]) expect(stdout).toContain(text);
  });
});

/** Ctrl-C some time after the start; on a busy machine the process may not be far enough to have noticed: then later. */
async function interrupted(begin: () => ReturnType<typeof start>) {
  for (let ms = 1500; ; ms *= 3) {
    const { child, ended } = begin();
    await sleep(ms);
    child.kill("SIGINT");
    const result = await ended;
    if (result.code !== null || ms > 10_000) return result;
  }
}

describe("an end from outside", () => {
  it("Ctrl-C while generating: what was said stays, exit code 130", async () => {
    const { child, speaking, ended } = start(["run", "needle", ...long]);
    await speaking;
    child.kill("SIGINT");
    const { code, stdout, stderr } = await ended;
    expect({ code, stderr }).toEqual({ code: 130, stderr: "" });
    expect(stdout).toMatch(/[^\n]\n$/);
  });

  it("Ctrl-C while reading the prompt", async () => {
    const ended = await interrupted(() => start(["run", "needle", QUESTION, "-f", NOVEL]));
    expect(ended).toEqual({ code: 130, stdout: "", stderr: "" });
  });

  it("Ctrl-C while waiting for stdin", async () => {
    const ended = await interrupted(() => start(["run", "needle", "-"], null));
    expect(ended).toEqual({ code: 130, stdout: "", stderr: "" });
  });

  it("SIGTERM", async () => {
    const { child, speaking, ended } = start(["run", "needle", ...long]);
    await speaking;
    child.kill("SIGTERM");
    expect(await ended).toMatchObject({ code: 143, stderr: "" });
  });

  it("a reader that leaves (| head) is no error", async () => {
    const { child, speaking, ended } = start(["run", "needle", ...long]);
    await speaking;
    child.stdout?.destroy();
    expect(await ended).toMatchObject({ code: 0, stderr: "" });
  });
});
