/**
 * `nibble-llm/browser` as one file: the TypeScript entry src/browser.ts with all that it imports, bundled by Vite. Prints its
 * size. Fails when anything of Node's, or a package that is not meant for pages, would get into it.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "vite";
import { parserAlone } from "./bundled-parts.js";
import { compactKernels } from "./wgsl.js";

/** Of nibble.js, gzip. */
export const MOST_GZIP_BYTES = 240_000;

const PACKAGES = ["@huggingface/jinja"];

/** Writes `folder`/nibble.js and its map; gives the file's bytes, plain and compressed. */
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
      // Errors are called by their class.
      rolldownOptions: { output: { keepNames: true } },
      lib: { entry: join(root, "src/browser.ts"), formats: ["es"], fileName: () => "nibble.js" },
    },
  });
  const bytes = readFileSync(join(folder, "nibble.js"));
  return { bytes: bytes.length, gzipBytes: gzipSync(bytes, { level: 9 }).length };
}

/** For Vite: refuses what no page has, and packages that were not chosen for pages. `more`: packages beside the engine's; `kinds`: names of more. */
export function pagesOnly(root, more = [], kinds = /^$/) {
  return {
    name: "pages-only",
    enforce: "pre",
    resolveId(id, importer) {
      const known =
        /^[./\0]/.test(id) || id.startsWith(root) || [...PACKAGES, ...more].includes(id) || kinds.test(id);
      if (!known) this.error(`${importer} imports ${id}, which no page has`);
    },
  };
}
