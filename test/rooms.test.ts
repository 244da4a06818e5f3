/**
 * The architecture's rules that a machine can check: imports between rooms go left, the app enters through index.ts,
 * lab.ts and answer/,
 * Node's own modules stay in the files named here, the page takes the library by its entry, files stay readable in one
 * sitting and say what they own.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const src = fileURLToPath(new URL("../src", import.meta.url));

/** A room may import from itself and from the rooms to its left. */
const ROOMS = ["plot", "format", "device", "cache", "model", "engine", "answer", "study", "lab", "app"];

/** The library's, and the lab's, which loads only where it is used; and how folders are made, which is no public name. */
const ENTRIES = ["index.ts", "lab.ts", "format/make-folder.ts"];

/** Files that need a file system, threads or a terminal; everything else also runs in a browser. */
const NODE_FILES = [
  "app/",
  "answer/grammar/grammars.ts",
  "answer/grammar/keeper.ts",
  "answer/grammar/worker.js",
  "device/wasm/cores.ts",
  "device/webgpu/dawn.ts",
  "device/webgpu/pack-threads.ts",
  "device/webgpu/pack-worker.js",
  "device/wasm/wasm.ts",
  "device/wasm/worker.js",
  "device/wasm/workers.ts",
  "device/wasm/module.ts",
  "engine/find-model.ts",
  "engine/gpu-memory.ts",
  "engine/kernel-memory.ts",
  "engine/load.ts",
  "engine/machine.ts",
  "format/file-source.ts",
  "format/hub/cache.ts",
  "format/hub/disk.ts",
  "format/hub/download.ts",
  "format/hub/installed.ts",
  "format/hub/lock.ts",
  "format/hub/part.ts",
  "format/hub/settings.ts",
  "format/make-folder.ts",
  "format/new-file.ts",
  "format/open.ts",
  "lab/child-runner.ts",
  "lab/child.js",
  "lab/client.ts",
  "lab/executor.ts",
  "lab/hash.ts",
  "lab/journal.ts",
  "lab/lock.ts",
  "lab/methods/outside.ts",
  "lab/migrate.ts",
  "lab/open-book.ts",
  "lab/open-lab.ts",
  "lab/owner.ts",
  "lab/shipped-book.ts",
  "lab/spool.ts",
  "lab/store-book.ts",
  "lab/store.ts",
  "lab/swarm.ts",
  "lab/worker-name.ts",
  "study/cpu-bandwidth.ts",
  "study/doctor.ts",
  "study/inspect.ts",
  "study/plan/plan-model.ts",
  "study/read-worker.js",
  "study/verify/logits-file.ts",
  "study/verify/verify-model.ts",
];

const MOST_LINES = 450;
const MOST_KERNEL_LINES = 300;
/** What people read first of the kernels: products and attention by subgroup matrices. */
const SHORT_KERNELS = [
  "matmulMatrix.wgsl",
  "matmulSquare.wgsl",
  "attendDecodeMatrix.wgsl",
  "attendPromptMatrix.wgsl",
];
const MOST_SHORT_LINES = 249;

interface SourceFile {
  name: string;
  text: string;
  lines: number;
}

const files = filesOf(src);
const page = filesOf(fileURLToPath(new URL("../web", import.meta.url)));

const kernels = filesOf(join(src, "device/webgpu/kernels"), /\.wgsl$/);

function filesOf(folder: string, kind = /\.(tsx?|js)$/): SourceFile[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => kind.test(name))
    .sort()
    .map((name) => {
      const text = readFileSync(join(folder, name), "utf8");
      return { name: name.replaceAll("\\", "/"), text, lines: text.trimEnd().split("\n").length };
    });
}

