/** The package's entries as others' bundlers meet them: each is there, takes no more than it needs, and says what another says. */
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "rolldown";
import { beforeAll, expect, it } from "vitest";
import * as plan from "../../src/plan.ts";
import { requireFreshBuild, root } from "./nibble.ts";

/** Gzip. On 2026-11-28 all of plan.js had 63.5 kB and `kvBytes` alone 4.0. */
const MOST_PLAN_BYTES = 70_000;
const MOST_PART_BYTES = 6_000;

const json = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

beforeAll(requireFreshBuild);

/** What a bundler makes of these lines, in a folder where the package is installed. Node's modules fail it in a page. */
async function bundled(code: string, platform: "browser" | "node" = "browser"): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "nibble-bundle-"));
  try {
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(root, join(folder, "node_modules", json.name));
    const input = join(folder, "program.js");
    writeFileSync(input, code);
    const made = { write: false, platform, output: { minify: true } } as const;
    const { output } = await build({ input, ...made, onLog: (_level, log) => expect.fail(log.message) });
    expect(output).toHaveLength(1);
    return output[0].code;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const gzipBytes = (code: string) => gzipSync(code, { level: 9 }).length;

it("are files that are built, with types", () => {
  const files = Object.values<{ types: string; default: string }>(json.exports);
  expect(
    files.flatMap((entry) => Object.values(entry)).filter((file) => !existsSync(join(root, file))),
  ).toEqual([]);
});

it("a page that only plans ships no kernels, and plans as the library does", async () => {
  const code = await bundled(`export * from "${json.name}/plan";`);
  expect(code).not.toMatch(/@compute|@workgroup_size|var<storage|subgroup_matrix/);
  expect(code).not.toMatch(/\.wasm\b|WebAssembly|new Worker|requestAdapter/);
  expect(gzipBytes(code)).toBeLessThan(MOST_PLAN_BYTES);
  const page = (await import(`data:text/javascript,${encodeURIComponent(code)}`)) as typeof plan;
  const bytes = async ({ planMemory, plannedGpu, plannedModel, kvBytes }: typeof plan) => {
    const made = planMemory(await plannedModel("llama-3.1-8b", "q4_k_m"), plannedGpu(), { context: 32_768 });
    return { total: made.totalBytes, weights: made.weightBytes, kv3: kvBytes(made, "kv3") };
  };
  expect(await bytes(page)).toEqual(await bytes(plan));
});

it("a bundle has what of an entry it uses", async () => {
  expect(gzipBytes(await bundled(`export { kvBytes } from "${json.name}/plan";`))).toBeLessThan(
    MOST_PART_BYTES,
  );
  expect(gzipBytes(await bundled(`export { GRADES } from "${json.name}/verify";`, "node"))).toBeLessThan(
    1000,
  );
});

it("nothing is published without the addresses that npm names", () => {
  const release = (...args: string[]) =>
    spawnSync(process.execPath, [join(root, "scripts/release.js"), ...args], { encoding: "utf8" });
  const plain = release("--may-publish");
  expect(plain.status, plain.stderr).toBe(json.repository ? 0 : 1);
  if (!json.repository)
    expect(plain.stderr).toMatch(/no public address yet.*--repository https.*Nothing was/);
  expect(release("--publish", "--repository", "github").stderr).toMatch(/"github"; expected: https:\/\/HOST/);
  expect(release("--may-publish", "--repository", "https://example.org/a/b").status).toBe(0);
});
