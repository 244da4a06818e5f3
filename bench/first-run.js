/**
 * The first run on a GPU that the authors do not have, above all a Mac's. After `npm install` and `npm run build`, this
 * takes a few minutes:
 *
 *     node bench/first-run.js
 *
 * It writes first-run.json, which should be sent back, and prints which predictions of bench/apple.js are confirmed or
 * refuted. It sends nothing itself. Parts that fail are recorded with their error, and the others continue. --small: a
 * short version for a GPU in software.
 */
import { execFile } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { attendPromptTime, attendTime, chipOf, productTime, promptProductTime, verdict } from "./apple.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const MOST_BYTES = 64 * 2 ** 20;
const MOST_MS = 20 * 60_000;

/** Cases of the conformance suite that cover each kernel in some shape. */
const CASES =
  "^(rmsNorm$|(matmul|expertMatmul) (q4_0|q4_k|q6_k|q8_0) |appendKv, attend (int4|rq4|f16), (8/2|4/2|6/2) )|packed";

/** The parts: names, and arguments of node. */
export function partsOf({ small }) {
  const cli = (...args) => ["dist/cli/nibble.js", ...args];
  const gpu = ["--device", "gpu", "--json", ...(small ? ["--adapter", "swift"] : [])];
  const sets = small ? ["floats"] : ["floats", "matrices8", "dots"];
  const attend = small
    ? ["--shape", "8/1x64", "--tokens", "64", "--prompt", "0", "--kv", "int4", "--no-dequantized"]
    : ["--shape", "64/8x128,32/8x128", "--kv", "int4,rq4,f16"];
  const model = small
    ? ["needle", "-p", "4", "-n", "2", "-r", "1"]
    : ["--shape", "llama-3.1-8b", "--layers", "8", "-p", "512", "-n", "64", "-d", "0,8192,32768"];
  const conformance = ["dist/conformance.js", "--filter", small ? "^rmsNorm$" : CASES];
  return [
    { name: "doctor", args: cli("doctor", "--json") },
    { name: "bundle", args: ["node_modules/rolldown/bin/cli.mjs", ...BUNDLE] },
    {
      name: "conformance",
      args: [...conformance, "--json", ROWS, ...(small ? ["--variant", "floats"] : [])],
    },
    ...sets.map((set) => ({
      name: `attend ${set}`,
      args: cli("bench", "attend", ...gpu, "--kernels", set, ...attend),
    })),
    ...sets.map((set) => ({
      name: `model ${set}`,
      args: cli("bench", ...model, ...gpu, "--kernels", set, "--kv", "int4", "--profile"),
    })),
  ];
}

const BUNDLE = [
  ...["bench/conformance.ts", "--format", "esm", "--platform", "node", "--external", "webgpu"],
  ...["-o", "dist/conformance.js"],
];
const ROWS = "dist/first-run-conformance.jsonl";

/** Runs all parts with `run`, which returns a command's output; `tell` reports each. */
export async function firstRun({ small = false, run = runNode, tell = console.error }) {
  /** @type {Record<string, { ms: number, rows: any[], error: string | null }>} */
  const parts = {};
  for (const { name, args } of partsOf({ small })) {
    tell(`${name} ...`);
    const begun = Date.now();
    try {
      parts[name] = { ms: 0, rows: rowsOf(await run(args)), error: null };
    } catch (error) {
      parts[name] = { ms: 0, rows: [], error: `${error.message}`.slice(0, 2000) };
      tell(`${name} failed: ${parts[name].error.split("\n")[0]}`);
    }
    parts[name].ms = Date.now() - begun;
  }
  return { version: 1, date: new Date().toISOString(), small, parts, findings: findings(parts) };
}

/** The JSON of each line; other lines as text. */
function rowsOf(printed) {
  return printed
    .split("\n")
    .filter((line) => line.trim())
    .map((line) => {
      try {
        return JSON.parse(line);
      } catch {
        return { text: line };
      }
    });
}

