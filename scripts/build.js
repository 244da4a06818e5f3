/**
 * `npm run build`: AssemblyScript kernels to WASM (a plain SIMD128 and a relaxed-SIMD binary of the same source), WGSL
 * kernels to one module, then TypeScript to dist/, the command line's bundle to dist/cli/, the one for pages to
 * dist/browser/ and the chat page to dist/page/. `--wasm`, `--wgsl` or `--ts` builds one part (`--ts`: all but the kernels; `--page`: only the chat page;
 * `--site FOLDER`: the page as a static site, with needle-14m). Nothing here needs a native compiler.
 */
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { plainDeclarations } from "./declarations.js";
import { writeWasmAbi } from "./wasm-abi.js";
import { writeKernelModules } from "./wgsl.js";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const only = process.argv[2];

async function node(script, args) {
  const child = spawn(process.execPath, [join(root, "node_modules", script), ...args], {
    cwd: root,
    stdio: "inherit",
  });
  const status = await new Promise((resolve) => child.on("close", resolve));
  if (status !== 0) process.exit(status ?? 1);
}

const wasmFolder = "src/device/wasm";
if (only !== "--wasm") writeKernelModules(root);
if (only === undefined || only === "--wasm") {
  writeWasmAbi(root);
  const build = async (relaxed) => {
    const target = `${wasmFolder}/${relaxed ? "kernels-relaxed" : "kernels"}.wasm`;
    const unfinished = target.replace(".wasm", ".unfinished.wasm");
    await node("assemblyscript/bin/asc.js", [
      `${wasmFolder}/assembly/index.ts`,
      "--outFile",
      unfinished,
      "--runtime",
      "stub",
      "-O3",
      "--noAssert",
      "--importMemory",
      "--sharedMemory",
      "--initialMemory",
      "1",
      "--maximumMemory",
      "65536",
      ...["simd", "threads", "bulk-memory", ...(relaxed ? ["relaxed-simd"] : [])].flatMap((f) => [
        "--enable",
        f,
      ]),
    ]);
    // Processes that load kernels meanwhile find the complete old binary.
    renameSync(join(root, unfinished), join(root, target));
  };
  await Promise.all([build(false), build(true)]);
}
if (only === undefined || only === "--ts") {
  // A file renamed in src must not remain in what is published.
  rmSync(join(root, "dist"), { recursive: true, force: true });
  await node("typescript/bin/tsc", ["-p", "tsconfig.json"]);
  plainDeclarations(join(root, "dist"));
  mkdirSync(join(root, "dist/device/wasm"), { recursive: true });
  for (const file of readdirSync(join(root, wasmFolder)))
    if (file.endsWith(".wasm")) cpSync(join(root, wasmFolder, file), join(root, "dist/device/wasm", file));
  cpSync(join(root, "src/lab/migrations"), join(root, "dist/lab/migrations"), { recursive: true });
  // Imported here because loading Vite takes time.
  const { bundleCommandLine } = await import("./command-line.js");
  const { bundleForBrowsers } = await import("./browser.js");
  const [{ bytes, gzipBytes }] = await Promise.all([
    bundleForBrowsers(root, join(root, "dist/browser")),
    bundleCommandLine(join(root, "dist")),
  ]);
  console.log(`dist/browser/nibble.js: ${kb(bytes)}, ${kb(gzipBytes)} compressed`);
}

if (only === undefined || only === "--ts" || only === "--page" || only === "--site") {
  const { bundlePage } = await import("./page.js");
  const site = only === "--site";
  if (site && !process.argv[3]) throw new Error("--site needs the folder to write");
  const folder = site ? resolve(process.argv[3]) : join(root, "dist/page");
  const { bytes, gzipBytes } = await bundlePage(root, folder, { site });
  console.log(`${site ? folder : "dist/page"}: scripts of ${kb(bytes)}, ${kb(gzipBytes)} compressed`);
}

function kb(bytes) {
  return `${(bytes / 1000).toFixed(1)} kB`;
}
