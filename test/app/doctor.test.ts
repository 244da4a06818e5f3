/** `nibble doctor` as a shell runs it: it ends well on any machine, with a report or with JSON. */
import { beforeAll, describe, expect, it } from "vitest";
import { nibble, requireFreshBuild } from "./nibble.ts";

beforeAll(requireFreshBuild);

describe("nibble doctor", () => {
  it("prints a report", async () => {
    const { code, stdout, stderr } = await nibble(["doctor"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const title of ["machine", "GPUs through WebGPU", "will be used", "memory read at"])
      expect(stdout).toMatch(new RegExp(`^${title}\\n`, "m"));
    expect(stdout).toMatch(new RegExp(`\\n +node +${process.version}\\n`));
    expect(stdout).toMatch(/\n +CPU, \d+ threads? +[\d.,]+ GB\/s\n/);
    expect(stdout).toMatch(
      /\n +llama-3\.1-70b q4_0 +[\d.,]+ with an empty cache, [\d.,]+ at 32,768 tokens of kv4/,
    );
  });

  it("prints one JSON object", async () => {
    const { code, stdout } = await nibble(["doctor", "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      machine: { node: process.version, platform: process.platform, cores: expect.any(Number) },
      cpu: { readBytesPerSecond: expect.any(Number) },
      adapters: expect.any(Array),
      used: { device: expect.stringMatching(/^(gpu|cpu)$/), reason: expect.any(String) },
      advice: expect.any(Array),
      problems: [],
    });
  });

  it("takes no argument", async () => {
    const { code, stderr } = await nibble(["doctor", "needle"]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^nibble: too many arguments[^\n]*\n$/);
  });
});
