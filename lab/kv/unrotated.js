// @ts-check
/**
 * rq4 without its rotation: a copy of dist/ whose kernels are compiled here with assembly/kv-rotate.ts in place of the
 * product's, and whose codec does without as well. It answers what the rotation is worth.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

/** In place of src/device/rotation.ts, as assembly/kv-rotate.ts is in place of the kernels'. */
const NO_ROTATION = `
export const rotationBlock = () => 1;
export const rotationFactor = () => 1;
export const hadamard = () => {};
export const rotateBack = () => {};
export const flipSigns = (x, factor) => { for (let i = 0; i < x.length; i++) x[i] *= factor; };
`;

/** The path of the copied dist/, beside node_modules, so that imports of packages resolve. Gone when the process ends. */
export function unrotatedBuild() {
  const folder = mkdtempSync(join(root, "dist-unrotated-"));
  process.once("exit", () => rmSync(folder, { recursive: true }));
  cpSync(join(root, "dist"), join(folder, "dist"), { recursive: true });
  writeFileSync(join(folder, "dist/device/rotation.js"), NO_ROTATION);
  const assembly = join(folder, "assembly");
  cpSync(join(root, "src/device/wasm/assembly"), assembly, { recursive: true });
  cpSync(join(root, "lab/kv/assembly/kv-rotate.ts"), join(assembly, "kv-rotate.ts"));
  for (const relaxed of [false, true]) {
    const features = ["simd", "threads", "bulk-memory", ...(relaxed ? ["relaxed-simd"] : [])];
    const args = [
      ...[join(assembly, "index.ts"), "--runtime", "stub", "-O3", "--noAssert", "--importMemory"],
      ...["--outFile", join(folder, "dist/device/wasm", relaxed ? "kernels-relaxed.wasm" : "kernels.wasm")],
      ...["--sharedMemory", "--initialMemory", "1", "--maximumMemory", "65536"],
      ...features.flatMap((feature) => ["--enable", feature]),
    ];
    const asc = join(root, "node_modules/assemblyscript/bin/asc.js");
    const done = spawnSync(process.execPath, [asc, ...args], { cwd: root, stdio: ["ignore", 2, 2] });
    if (done.status !== 0) throw new Error("the kernels without rotation do not compile");
  }
  return join(folder, "dist");
}
