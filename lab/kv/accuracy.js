// @ts-check
/**
 * What each cache format costs a model: a text is read once over each of them, on the CPU, and at every position the
 * next token's distribution is compared with the one over the f16 cache: KL divergence, and whether the most likely
 * token is the same. Prints one JSON row a format, and a table to stderr.
 *   node lab/kv/accuracy.js MODEL [--text FILE] [--positions 4096] [--threads 2]
 * Run `npm run build` first. "rq4 without rotation" runs kernels compiled here, in which the rotation does nothing.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { cpus } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    text: { type: "string", default: "examples/texts/northanger-abbey.txt" },
    positions: { type: "string", default: "4096" },
    threads: { type: "string", default: "2" },
  },
});
const model = positionals[0] ?? "models/needle-14m/needle-14m-Q8_0.gguf";
const root = fileURLToPath(new URL("../..", import.meta.url));
const CHUNK = 64;

/** A copy of dist/ whose kernels do not rotate; beside node_modules' packages, so that imports resolve. */
function unrotatedBuild() {
  const folder = mkdtempSync(join(root, "dist-unrotated-"));
  process.once("exit", () => rmSync(folder, { recursive: true }));
  cpSync(join(root, "dist"), join(folder, "dist"), { recursive: true });
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

/** @param {string} dist @param {string} path */
const from = (dist, path) => import(pathToFileURL(join(dist, path)).href);

/** A model over one format. @param {string} dist @param {string} kv */
async function open(dist, kv) {
  const { openCheckpoint } = await from(dist, "format/open.js");
  const { wasmDevice } = await from(dist, "device/wasm/wasm.js");
  const { prepare } = await from(dist, "engine/assemble.js");
  const checkpoint = await openCheckpoint(model);
  const device = () => wasmDevice({ threads: Number(options.threads) });
  const wanted = { kv, context: Number(options.positions), chunk: CHUNK, outputs: CHUNK };
  return prepare(checkpoint, device, wanted, () => checkpoint.tokenizer());
}

const dist = join(root, "dist");
const formats = [
  { name: "f16", open: await open(dist, "f16") },
  { name: "int4", open: await open(dist, "int4") },
  { name: "rq4", open: await open(dist, "rq4") },
  { name: "rq4 without rotation", open: await open(unrotatedBuild(), "rq4") },
];
/** @type {Record<string, { kl: number[], same: number }>} */
const found = Object.fromEntries(formats.map(({ name }) => [name, { kl: [], same: 0 }]));
const { extra: tokenizer } = formats[0].open;
const text = readFileSync(join(root, options.text), "utf8");
// Without its first token Gemma has no sink and predicts nonsense.
const first = tokenizer.addBos && tokenizer.bosId !== null ? [tokenizer.bosId] : [];
const ids = [...first, ...tokenizer.encode(text)].slice(0, Number(options.positions));

/** Log-probabilities in place, and the most likely. @param {Float32Array} logits */
function normalise(logits) {
  let top = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i] > logits[top]) top = i;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - logits[top]);
  const shift = logits[top] + Math.log(sum);
  for (let i = 0; i < logits.length; i++) logits[i] -= shift;
  return top;
}

for (let position = 0; position < ids.length; position += CHUNK) {
  const step = Uint32Array.from(ids.slice(position, position + CHUNK));
  /** @type {Float32Array[]} */
  const rows = [];
  /** @type {number[]} */
  const tops = [];
  for (const [i, { name, open: prepared }] of formats.entries()) {
    const { allocation, plan } = prepared;
    await allocation.run({ ids: step, position, outputs: step.length });
    for (let row = 0; row < step.length; row++) {
      const logits = await allocation.read(plan.graph.logits, row, 1);
      const top = normalise(logits);
      if (i === 0) {
        rows.push(logits);
        tops.push(top);
        continue;
      }
      let kl = 0;
      for (let id = 0; id < logits.length; id++) kl += Math.exp(rows[row][id]) * (rows[row][id] - logits[id]);
      found[name].kl.push(Math.max(0, kl));
      if (top === tops[row]) found[name].same++;
    }
  }
  process.stderr.write(`\r${position + step.length} of ${ids.length} positions`);
}

const machine = `${cpus()[0].model}, Node ${process.version}`;
process.stderr.write("\n\n| cache | mean KL | 99.9th percentile | same top token |\n|---|---|---|---|\n");
for (const { name } of formats.slice(1)) {
  const kl = found[name].kl.sort((a, b) => a - b);
  const row = {
    model: basename(model),
    kv: name,
    positions: kl.length,
    meanKl: kl.reduce((a, b) => a + b, 0) / kl.length,
    kl999: kl[Math.floor(0.999 * (kl.length - 1))],
    sameTop: found[name].same / kl.length,
    ...{ text: basename(options.text), machine, date: new Date().toISOString().slice(0, 10) },
  };
  console.log(JSON.stringify(row));
  process.stderr.write(
    `| ${name} | ${row.meanKl.toFixed(4)} | ${row.kl999.toFixed(3)} | ${(100 * row.sameTop).toFixed(1)} % |\n`,
  );
}
for (const { open: prepared } of formats) await prepared.allocation.close();
