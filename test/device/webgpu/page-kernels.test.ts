/** The kernels of a page's bundle: what the WGSL files say in fewer letters, and they compile. */
import { fileURLToPath } from "node:url";
import { transformWithOxc } from "vite";
import { expect, it, vi } from "vitest";
import { kernelModule } from "../../../scripts/wgsl.js";
import { kvCodec } from "../../../src/cache/codecs.ts";
import { KERNELS } from "../../../src/device/webgpu/kernels.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { openModel } from "../../../src/model/model.ts";
import { shapedCheckpoint } from "../../../src/model/shaped.ts";
import { ALL_TRAITS, compilingDevice, describeGpu } from "./gpu.ts";

vi.mock("../../../src/device/webgpu/kernels.ts", async () => {
  const root = fileURLToPath(new URL("../../..", import.meta.url));
  const module = kernelModule(root, { compact: true });
  const { code } = await transformWithOxc(module, "kernels.ts");
  return import(`data:text/javascript,${encodeURIComponent(code)}`);
});

const root = fileURLToPath(new URL("../../..", import.meta.url));

it("lack comments, blanks, long names, and what matrices need, and nothing else", () => {
  const entry =
    /^ {2}"?([\w.]+)"?: (?:\{ name: "\w+", text: )?("(?:[^"\\]|\\.)*")(?:, libs: (\[[^\]]*\]))?/gm;
  const entries = (module: string) =>
    new Map(
      [...module.matchAll(entry)].map(([, name, text, libs]) => [
        name,
        { text: JSON.parse(text) as string, libs: libs ? (JSON.parse(libs) as string[]) : null },
      ]),
    );
  const whole = entries(kernelModule(root));
  const compact = entries(kernelModule(root, { compact: true }));
  const kernels = [...whole].filter(([, { libs }]) => libs !== null);
  const left = kernels.filter(([, { text }]) => text.includes("subgroup_matrix"));
  expect([...compact].filter(([, { text }]) => text === "").map(([name]) => name)).toEqual(
    left.map(([name]) => name),
  );
  const wanted = new Set(kernels.filter((kernel) => !left.includes(kernel)).flatMap(([, { libs }]) => libs));
  for (const [name, { libs }] of whole)
    expect(compact.has(name), name).toBe(libs !== null || wanted.has(name.split(".")[0]));
  // Neighbours that a blank kept apart must not become one token.
  const tokens = (text: string) =>
    text.replace(/\/\/.*$/gm, "").match(/\d[\w.]*|\w+|\+\+|--|&&|\|\||<<|>>|[<>=!+*/&|^%-]=|->|\S/g);
  /** One short name for each, everywhere: library files and the kernels that use them call things alike. */
  const names = new Map<string, string>();
  const shortened = (word: string, short: string) => {
    if (word === short || !/^[A-Za-z_]/.test(word)) return word;
    names.set(word, names.get(word) ?? short);
    return names.get(word)!;
  };
  for (const [name, { text }] of compact) {
    if (text === "") continue;
    const original = whole.get(name)!.text;
    const [found, wanted] = [tokens(text)!, tokens(original)!];
    expect(found).toEqual(wanted.map((word, i) => shortened(word, found[i])));
    expect(text.split("\n")).toHaveLength(original.split("\n").length);
    const block = /\/\/ <values>\n[\s\S]*\/\/ <\/values>/;
    const lines = (of: string) => block.exec(of)?.[0].match(/^(const|alias) .*;$/gm);
    expect(lines(text)).toEqual(lines(original));
  }
  expect(names.size).toBeGreaterThan(200);
  expect(new Set(names.values()).size).toBe(names.size);
  const words = [...compact].flatMap(([name, { text }]) => (text ? tokens(whole.get(name)!.text)! : []));
  for (const short of names.values()) expect(words).not.toContain(short);
});

describeGpu("kernels of a page compile", () => {
  const traits = {
    "f16, subgroups": { ...ALL_TRAITS, matrices: false },
    "no subgroups": { ...ALL_TRAITS, f16: false, subgroup: null, matrices: false },
  };
  it("with their bindings and Params as in Node, and without matrices", async () => {
    const { KERNELS: whole } = await vi.importActual<{ KERNELS: typeof KERNELS }>(
      "../../../src/device/webgpu/kernels.ts",
    );
    const untold = (kernels: typeof KERNELS) =>
      Object.values(kernels).map(({ text: _text, ...kernel }) => kernel);
    expect(untold(KERNELS)).toEqual(untold(whole));
    expect(KERNELS.matmulMatrix.text).toBe("");
  });

  it.each(["qwen-3-30b-a3b", "gpt-oss-20b", "gemma-3-4b"])("%s", async (shape) => {
    for (const of of Object.values(traits)) {
      const device = await compilingDevice(of);
      for (const codec of ["int4", "rq4", "f16"])
        for (const type of ["q4_0", "f16"]) {
          const model = await openModel(await shapedCheckpoint(shape, { type, layers: 6 }));
          const graph = model.record({ context: 8192, maxTokens: 512, maxOutputs: 1, codec: kvCodec(codec) });
          const limits = { maxStorageBufferBindingSize: 2 ** 31 - 4, maxBufferSize: 2 ** 38 };
          const { modes, sampling } = compileGraph(graph, of, limits);
          const kernels = [...Object.values(modes).flat(), ...sampling.all].map(({ kernel }) => kernel);
          expect(kernels.map(({ kernel }) => kernel)).toContain("matmulTile");
          for (const kernel of kernels) await device.pipeline(kernel);
        }
    }
  });
});
