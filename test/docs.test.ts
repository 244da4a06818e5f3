/**
 * The documents: links lead somewhere, README is short and has its two commands, API pages have the docstrings. And comments:
 * no file or symbol that they name is gone.
 */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { entriesOf, exportsOf, namesOf } from "../scripts/api-pages.js";
import { anchorOf, brokenLinks } from "../scripts/docs-links.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const FOLDERS = ["src", "web", "scripts", "bench", "test", "examples", "lab", "docs"];

describe("documents", () => {
  it("have links that lead to a file and a heading", () => {
    expect(brokenLinks(root)).toEqual([]);
    expect(anchorOf("What `K` it costs, in bits")).toBe("what-k-it-costs-in-bits");
  });

  it("begin with a short README that has the two commands", () => {
    const readme = readFileSync(join(root, "README.md"), "utf8");
    expect(readme.split("\n").length).toBeLessThan(120);
    expect(readme).toContain("\nnpm ci && npm run demo\nnpm ci && npm test\n");
  });

  it("have API pages with declarations and docstrings", () => {
    const all = exportsOf(join(root, "dist/index.d.ts"));
    expect(all.get("load")).toMatchObject({ kind: "function" });
    expect(all.get("LanguageModel")!.text).toMatch(
      /^export declare class LanguageModel[\s\S]*generate\([\s\S]*\n\}$/,
    );
    expect(all.get("MemoryError")!.doc).not.toBe("");
  });

  it.each(entriesOf(root))("have an API page of every name of %s, with its docstring", (entry, path) => {
    const all = exportsOf(path);
    expect(namesOf(path).filter((name) => !all.has(name))).toEqual([]);
    const bare = [...all.values()].filter(({ doc }) => doc === "").map(({ name }) => name);
    // Types of the lab say in their members what they are.
    expect(bare.length).toBeLessThanOrEqual(entry === "nibble-llm/lab" ? 63 : 0);
  });
});

interface Source {
  readonly path: string;
  readonly comments: readonly string[];
  readonly code: string;
}

const paths = FOLDERS.flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .map((name) => `${folder}/${name.replaceAll("\\", "/")}`)
    .filter((path) => !path.includes("node_modules")),
);
const COMMENT = /\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/[^\n]*/g;
const sources: Source[] = paths
  .filter((path) => /\.(tsx?|js|wgsl)$/.test(path) && !path.endsWith("webgpu/kernels.ts"))
  .map((path) => {
    const text = readFileSync(join(root, path), "utf8");
    return { path, comments: text.match(COMMENT) ?? [], code: text.replace(COMMENT, " ") };
  });
const own = sources.filter(({ path }) => /^(src|web|scripts)\//.test(path));

describe("comments", () => {
  /** Files of others that comments cite, and what is made or meant as an example. */
  const OTHERS =
    /(ggml\/docs\/gguf|ollama\/docs\/api|perplexity\/README)\.md|_http_server\.js|lib\.dom\.d\.ts|nibble\.js|mine\.js/;

  it("name files that are there", () => {
    const all = [...paths, ...readdirSync(root)];
    const names = new Set(all.map((path) => basename(path)));
    const gone = own.flatMap(({ path, comments }) =>
      comments
        .flatMap((comment) => comment.match(/(?<![\w*./-])[\w./-]*\w\.(?:tsx?|js|wgsl|md)\b(?!\()/g) ?? [])
        .filter((name) => !OTHERS.test(name) && !name.includes("//") && !name.startsWith("github.com/"))
        .filter((name) =>
          name.includes("/")
            ? !all.some((known) => known.endsWith(name.replace(/^(\.\.?\/)+/, "")))
            : !names.has(name),
        )
        .map((name) => `${path}: ${name}`),
    );
    expect(gone).toEqual([]);
  });

  it("name symbols that are there", () => {
    const words = new Set(sources.flatMap(({ code }) => code.match(/[A-Za-z_]\w*/g) ?? []));
    const gone = own.flatMap(({ path, comments }) =>
      comments
        .flatMap((comment) => [...comment.matchAll(/`([A-Za-z_]\w*)(?:\(\))?`/g)].map(([, name]) => name))
        .filter((name) => /[a-z][A-Z]|^[A-Z_]{3,}$/.test(name) && !words.has(name))
        .map((name) => `${path}: ${name}`),
    );
    expect(gone).toEqual([]);
  });
});