/** By set: the kernels for attention of one token, and of prompts. */
const KERNELS = {
  floats: { attendDecode: "attendDecodeFloat", attendPrompt: "attendPrompt" },
  matrices8: { attendDecode: "attendDecodeMatrix8", attendPrompt: "attendPromptMatrix8" },
  dots: { attendDecode: "attendDecode" },
};
/** The shape of `attend` that has predictions, and the fewest tokens whose time is more than a launch. */
const SHAPE = { name: "64/8x128", heads: 64, kvHeads: 8 };
const LEAST_TOKENS = 32_768;
/** Bytes of one weight. */
const Q4_0_BYTES = 0.5625;

/** Compares the measurements with the predictions, one line each. */
export function findings(parts) {
  const lines = [];
  const doctor = parts.doctor?.rows[0];
  const name = doctor?.adapters?.map((adapter) => adapter.name).join(", ") ?? "";
  const chip = chipOf(name);
  const failed = (parts.conformance?.rows ?? []).filter(({ text }) => text?.startsWith("FAILED"));
  lines.push(
    parts.conformance?.error
      ? `conformance did not run: ${parts.conformance.error.split("\n")[0]}`
      : failed.length > 0
        ? `conformance: ${failed.length} cases are WRONG on ${name}; the first: ${failed[0].text}`
        : `conformance: all cases that ran are right on ${name || "this GPU"}`,
  );
  const read = doctor?.gpuReadBytesPerSecond;
  if (read) lines.push(`memory is read at ${(read / 1e9).toFixed(0)} GB/s`);
  for (const [set, kernels] of Object.entries(KERNELS))
    for (const row of parts[`attend ${set}`]?.rows ?? []) {
      const kernel = kernels[row.op];
      if (!chip || !kernel || row.kv !== "int4" || row.shape !== SHAPE.name) continue;
      if (row.tokens < LEAST_TOKENS || row.us === undefined) continue;
      const time = row.op === "attendDecode" ? attendTime : attendPromptTime;
      const found = verdict(row.us, time(chip, kernel, { ...SHAPE, ...row }));
      const queries = row.queries > 1 ? `${row.queries} queries, ` : "";
      lines.push(`${kernel}, ${queries}${row.tokens} tokens: ${sentence(found)}`);
    }
  for (const set of ["floats", "matrices8"])
    for (const row of parts[`model ${set}`]?.rows ?? []) {
      if (!chip || row.kind !== "profile" || row.depth !== 0) continue;
      const products = row.dispatches.filter(({ label }) => label === "matmul");
      const sum = (field) => products.reduce((all, each) => all + each[field], 0);
      const weights = sum("bytes") / Q4_0_BYTES;
      const isDecode = row.step === "decode";
      // For prompts only matrices have a prediction; for one token both sets use the same kernel.
      if (isDecode !== (set === "floats")) continue;
      const [kernel, time] = isDecode
        ? ["matmulUnpacked", productTime(chip, "matmulUnpacked", weights)]
        : ["matmulTile8", promptProductTime(chip, weights, row.tokens)];
      const of = isDecode ? "a token" : `${row.tokens} tokens`;
      lines.push(`${kernel}, all products of ${of}: ${sentence(verdict(sum("us"), time))}`);
    }
  if (!chip)
    lines.push(`no prediction for ${name || "this GPU"}: bench/apple.js has M1 Max, M2 Ultra, M4 Max`);
  return lines;
}

function sentence({ us, predictedUs, floorUs, ratio, verdict: word }) {
  const rounded = (time) => time.toFixed(0);
  return `${rounded(us)} us, predicted ${rounded(predictedUs)}, memory alone ${rounded(floorUs)}: ${ratio.toFixed(2)} times, ${word}`;
}

async function runNode(args) {
  const options = { cwd: root, maxBuffer: MOST_BYTES, timeout: MOST_MS };
  const { stdout } = await promisify(execFile)(process.execPath, args, options);
  return stdout;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      small: { type: "boolean", default: false },
      out: { type: "string", default: "first-run.json" },
    },
  });
  rmSync(`${root}/${ROWS}`, { force: true });
  const found = await firstRun({ small: values.small });
  if (existsSync(`${root}/${ROWS}`)) found.conformance = rowsOf(readFileSync(`${root}/${ROWS}`, "utf8"));
  writeFileSync(values.out, `${JSON.stringify(found)}\n`);
  console.log(`${found.findings.join("\n")}\nPlease send back ${values.out}.`);
}
