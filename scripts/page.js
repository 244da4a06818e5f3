/**
 * Bundles the chat page: web/ and what it imports from src/, by Vite, into files with relative addresses, so that any
 * folder of any server will do. Fails if anything of Node's is included, or if a script is larger than its limit. With
 * `site` the folder is complete: needle-14m is copied to it.
 */
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "vite";
import { pagesOnly } from "./browser.js";
import { calledAlone, lexerAlone, parserAlone, plainImports, renderAlone } from "./bundled-parts.js";
import { compactKernels } from "./wgsl.js";

/** Limit for the scripts in the page's HTML, uncompressed: what a first visit waits for. */
export const MOST_FIRST_BYTES = 60_000;
/**
 * Limit for all scripts of the page together, gzip, including those loaded later, but not the readers of PDF and DOCX.
 * 356.5 kB on 2026-11-30.
 */
export const MOST_GZIP_BYTES = 360_000;

const PACKAGES = [
  ...[
    "preact",
    "preact/hooks",
    "preact/jsx-runtime",
    "marked",
    "lowlight",
    "temml",
    "unpdf",
    "unpdf/pdfjs",
    "mammoth",
  ],
  ...["devlop", "highlight.js/lib/core"],
];
/** Larger files are kept for use without a network only after their first use. */
const MOST_KEPT_BYTES = 250_000;
const NEEDLE = "needle-14m-Q8_0.gguf";

/** Writes `folder`; returns the scripts' bytes, plain and compressed. */
export async function bundlePage(root, folder, { site = false } = {}) {
  const plugins = () => [
    pagesOnly(root, PACKAGES, /^highlight\.js\/lib\/languages\//),
    mammothForPages(root),
    parserAlone(root),
    lexerAlone(),
    renderAlone(),
    plainImports(),
    calledAlone(root),
    compactKernels(root),
  ];
  await build({
    root: join(root, "web"),
    base: "./",
    configFile: false,
    publicDir: false,
    logLevel: "warn",
    plugins: plugins(),
    // A test run sets a NODE_ENV that would build JSX for debugging; the page must be the same.
    resolve: { conditions: ["module", "browser"] },
    oxc: { jsx: { runtime: "automatic", importSource: "preact", development: false } },
    worker: { format: "es", plugins },
    build: {
      target: "es2022",
      outDir: folder,
      emptyOutDir: true,
      minify: true,
      modulePreload: { polyfill: false },
      chunkSizeWarningLimit: 2000,
      rolldownOptions: {
        checks: { pluginTimings: false },
        output: { chunkFileNames: "assets/[name]-[hash].js" },
      },
    },
  });
  if (site) {
    mkdirSync(join(folder, "models"), { recursive: true });
    cpSync(join(root, "models/needle-14m", NEEDLE), join(folder, "models", NEEDLE));
  }
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) =>
    name.replaceAll("\\", "/"),
  );
  const html = readFileSync(join(folder, "index.html"), "utf8");
  const scripts = names
    .filter((name) => name.endsWith(".js"))
    .map((name) => ({ name, content: readFileSync(join(folder, name)) }));
  writeServiceWorker(root, folder, names);
  const sum = (sizes) => sizes.reduce((all, size) => all + size, 0);
  const own = scripts.filter(({ name }) => !/\/(?:pdfjs|mammoth)/.test(name));
  return {
    bytes: sum(own.map(({ content }) => content.length)),
    gzipBytes: sum(own.map(({ content }) => gzipSync(content, { level: 9 }).length)),
    firstBytes: sum(atFirst(html, scripts).map(({ content }) => content.length)),
  };
}

/** The scripts that the HTML names, and their static imports. */
function atFirst(html, scripts) {
  const found = new Set(scripts.filter(({ name }) => html.includes(name)));
  for (const { content } of found)
    for (const [, file] of content.toString().matchAll(/\b(?:from|import)\s*["'`]\.\/([^"'`]+\.js)["'`]/g))
      for (const script of scripts) if (script.name.endsWith(file)) found.add(script);
  return [...found];
}

/** web/sw.js with the list of files that it keeps, and a cache name that changes with them. */
function writeServiceWorker(root, folder, names) {
  const kept = names
    .filter((name) => name.startsWith("assets/") && statSync(join(folder, name)).size <= MOST_KEPT_BYTES)
    .sort();
  const hash = createHash("sha256")
    .update(readFileSync(join(folder, "index.html")))
    .update(kept.join())
    .digest("hex");
  const text = readFileSync(join(root, "web/sw.js"), "utf8");
  const files = JSON.stringify(["./", ...kept.map((name) => `./${name}`)]);
  const filled = text.replace('["./"]', () => files).replace("nibble-0", `nibble-${hash.slice(0, 12)}`);
  if (filled === text) throw new Error("web/sw.js has no place for its files: see writeServiceWorker");
  writeFileSync(join(folder, "sw.js"), filled);
}

/** Its sources are for Node; the package has one file for pages. */
function mammothForPages(root) {
  return {
    name: "mammoth-for-pages",
    enforce: "pre",
    resolveId: (id) => (id === "mammoth" ? join(root, "node_modules/mammoth/mammoth.browser.min.js") : null),
  };
}
