/** The host and the kernels of the CPU device agree on offsets, fields and numbers: both are made of abi.js. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { abiNumber } from "../../scripts/wasm-abi.js";
import {
  RECORD_FIELDS,
  RECORD_HEAD,
  RECORD_WORDS,
  RUN_FIELDS,
  RUN_WORDS,
} from "../../src/device/wasm/abi.js";
import { runWords } from "../../src/device/wasm/control.ts";
import { compileKernels } from "../../src/device/wasm/module.ts";

const FOLDER = join(import.meta.dirname, "../../src/device/wasm/assembly");

it.each(["auto", "plain"] as const)(
  "the %s binary was built from abi.js (node scripts/build.js --wasm)",
  async (simd) => {
    const { module } = await compileKernels(simd);
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
    const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
    expect((exports.ABI as WebAssembly.Global).value).toBe(abiNumber());
  },
);

it("no kernel defines again what abi.js defines", () => {
  const defined = (text: string) => [...text.matchAll(/\b(?:const|class) (\w+)/g)].map(([, name]) => name);
  const inFolder = (folder: string) =>
    readdirSync(folder)
      .filter((name) => name.endsWith(".ts"))
      .map((name) => ({ name, text: readFileSync(join(folder, name), "utf8") }));
  const written = inFolder(FOLDER).filter(({ text }) => !text.startsWith("// Generated"));
  // Kinds of records have words as names that kernels use for other things, too.
  const checked = inFolder(join(FOLDER, "abi")).filter(({ name }) => name !== "records.ts");
  const common = new Set(checked.flatMap(({ text }) => defined(text)));
  expect(common).toContain("OUTPUT_ROWS_AT");
  const twice = written.flatMap(({ name, text }) =>
    defined(text)
      .filter((found) => common.has(found))
      .map((found) => `${name}: ${found}`),
  );
  expect(twice).toEqual([]);
});

it("the longest record fits its words", () => {
  const words = Object.values(RECORD_FIELDS).map((fields) => Object.keys(fields).length);
  expect(Object.keys(RECORD_HEAD).length + Math.max(...words)).toBeLessThanOrEqual(RECORD_WORDS);
});

it("a run's words are in the order of its fields, whatever order they come in", () => {
  const names = Object.keys(RUN_FIELDS) as (keyof typeof RUN_FIELDS)[];
  const numbers = Object.fromEntries(names.map((name, i) => [name, i]).reverse());
  expect(runWords(numbers as Parameters<typeof runWords>[0])).toEqual(
    Array.from({ length: RUN_WORDS }, (_, i) => i),
  );
});
