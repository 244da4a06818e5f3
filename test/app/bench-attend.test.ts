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

  it("prints a JSON object a measurement, of the fused path and of the baseline, both right", async () => {
    const { code, stdout, stderr } = await nibble([
      ...["bench", "attend", ...tiny, "--kv", "int4", "--tokens", "70", "--prompt", "20", "--queries", "9"],
      "--json",
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [bandwidth, ...rows] = lines(stdout).map((line) => JSON.parse(line));
    const of = {
      adapter: expect.stringMatching(/swiftshader/i),
      date: expect.stringMatching(/^\d{4}-\d\d-\d\d$/),
    };
    expect(bandwidth).toEqual({ op: "readBandwidth", gbps: expect.any(Number), ...of });
    expect(rows.map(({ op, tokens, queries }) => [op, tokens, queries])).toEqual([
      ["attendDecode", 70, 1],
      ["attendDequantized", 70, 1],
      ["attendPrompt", 20, 9],
      ["attendDequantized", 20, 9],
    ]);
    for (const row of rows) {
      expect(row).toEqual({
        op: expect.any(String),
        shape: "4/2x64w48",
        kv: "int4",
        tokens: expect.any(Number),
        queries: expect.any(Number),
        us: expect.any(Number),
        gbps: expect.any(Number),
        tflops: expect.any(Number),
        error: expect.any(Number),
        ...of,
      });
      expect(row.us).toBeGreaterThan(0);
      expect(row.error).toBeLessThan(row.op === "attendDecode" ? 0.02 : 0.002);
    }
  });

  it("prints a table a shape and writes the plot", async () => {
    const svg = join(folder, "plot.svg");
    const { code, stdout, stderr } = await nibble([
      ...["bench", "attend", ...tiny, "--kv", "int4,f16", "--tokens", "40,70", "--prompt", "0", "--svg", svg],
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [head, empty, title, contexts, ...rows] = lines(stdout);
    expect(head).toMatch(/^swiftshader.*; a kernel that only reads makes [\d.,]+ GB\/s$/i);
    expect(empty).toBe("");
    expect(title).toBe("4/2x64w48, one token (us a layer; x: times as fast as int4 dequantized)");
    expect(contexts.trim().split(/ {2,}/)).toEqual(["cached tokens", "40", "70"]);
    expect(rows.map((row) => row.slice(0, 20).trim())).toEqual([
      "int4",
      "int4 dequantized",
      "f16",
      "int4, memory floor",
      "f16, memory floor",
    ]);
    expect(rows[0]).toMatch(/^int4( +[\d.,]+ +[\d.]+x){2}$/);
    const plot = await readFile(svg, "utf8");
    expect(plot).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
    expect(plot).toContain("int4 dequantized");
  });
});
