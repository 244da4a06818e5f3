/**
 * The chat page: web/ and what it imports of src/, bundled by Vite into files with relative addresses, so that any folder of
 * any server will do. Owns that nothing of Node's gets in, and how much script it may be, which its test holds it to. With `site`, the folder stands by
 * itself: needle-14m lies beside the page.
 */
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "vite";
import { pagesOnly } from "./browser.js";
import { calledAlone, lexerAlone, parserAlone, plainImports } from "./bundled-parts.js";
import { compactKernels } from "./wgsl.js";

/** The scripts that the page's HTML asks for, as they are: what a first visit waits for. */
export const MOST_FIRST_BYTES = 60_000;
/** All scripts of the page together, gzip, those that are loaded later included, but not the readers of PDF and DOCX. */
export const MOST_GZIP_BYTES = 355_000;

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
/** Larger files are kept for a page without a network only once they were used. */
const MOST_KEPT_BYTES = 250_000;
const NEEDLE = "needle-14m-Q8_0.gguf";

/** Writes `folder`; gives the scripts' bytes, plain and compressed. */
export async function bundlePage(root, folder, { site = false } = {}) {
  const plugins = () => [
    pagesOnly(root, PACKAGES, /^highlight\.js\/lib\/languages\//),
    mammothForPages(root),
    parserAlone(root),
    lexerAlone(),
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
    // The same page from a test run, whose NODE_ENV asks for JSX that helps debugging.
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

/** What the HTML names, and what that imports at once. */
function atFirst(html, scripts) {
  const found = new Set(scripts.filter(({ name }) => html.includes(name)));
  for (const { content } of found)
    for (const [, file] of content.toString().matchAll(/\b(?:from|import)\s*["'`]\.\/([^"'`]+\.js)["'`]/g))
      for (const script of scripts) if (script.name.endsWith(file)) found.add(script);
  return [...found];
}

/** web/sw.js with the files that it keeps, under a name that changes with them. */
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

/** Its sources are for Node; the package carries one file for pages. */
function mammothForPages(root) {
  return {
    name: "mammoth-for-pages",
    enforce: "pre",
    resolveId: (id) => (id === "mammoth" ? join(root, "node_modules/mammoth/mammoth.browser.min.js") : null),
  };
}
