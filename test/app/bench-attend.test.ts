/** `nibble bench attend` as a shell runs it: rows that scripts rely on, tables, the plot's file, and wrong usage. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { IS_SWIFTSHADER } from "../device/webgpu/gpu.ts";
import { nibble, requireFreshBuild } from "./nibble.ts";

const lines = (text: string) => text.trimEnd().split("\n");
let folder: string;

beforeAll(async () => {
  requireFreshBuild();
  folder = await mkdtemp(join(tmpdir(), "nibble-attend-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe.runIf(IS_SWIFTSHADER)("nibble bench attend on a GPU", () => {
  const tiny = ["--device", "gpu", "--adapter", "swiftshader", "--shape", "4/2x64w48"];

  it("prints a table a shape with the baseline's times, and writes the plot", async () => {
    const svg = join(folder, "plot.svg");
    const { code, stdout, stderr } = await nibble([
      ...["bench", "attend", ...tiny, "--kv", "int4", "--tokens", "70", "--prompt", "0", "--svg", svg],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [head, empty, title, contexts, ...rows] = lines(stdout);
    expect(head).toMatch(/^swiftshader.*; a kernel that only reads makes [\d.,]+ GB\/s$/i);
    expect(empty).toBe("");
    expect(title).toBe("4/2x64w48, one token (us a layer; x: times as fast as int4 dequantized)");
    expect(contexts.trim().split(/ {2,}/)).toEqual(["cached tokens", "70"]);
    expect(rows.map((row) => row.slice(0, 20).trim())).toEqual([
      "int4",
      "int4 dequantized",
      "int4, memory floor",
    ]);
    expect(rows[0]).toMatch(/^int4( +[\d.,]+ +[\d.]+x)$/);
    const plot = await readFile(svg, "utf8");
    expect(plot).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
    expect(plot).toContain("int4 dequantized");
  });
});

it("prints a JSON object a measurement, of the CPU's kernels too, each right", async () => {
  const { code, stdout, stderr } = await nibble([
    ...["bench", "attend", "--device", "cpu", "--threads", "1", "--shape", "4/2x64,3/1x80w40"],
    ...["--tokens", "70", "--prompt", "20", "--queries", "9", "--json"],
  ]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const [bandwidth, ...rows] = lines(stdout).map((line) => JSON.parse(line));
  const of = { adapter: expect.stringMatching(/^wasm/), date: expect.stringMatching(/^\d{4}-\d\d-\d\d$/) };
  expect(bandwidth).toEqual({ op: "readBandwidth", gbps: expect.any(Number), ...of });
  expect(rows.map(({ op, shape, kv, tokens, queries }) => [op, shape, kv, tokens, queries])).toEqual(
    ["4/2x64", "3/1x80w40"].flatMap((shape) =>
      [["attendDecode", 70, 1] as const, ["attendPrompt", 20, 9] as const].flatMap(([op, tokens, queries]) =>
        ["int4", "rq4", "f16"].map((kv) => [op, shape, kv, tokens, queries]),
      ),
    ),
  );
  const names = [
    "op",
    "shape",
    "tokens",
    "queries",
    "kv",
    "us",
    "gbps",
    "tflops",
    "error",
    "adapter",
    "date",
  ];
  for (const row of rows) {
    expect(Object.keys(row)).toEqual(names);
    expect(row).toMatchObject(of);
    expect(row.us).toBeGreaterThan(0);
    expect(row.error).toBeLessThan(0.02);
  }
});

describe("wrong usage of nibble bench attend:", () => {
  const cpu = ["--device", "cpu"];
  const wrong: [what: string, args: string[], code: number, message: RegExp][] = [
    ["no shape", ["--shape", "64x128", ...cpu], 2, /--shape is 64x128; allowed: heads\/kvHeads x headDim/],
    [
      "heads that do not share",
      ["--shape", "9/2x64", ...cpu],
      2,
      /--shape is 9\/2x64; allowed: up to 512 heads/,
    ],
    ["an odd head size", ["--shape", "8/2x72", ...cpu], 2, /--shape is 8\/2x72; allowed: head sizes of 16/],
    ["an unknown format", ["--kv", "int4,q3", ...cpu], 2, /KV cache format is "q3"; allowed: f16, int4/],
    ["letters for tokens", ["--tokens", "1K", ...cpu], 2, /'1K' is invalid\. A number is needed/],
    ["too many tokens", ["--tokens", "1e9", ...cpu], 2, /--tokens is 1000000000; allowed: integers 1 to/],
    ["a prompt below its chunk", ["--prompt", "256", ...cpu], 2, /--prompt is 256; allowed: integers 512/],
    ["one query as a chunk", ["--queries", "1", ...cpu], 2, /--queries is 1; allowed: integers 2 to/],
    ["nothing to do", ["--tokens", "0", "--prompt", "0", ...cpu], 2, /--tokens is empty, and so is prompt/],
    ["a plot in no folder", ["--svg", "no/such/plot.svg", ...cpu], 1, /cannot write no\/such\/plot\.svg: /],
    ["a model", ["needle"], 2, /too many arguments/],
  ];

  it.each(wrong)("%s", async (_what, args, code, message) => {
    const ended = await nibble(["bench", "attend", ...args]);
    expect(ended.stderr).toMatch(message);
    expect(ended.stderr).toMatch(/^nibble: [^\n]+\n$/);
    expect(ended).toMatchObject({ code, stdout: "" });
  });
});