/** Specifiers of static and dynamic imports, of re-exports and of files named by `new URL`. */
function imports(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const found = code.matchAll(/(?:(?<!["'])\bfrom\s*|\bimport\s*\(?\s*|\bnew URL\(\s*)["']([^"']+)["']/g);
  return [...found].map((match) => match[1]);
}

const roomOf = (name: string) => (name.includes("/") ? name.slice(0, name.indexOf("/")) : "index");
/** AssemblyScript has imports without an ending and a language of its own. */
const isKernel = (name: string) => name.startsWith("device/wasm/assembly/");

describe("rooms", () => {
  it("are the known ones", () => {
    expect([...new Set(files.map(({ name }) => roomOf(name)))].sort()).toEqual([...ROOMS, "index"].sort());
  });

  it("import only leftwards; the app enters through index.ts, lab.ts and answer/", () => {
    const wrong: string[] = [];
    for (const { name, text } of files) {
      const room = roomOf(name);
      for (const specifier of imports(text).filter((found) => found.startsWith("."))) {
        const target = normalize(join(dirname(name), specifier)).replaceAll("\\", "/");
        const allowed =
          room === "index"
            ? ROOMS.indexOf(roomOf(target)) >= 0 && roomOf(target) !== "app"
            : room === "app"
              ? ENTRIES.includes(target) || ["answer", "app", "plot"].includes(roomOf(target))
              : ROOMS.indexOf(roomOf(target)) >= 0 && ROOMS.indexOf(roomOf(target)) <= ROOMS.indexOf(room);
        // The packaged models and package.json lie beside src and are read, not imported.
        const data = target.startsWith("../models/") || target === "../package.json";
        if (!allowed && !data) wrong.push(`${name} imports ${specifier}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it("use Node's modules only in the files named for it", () => {
    const using = files.filter(({ text }) => imports(text).some((found) => found.startsWith("node:")));
    const wrong = using.filter(({ name }) => !NODE_FILES.some((allowed) => name.startsWith(allowed)));
    expect(wrong.map(({ name }) => name)).toEqual([]);
  });

  it("name relative files with their ending, packages from package.json only", () => {
    const json = JSON.parse(readFileSync(join(src, "../package.json"), "utf8"));
    const packages = { ...json.dependencies, ...json.optionalDependencies };
    const wrong: string[] = [];
    for (const { name, text } of files.filter((file) => !isKernel(file.name))) {
      for (const found of imports(text)) {
        const known = found.startsWith(".")
          ? /\.(ts|js|json|wasm|gguf)$/.test(found)
          : found.startsWith("node:") || Object.hasOwn(packages, found);
        if (!known) wrong.push(`${name} imports ${found}`);
      }
    }
    expect(wrong).toEqual([]);
  });
});

/** What the page may take of src: the library in its worker, what is small and pure in the thread that draws, and the reader of documents when one needs it. */
const OF_PAGE = ["browser.ts", "page.ts", "format/documents.ts"];

it("the page imports the library by its entries, and nothing imports the page", () => {
  const wrong: string[] = [];
  for (const { name, text } of page)
    for (const specifier of imports(text).filter((found) => found.startsWith("."))) {
      const target = normalize(join("web", dirname(name), specifier)).replaceAll("\\", "/");
      const allowed = target.startsWith("web/") || OF_PAGE.some((file) => target === `src/${file}`);
      if (!allowed) wrong.push(`web/${name} imports ${specifier}`);
    }
  expect(wrong).toEqual([]);
});

it("no file imports itself by way of others", () => {
  const graph = new Map(
    [
      ...files.map((file) => ({ ...file, name: `src/${file.name}` })),
      ...page.map((file) => ({ ...file, name: `web/${file.name}` })),
    ]
      .filter(({ name }) => !name.includes("/assembly/"))
      .map(({ name, text }) => [
        name,
        imports(text)
          .filter((found) => found.startsWith("."))
          .map((found) => normalize(join(dirname(name), found)).replaceAll("\\", "/")),
      ]),
  );
  const finished = new Set<string>();
  const circles: string[] = [];
  const visit = (name: string, way: readonly string[]) => {
    if (way.includes(name)) circles.push([...way.slice(way.indexOf(name)), name].join(" -> "));
    if (finished.has(name) || way.includes(name)) return;
    for (const next of graph.get(name) ?? []) visit(next, [...way, name]);
    finished.add(name);
  };
  for (const name of graph.keys()) visit(name, []);
  expect(circles).toEqual([]);
});

/** Names that a room exports twice, since they are the same thing in two places. */
const TWINS: Record<string, string> = {
  KV_FORMATS: "of each device, what it has kernels for",
  KvFormat: "the same as a type",
  ModelPanel: "the panel, and the panel loaded when it is first drawn",
  RENAMES: "of each server API, its fields by the names of the OpenAI API",
  layerPageBytes: "of each device, bytes of a layer's keys or values in a page, as it arranges them",
  messagesOf: "of each server API, its conversation as chat messages",
  openAttendTimer: "in Node, and in a page",
};

it("a name that a room exports has one meaning there", () => {
  const places = new Map<string, string[]>();
  const all = [
    ...files.filter(({ name }) => !isKernel(name) && !name.endsWith("webgpu/kernels.ts")),
    ...page.map((file) => ({ ...file, name: `web/${file.name}` })),
  ];
  for (const { name, text } of all)
    for (const [, exported] of text.matchAll(
      /^export (?:async )?(?:abstract )?(?:function\*?|const|class|interface|type) ([\w$]+)/gm,
    )) {
      const key = `${roomOf(name)} ${exported}`;
      places.set(key, [...(places.get(key) ?? []), name]);
    }
  const twice = [...places].filter(([key, found]) => found.length > 1 && !(key.split(" ")[1] in TWINS));
  expect(twice.map(([key, found]) => `${key}: ${found.join(", ")}`)).toEqual([]);
});

describe("files", () => {
  it(`have at most ${MOST_LINES} lines`, () => {
    const long = [...files, ...page].filter(({ lines }) => lines > MOST_LINES);
    expect(long.map(({ name, lines }) => `${name}: ${lines}`)).toEqual([]);
  });

  it(`are kernels of at most ${MOST_KERNEL_LINES} lines`, () => {
    const most = (name: string) => (SHORT_KERNELS.includes(name) ? MOST_SHORT_LINES : MOST_KERNEL_LINES);
    const long = kernels.filter(({ name, lines }) => lines > most(name));
    expect(long.map(({ name, lines }) => `${name}: ${lines}`)).toEqual([]);
  });

  it("open with a comment", () => {
    const bare = [...files, ...page].filter(
      ({ text }) => !/^(#!.*\n)?(\/\/ @ts-check\n)?\s*(\/\*\*|\/\/)/.test(text),
    );
    expect(bare.map(({ name }) => name)).toEqual([]);
  });

  it("reach outside of src for nothing but data", () => {
    const escaping = files.flatMap(({ name, text }) =>
      imports(text)
        .filter((found) => found.startsWith("."))
        .map((found) => relative(".", normalize(join(dirname(name), found))))
        .filter((target) => /^\.\.[\\/](lab|bench|test|examples|scripts|web)/.test(target))
        .map((target) => `${name}: ${target}`),
    );
    expect(escaping).toEqual([]);
  });
});
