/**
 * Bundles `nibble-llm/browser` into one file: the entry src/browser.ts with everything that it imports, by Vite. Prints
 * its size. Fails if anything of Node's, or a package that is not meant for pages, would be included.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "vite";
import { parserAlone } from "./bundled-parts.js";
import { compactKernels } from "./wgsl.js";

/** Limit for nibble.js, gzip; 217.0 kB on 2026-11-30. */
export const MOST_GZIP_BYTES = 219_200;

const PACKAGES = ["@huggingface/jinja"];

/**
 * Vite alone leaves all blanks in a library's module. The names of errors are their classes' names; no other name is
 * needed. Pure calls keep their annotations, so that another bundler can remove what its page does not use.
 */
const MINIFY = { compress: true, mangle: { keepNames: { class: true, function: false } }, codegen: true };

/** Writes `folder`/nibble.js and its map; returns the file's bytes, plain and compressed. */
export async function bundleForBrowsers(root, folder) {
  await build({
    root,
    configFile: false,
    publicDir: false,
    logLevel: "warn",
    plugins: [pagesOnly(root), parserAlone(root), compactKernels(root)],
    build: {
      target: "es2022",
      outDir: folder,
      emptyOutDir: true,
      sourcemap: true,
      minify: true,
      rolldownOptions: { output: { minify: MINIFY } },
      lib: { entry: join(root, "src/browser.ts"), formats: ["es"], fileName: () => "nibble.js" },
    },
  });
  const bytes = readFileSync(join(folder, "nibble.js"));
  return { bytes: bytes.length, gzipBytes: gzipSync(bytes, { level: 9 }).length };
}

/**
 * For Vite: refuses Node's modules and packages that are not listed for pages. `more`: packages besides the engine's;
 * `kinds`: further names.
 */
export function pagesOnly(root, more = [], kinds = /^$/) {
  return {
    name: "pages-only",
    enforce: "pre",
    resolveId(id, importer) {
      const known =
        /^[./\0]/.test(id) || id.startsWith(root) || [...PACKAGES, ...more].includes(id) || kinds.test(id);
      if (!known) this.error(`${importer} imports ${id}, which does not exist in a page`);
    },
  };
}
