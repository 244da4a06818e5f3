/** `nibble plan` as a shell runs it: tables, the JSON that scripts rely on, exit codes, and wrong usage. */
import { beforeAll, describe, expect, it } from "vitest";
import { memorySize } from "../../src/app/plan.ts";
import { ArgumentError } from "../../src/index.ts";
import { nibble, requireFreshBuild } from "./nibble.ts";
import { refused } from "./refused.ts";

beforeAll(requireFreshBuild);

describe("nibble plan", () => {
  it("shows parts, contexts by format, and other engines", async () => {
    const { code, stdout, stderr } = await nibble(["plan", "needle", "--device", "cpu", "--memory", "1GB"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(
      /^Needle 14M: 14,162,304 parameters, 8 layers, trained for 32,768 tokens\non the CPU, /,
    );
    expect(stdout).toMatch(
      /\n32,768 tokens of kv4\n +weights +14\.\d MiB +q8_0 .*\n +KV cache +37\.8 MiB +8 full/,
    );
    expect(stdout).toMatch(/\n +total +\d+ MiB +fits\n/);
    expect(stdout).toMatch(
      /\ncontext +kv4 KV +total +fits +f16 KV +total +fits +int4 KV +total +fits +rq4 KV /,
    );
    expect(stdout).toMatch(/\n +4,096 +6\.8 MiB +\d+ MiB +yes +16\.0 MiB/);
    expect(stdout).toContain(
      "longest context that fits: kv4 32,768, all · f16 32,768, all · int4 32,768, all · rq4 32,768, all",
    );
    expect(stdout).toMatch(/\ncontext +llama\.cpp f16 +llama\.cpp q8_0 +llama\.cpp q4_0 +MLX f16\n/);
  });

  it("prints one JSON object", async () => {
    const args = [
      "plan",
      "gemma-3-4b",
      "--memory",
      "24GiB",
      "--context",
      "20000",
      "--type",
      "q8_0",
      "--json",
    ];
    const { code, stdout } = await nibble(args);
    expect(code).toBe(0);
    const found = JSON.parse(stdout);
    expect(stdout.split("\n").length).toBe(2);
    expect(found).toMatchObject({
      model: { name: "gemma-3-4b", family: "gemma3", layers: 34, slidingLayers: 29, window: 1024 },
      device: expect.stringMatching(/GPU|through WebGPU/),
      memoryBytes: 24 * 2 ** 30,
      chunk: 512,
      plan: { context: 20_000, kv: "kv4", fits: true, weights: [{ type: "q8_0" }, { type: "vectors" }] },
      formats: [
        { name: "kv4", longestContext: 131_072 },
        { name: "f16", longestContext: 131_072 },
        { name: "int4", longestContext: 131_072 },
        { name: "rq4", longestContext: 131_072 },
        { name: "kv3", longestContext: 131_072 },
      ],
      shortfall: null,
    });
    expect(found.formats[1].rows[0]).toEqual({
      context: 4096,
      cacheBytes: expect.any(Number),
      totalBytes: expect.any(Number),
      fits: true,
    });
    expect(found.peers.map(({ name }: { name: string }) => name)).toEqual([
      "llama.cpp f16",
      "llama.cpp q8_0",
      "llama.cpp q4_0",
      "MLX f16",
    ]);
  });

  it("ends with 3 and the way out when what was asked for does not fit, after the table", async () => {
    // Every figure is a plan of all layers, so a small model.
    const args = ["plan", "qwen-3-0.6b", "--memory", "4GB", "--context", "40960", "--kv", "f16"];
    const { code, stdout, stderr } = await nibble(args);
    expect(code).toBe(3);
    expect(stdout).toMatch(/\n40,960 tokens of f16\n/);
    expect(stdout).toMatch(/\n +total +\d+\.\d GiB +does not fit\n/);
    expect(stderr).toMatch(
      /^nibble: 40960 tokens of f16 cache .* Longest context that fits: \d+ tokens\.\n$/,
    );
    const json = await nibble([...args, "--json"]);
    expect(json.code).toBe(3);
    expect(JSON.parse(json.stdout)).toMatchObject({
      plan: { fits: false },
      shortfall: stderr.trim().slice(8),
    });
  });
});

describe("an amount of memory", () => {
  it.each([
    ["64GB", 64 * 2 ** 30],
    ["64 GB", 64 * 2 ** 30],
    ["64gb", 64 * 2 ** 30],
    ["64GiB", 64 * 2 ** 30],
    ["59.6gib", Math.floor(59.6 * 2 ** 30)],
    ["16000MB", 16_000 * 2 ** 20],
    ["512MiB", 2 ** 29],
    ["1.5TB", 1.5 * 2 ** 40],
    ["64e9B", 64e9],
    ["64000000000 bytes", 64e9],
  ])("%s", (text, bytes) => {
    expect(memorySize(text)).toBe(bytes);
  });

  it.each([
    "",
    "64",
    "64G",
    "GB",
    "-1GB",
    "0GB",
    "1e3GB",
    "64GBs",
    "64 G B",
    "0x40GB",
    "0.5 bytes",
    "64e9",
    "99999999TB",
    "Infinity GB",
  ])("%j is refused", (text) => {
    expect(() => memorySize(text)).toThrow(ArgumentError);
    expect(() => memorySize(text)).toThrow(/64GB, 64GiB, 16000MB or 64e9B/);
  });
});

describe("wrong usage of nibble plan:", () => {
  it.each<[what: string, args: string[], code: number, message: RegExp]>([
    ["no model", [], 2, /missing required argument 'model'/],
    [
      "memory without a unit",
      ["needle", "--memory", "64"],
      2,
      /--memory.*"64"; allowed: a size with its unit/,
    ],
    ["a context of none", ["needle", "--context", "0"], 2, /--context is 0; allowed: integers 1 to 32768/],
    [
      "a context beyond",
      ["needle", "--context", "65536"],
      2,
      /--context is 65536; allowed: integers 1 to 32768/,
    ],
    ["an unknown format", ["needle", "--kv", "int3"], 2, /--kv.*int3/],
    ["an unknown device", ["needle", "--device", "tpu"], 2, /--device.*tpu/],
    ["a type of a file", ["needle", "--type", "q4_0"], 2, /--type is q4_0; allowed: nothing without a shape/],
    ["an unknown type", ["qwen-3-4b", "--type", "q3"], 2, /--type is q3; allowed: q4_0, /],
    ["an unknown shape", ["llama-9"], 2, /model is llama-9; allowed: a GGUF file, .* llama-3\.1-8b, /],
    ["a missing file", ["no-such.gguf"], 1, /no-such\.gguf: no such file/],
  ])("%s", async (_what, args, code, message) => {
    // The first in a process of its own.
    const ended = await (args.length === 0 ? nibble : refused)(["plan", ...args]);
    expect(ended.stderr).toMatch(message);
    expect(ended.stderr).toMatch(/^nibble: [^\n]+\n$/);
    expect(ended).toMatchObject({ code, stdout: "" });
  });
});
