/** `nibble bench` as a shell runs it: the JSON that scripts rely on, the table, and wrong usage. */
import { beforeAll, describe, expect, it } from "vitest";
import { nibble, requireFreshBuild } from "./nibble.ts";
import { refused } from "./refused.ts";

beforeAll(requireFreshBuild);

const cpu = ["--device", "cpu", "--threads", "1"];
const short = ["-p", "24", "-n", "3", "-r", "2", ...cpu];
const lines = (text: string) => text.trimEnd().split("\n");

describe("nibble bench", () => {
  it("prints a JSON object a line", async () => {
    const { code, stdout, stderr } = await nibble([
      ...["bench", "needle", "-d", "40,0", "--kv", "f16", "--chunk", "16", "--json", ...short],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const rows = lines(stdout).map((line) => JSON.parse(line));
    expect(rows.map(({ test, tokens, depth }) => [test, tokens, depth])).toEqual([
      ["pp24", 24, 0],
      ["tg3", 3, 0],
      ["pp24 @ d40", 24, 40],
      ["tg3 @ d40", 3, 40],
    ]);
    for (const row of rows) {
      expect(row).toEqual({
        model: "needle",
        layers: 8,
        type: "q8_0",
        weightBytes: expect.any(Number),
        kv: "f16",
        context: 64,
        chunk: 16,
        device: expect.stringContaining("1 thread"),
        kind: "row",
        test: expect.any(String),
        tokens: expect.any(Number),
        depth: expect.any(Number),
        ms: [expect.any(Number), expect.any(Number)],
        tokensPerSecond: { median: expect.any(Number), min: expect.any(Number), max: expect.any(Number) },
        date: expect.stringMatching(/^\d{4}-\d\d-\d\d$/),
        node: process.version,
      });
      expect(row.tokensPerSecond.min).toBeGreaterThan(0);
    }
  });

  it("prints a table", async () => {
    const { code, stdout, stderr } = await nibble(["bench", "needle", ...short]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [head, empty, titles, ...rows] = lines(stdout);
    expect(head).toMatch(/^needle \(8 layers\) · .* of q8_0 weights · kv4 cache, .* · wasm/);
    expect(empty).toBe("");
    expect(titles.split(/ +/)).toEqual(["test", "tokens/s", "least", "most"]);
    expect(rows.map((row) => row.split(" ")[0])).toEqual(["pp24", "tg3"]);
  });

  it("compares answers that quote a text with and without guesses", async () => {
    const { code, stdout, stderr } = await nibble([
      ...[
        "bench",
        "needle",
        "--quote",
        "models/texts/persuasion.txt",
        "-n",
        "16",
        "-r",
        "1",
        "--device",
        "cpu",
      ],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [head, row] = stdout.trimEnd().split("\n").slice(-2);
    expect(head).toMatch(/^test +plain +guessed +ratio +drafted +accepted +same text$/);
    expect(row).toMatch(/^quote16 @ d800 +[\d.,]+ +[\d.,]+ +[\d.]+ +\d+ +\d+ +yes$/);
  });

  it("prints rows of several texts at once, as llama-batched-bench does", async () => {
    const command = [
      "bench",
      "needle",
      "--parallel",
      "1,2",
      "-p",
      "8",
      "-n",
      "3",
      "-r",
      "1",
      "--device",
      "cpu",
    ];
    const { code, stdout, stderr } = await nibble(command);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const lines = stdout.trimEnd().split("\n").slice(-3);
    expect(lines[0]).toMatch(/^PP +TG +B +DEPTH +N_KV +T_PP s +S_PP t\/s +T_TG s +S_TG t\/s +T s +S t\/s$/);
    expect(lines.slice(1).map((line) => line.split(/ +/).slice(0, 5).map(Number))).toEqual([
      [8, 3, 1, 0, 11],
      [8, 3, 2, 0, 22],
    ]);
    const json = await nibble([...command, "--json"]);
    const [row] = json.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(row).toMatchObject({ model: "needle", kind: "batch", pp: 8, tg: 3, texts: 1, tokens: 11 });
    expect(row.generate.ms).toHaveLength(1);
  });

  it("makes up a model of a shape", async () => {
    const shape = ["--shape", "llama-3.2-1b", "--layers", "1", "--vocab", "64", "--type", "q8_0"];
    const { code, stdout } = await nibble([
      "bench",
      ...shape,
      "-p",
      "0",
      "-n",
      "2",
      "-r",
      "1",
      "--json",
      ...cpu,
    ]);
    expect(code).toBe(0);
    expect(lines(stdout).map((line) => JSON.parse(line))).toMatchObject([
      { model: "llama-3.2-1b", layers: 1, type: "q8_0", test: "tg2", kv: "kv4" },
    ]);
  });

  it("goes deeper with a shape than the model was trained for", async () => {
    const shape = ["--shape", "qwen-3-0.6b", "--layers", "1", "--vocab", "64"];
    const { code, stderr } = await nibble(["bench", ...shape, "-d", "40950", "--profile", ...short]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringContaining("A profile on this device is not supported"),
    });
  });
});

describe("wrong usage of nibble bench:", () => {
  const wrong: [what: string, args: string[], code: number, message: RegExp][] = [
    ["no model", [], 2, /model is missing; allowed: a model, or --shape/],
    [
      "a model and a shape",
      ["needle", "--shape", "qwen-3-4b"],
      2,
      /--shape is qwen-3-4b; allowed: a model or/,
    ],
    ["an unknown shape", ["--shape", "llama-9"], 2, /--shape is llama-9; allowed: llama-3\.1-8b, /],
    ["layers of a file", ["needle", "--layers", "2"], 2, /--layers is 2; allowed: nothing without --shape/],
    ["an unknown type", ["--shape", "qwen-3-4b", "--type", "q3"], 2, /--type is q3; allowed: q4_0, /],
    ["no layers", ["--shape", "qwen-3-4b", "--layers", "0"], 2, /--layers is 0; allowed: integers from 1/],
    ["a length of letters", ["needle", "-p", "512,x"], 2, /'512,x' is invalid\. A number is needed/],
    ["a negative depth", ["needle", "-d", "-5"], 2, /'-5' is invalid\. A whole number/],
    ["nothing to do", ["needle", "-p", "0", "-n", "0"], 2, /--generate is empty, and so is prompt/],
    ["no repetitions", ["needle", "-r", "0"], 2, /--repetitions is 0/],
    ["too deep", ["needle", "-d", "32768"], 2, /--depth is 32768; allowed: 0 to 32256/],
    [
      "quotes without generations",
      ["needle", "--quote", "package.json", "-n", "0"],
      2,
      /--quote is a text; allowed/,
    ],
    [
      "a draft without quotes",
      ["needle", "--draft", "needle"],
      2,
      /--draft is needle; allowed: none without quote/,
    ],
    ["a missing file", ["no-such.gguf"], 1, /no-such\.gguf: no such file/],
    ["a profile of the CPU", ["needle", "--profile", ...cpu], 1, /A profile on this device is not supported/],
  ];

  it.each(wrong)("%s", async (_what, args, code, message) => {
    // The first in a process of its own.
    const ended = await (args === wrong[0][1] ? nibble : refused)(["bench", ...args]);
    expect(ended.stderr).toMatch(message);
    expect(ended.stderr).toMatch(/^nibble: [^\n]+\n$/);
    expect(ended).toMatchObject({ code, stdout: "" });
  });
});
