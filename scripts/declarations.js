/**
 * Makes the published declarations readable for TypeScript from 5.4 on with skipLibCheck false. It rewrites what older
 * versions cannot read: typed arrays with the type of their buffer (from 5.7), and WebGPU's names, which are in lib.dom
 * from 6 on. Delete this when 5.9 is no longer in use.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

const NAMES = "webgpu-names.d.ts";
/** The members that are used of them. */
const MEMBERS = {
  GPUSupportedLimits: "readonly maxStorageBufferBindingSize: number; readonly maxBufferSize: number",
};
const ARRAYS = /\b((?:Uint8Clamped|Uint|Int|Float|BigUint|BigInt)\d*Array)<(?:Shared)?ArrayBuffer(?:Like)?>/g;

/** Rewrites the files under `dist`. */
export function plainDeclarations(dist) {
  const names = new Set();
  for (const name of readdirSync(dist, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".d.ts") || name === NAMES) continue;
    const file = join(dist, name);
    const text = readFileSync(file, "utf8");
    let changed = text.replace(ARRAYS, "$1");
    const used = codeOf(text).match(/\bGPU(?:[A-Z]\w*)?\b/g) ?? [];
    for (const one of used) names.add(one);
    const path = `./${relative(dirname(file), join(dist, NAMES)).replaceAll("\\", "/")}`;
    if (used.length > 0) changed = `/// <reference path="${path}" />\n${changed}`;
    if (changed !== text) writeFileSync(file, changed);
  }
  const interfaces = [...names].sort().map((name) => `interface ${name} {${MEMBERS[name] ?? ""}}\n`);
  const why =
    "/** For programs whose lib.dom knows no WebGPU; elsewhere these merge with what is there. */\n";
  writeFileSync(join(dist, NAMES), why + interfaces.join(""));
}

function codeOf(text) {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/\/\/.*$/gm, "");
}
