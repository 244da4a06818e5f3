/**
 * The chat page: web/ and what it imports of src/, bundled by Vite into files with relative addresses, so that any folder of
 * any server will do. Owns that nothing of Node's gets in, and how much script it may be, which its test holds it to. With `site`, the folder stands by
 * itself: needle-14m lies beside the page.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "vite";
import { pagesOnly } from "./browser.js";
import { calledAlone, lexerAlone, parserAlone, plainImports } from "./bundled-parts.js";
import { compactKernels } from "./wgsl.js";

/** All scripts of the page together, gzip, those that are loaded later included. */
export const MOST_GZIP_BYTES = 225_000;

const PACKAGES = ["preact", "preact/hooks", "preact/jsx-runtime", "marked"];
const NEEDLE = "needle-14m-Q8_0.gguf";

/** Writes `folder`; gives the scripts' bytes, plain and compressed. */
export async function bundlePage(root, folder, { site = false } = {}) {
  const plugins = () => [
    pagesOnly(root, PACKAGES),
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
    oxc: { jsx: { runtime: "automatic", importSource: "preact", development: false } },
    worker: { format: "es", plugins },
    build: {
      target: "es2022",
      outDir: folder,
      emptyOutDir: true,
      minify: true,
      modulePreload: { polyfill: false },
      rolldownOptions: { checks: { pluginTimings: false } },
    },
  });
  if (site) {
    mkdirSync(join(folder, "models"), { recursive: true });
    cpSync(join(root, "models/needle-14m", NEEDLE), join(folder, "models", NEEDLE));
  }
  const scripts = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".js"))
    .map((file) => readFileSync(join(folder, file)));
  const sum = (sizes) => sizes.reduce((all, size) => all + size, 0);
  return {
    bytes: sum(scripts.map(({ length }) => length)),
    gzipBytes: sum(scripts.map((script) => gzipSync(script, { level: 9 }).length)),
  };
}
