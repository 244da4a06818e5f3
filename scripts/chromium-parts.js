/**
 * What the GPU tests use of the dev dependency @sparticuz/chromium, which contains its files packed and needs no
 * install script: SwiftShader with a Vulkan loader (a GPU in software), and headless Chromium with its libraries.
 * Unpacked once, next to node_modules' other caches. Two processes may do so at once: each unpacks into its own folder,
 * and the first to rename it wins.
 */
import { createReadStream, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { chmod, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { brotliDecompressSync, createBrotliDecompress } from "node:zlib";
import { extract } from "tar-fs";

const modules = join(dirname(fileURLToPath(import.meta.url)), "..", "node_modules");
const packed = join(modules, "@sparticuz", "chromium");

/** Why this machine cannot run the package's files; null: it can. */
export const UNSUPPORTED =
  process.platform !== "linux" || process.arch !== "x64"
    ? `@sparticuz/chromium has files for linux-x64 only, this is ${process.platform}-${process.arch}`
    : existsSync(packed)
      ? null
      : "the dev dependency @sparticuz/chromium is not installed";

/** The folder with libvk_swiftshader.so, vk_swiftshader_icd.json and libvulkan.so.1. */
export function swiftShaderFolder() {
  return unpackedOnce("swiftshader", (folder) => untar("swiftshader.tar.br", folder));
}

/**
 * The folder with `chromium`, its `lib/` (NSS and other libraries that a minimal machine does not have), fonts and
 * SwiftShader.
 */
export function chromiumFolder() {
  return unpackedOnce("chromium", async (folder) => {
    await Promise.all([
      pipeline(
        createReadStream(join(packed, "bin", "chromium.br")),
        createBrotliDecompress({ chunkSize: 2 ** 21 }),
        (bytes) => writeFile(join(folder, "chromium"), bytes),
      ),
      ...["swiftshader.tar.br", "al2023.tar.br", "fonts.tar.br"].map((file) => untar(file, folder)),
    ]);
    await chmod(join(folder, "chromium"), 0o755);
  });
}

async function unpackedOnce(name, fill) {
  const { version } = JSON.parse(readFileSync(join(packed, "package.json"), "utf8"));
  const target = join(modules, ".cache", `nibble-${name}-${version}`);
  if (existsSync(target)) return target;
  const own = `${target}.${process.pid}`;
  mkdirSync(own, { recursive: true });
  try {
    await fill(own);
    renameSync(own, target);
  } catch (error) {
    rmSync(own, { recursive: true, force: true });
    // Another process was first: its folder is just as good.
    if (!existsSync(target)) throw error;
  }
  return target;
}

function untar(file, folder) {
  const tar = brotliDecompressSync(readFileSync(join(packed, "bin", file)));
  return pipeline(Readable.from([tar]), extract(folder));
}
