/**
 * `nibble lab run` with --device gpu, on SwiftShader: from the arguments to the report. `work` joins on the reference device: what it
 * measures a GPU with is what `run` does (lab/gpu.test.ts), and a second process would compile all kernels again.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeGpu } from "../device/webgpu/gpu.ts";
import { tinyModel } from "../engine/tiny-model.ts";
import { nibble, requireFreshBuild } from "./nibble.ts";

const folder = mkdtempSync(join(tmpdir(), "nibble-lab-gpu-"));
const file = (name: string) => join(folder, name);
const at = ["--folder", file("lab")];
let state = 1;
const letters = Array.from({ length: 900 }, () => {
  state = (state * 48_271) % 2_147_483_647;
  return "abcde"[state % 5];
}).join("");

async function lab(...args: string[]) {
  const { stdout, stderr, code } = await nibble(["lab", ...args, ...at, "--json"]);
  expect([code, stderr], args.join(" ")).toEqual([0, expect.any(String)]);
  const rows = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  return { rows, stderr };
}

beforeAll(() => {
  requireFreshBuild();
  writeFileSync(file("tiny.gguf"), tinyModel());
  writeFileSync(file("text.txt"), letters);
  const rungs = [{ texts: 1, positions: 16, draws: 1 }];
  const specs = ["int4 g32", "kv3", "kivi 4"];
  writeFileSync(
    file("study.json"),
    JSON.stringify({ specs, rungs, texts: "prose", models: [file("tiny.gguf")] }),
  );
});
afterAll(() => rmSync(folder, { recursive: true }));

describeGpu("a lab on a GPU", () => {
  it("measures formats by their names, others join, and both are compared with a CPU", async () => {
    const run = ["run", file("study.json"), "--text", file("text.txt")];
    const first = await lab(...run, "--device", "gpu", "--experiments", "1");
    expect(first.stderr).toBe("nibble: left to --device cpu, as no cache holds it: kivi 4\n");
    expect(first.rows.map(({ kind }) => kind)).toEqual(["result", "end"]);
    expect(first.rows[0].env.device).toMatch(/swiftshader/i);

    const cpu = await lab(...run, "--device", "reference");
    expect(cpu.stderr).toBe("nibble: left to --device gpu, whose caches they are: kv3\n");
    const [both] = (await lab("contrast", "int4 g32", "int4 g32", "--device", "gpu/cpu")).rows;
    expect(both.rows).toMatchObject([{ draws: 1 }]);
    expect(both.rows[0].ratio).toBeGreaterThan(0.9);
    expect(both.rows[0].ratio).toBeLessThan(1.1);

    const report = readFileSync(file("lab/report.html"), "utf8");
    expect(report).toContain("<h2>On a GPU, and over a CPU</h2>");
    expect(report).toMatch(/<td>tiny\.gguf on swiftshader[^<]*<\/td><td>int4 g32<\/td>/i);

    const proposed = await lab("propose", "rq4", "--on", "tiny", "--device", "gpu");
    expect(proposed.rows).toMatchObject([{ label: "rq4", experiments: 2 }]);
    const refused = await nibble(["lab", "propose", "kv4", "--on", "tiny", ...at]);
    expect([refused.code, refused.stderr]).toEqual([2, "nibble: --device is cpu; allowed: gpu for kv4\n"]);

    // Keys of this kind can be described, and no GPU has kernels for them: the same refusal as `lab run`'s.
    for (const more of [["k4r-v4r-n32"], ["rq4", "--over", "k4r-v4r-n32", "--predict", "0.5"]]) {
      const none = await nibble(["lab", "propose", ...more, "--on", "tiny", "--device", "gpu", ...at]);
      expect([none.code, none.stderr]).toEqual([
        expect.any(Number),
        expect.stringMatching(/^nibble: KV format k4r-v4r-n32 on the gpu device .*Supported: .*\n$/),
      ]);
    }

    // What was proposed for a GPU waits for one.
    await lab("propose", "rq4", "--on", "tiny");
    const { rows } = await lab("work", "--device", "reference", "--experiments", "1");
    expect(rows).toMatchObject([{ kind: "result", klMean: expect.any(Number) }]);
    const journal = readFileSync(file("lab/journal.jsonl"), "utf8").trim().split("\n");
    const result = journal.map((line) => JSON.parse(line)).find(({ id }) => id === rows[0].id);
    expect(result.env.device).toMatch(/reference/);
    const [known] = (await lab("status")).rows;
    expect(known.experiments.waiting).toBeGreaterThanOrEqual(proposed.rows[0].experiments);
  }, 400_000);
});
