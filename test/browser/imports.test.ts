/** What the entry for pages imports, file by file: nothing of Node's and only the packages that a page should load. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const src = fileURLToPath(new URL("../../src", import.meta.url));

/** Specifiers of what remains of a file's imports and re-exports when its types are gone. */
function imports(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const statements = code.matchAll(/\b(?:import|export)\b(\s+type\b)?[^;"'()]*?\bfrom\s*["']([^"']+)["']/g);
  const named = [...statements].filter(([, type]) => !type).map(([, , specifier]) => specifier);
  const bare = [...code.matchAll(/\bimport\s*\(?\s*["']([^"']+)["']/g)].map(([, specifier]) => specifier);
  const files = [...code.matchAll(/\bnew URL\(\s*["']([^"']+)["']/g)].map(([, specifier]) => specifier);
  return [...named, ...bare, ...files.filter((file) => file.length > 1)];
}

function walk(file: string, found: Map<string, string[]>): Map<string, string[]> {
  const name = relative(src, file).replaceAll("\\", "/");
  if (found.has(name)) return found;
  const specifiers = imports(readFileSync(file, "utf8"));
  found.set(name, specifiers);
  for (const specifier of specifiers)
    if (specifier.startsWith(".")) walk(join(dirname(file), specifier), found);
  return found;
}

const graph = walk(join(src, "browser.ts"), new Map());

it("reaches the model, the engine and the GPU", () => {
  const files = [...graph.keys()];
  for (const file of [
    "model/families/llama.ts",
    "engine/load-checkpoint.ts",
    "device/webgpu/webgpu.ts",
    "format/http-source.ts",
  ])
    expect(files).toContain(file);
});

it("stays in the browser: no Node module, no package but the two for text", () => {
  const packages = [...graph.values()].flat().filter((specifier) => !specifier.startsWith("."));
  expect([...new Set(packages)].sort()).toEqual(["@huggingface/jinja"]);
  const outside = [...graph.keys()].filter((file) =>
    /^\.\.|^app\/|^device\/wasm\/w|load\.ts$|dawn|file-source/.test(file),
  );
  expect(outside).toEqual([]);
});

it("the page calls nothing that scripts/bundled-parts.js leaves out of its bundle", () => {
  const web = join(src, "../web");
  const scripts = readdirSync(web, { recursive: true, encoding: "utf8" }).filter((file) =>
    /\.tsx?$/.test(file),
  );
  expect(scripts.length).toBeGreaterThan(20);
  for (const file of scripts)
    expect(readFileSync(join(web, file), "utf8"), file).not.toMatch(
      /\b((save|restore)(Session|Text)|profile)\b/,
    );
});

it("uses no global of Node's", () => {
  const using = [...graph.keys()].filter((file) => {
    const code = readFileSync(join(src, file), "utf8")
      .replace(/\/\*[\s\S]*?\*\//g, "")
      .replace(/\/\/.*$/gm, "");
    return (
      file !== "device/webgpu/kernels.ts" &&
      /\b(process\.|Buffer\.|require\(|__dirname|setImmediate)/.test(code)
    );
  });
  expect(using).toEqual([]);
});
