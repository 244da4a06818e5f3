/**
 * The conformance suite on this machine's GPU, for machines that have one but no test runner. Bundle it, then run it:
 *
 *     npx rolldown bench/conformance.ts --format esm --platform node --external webgpu -o dist/conformance.js
 *     node dist/conformance.js --expect FILE
 *     node dist/conformance.js [--expected FILE] [--json FILE] [--filter PATTERN] [--variant NAME] [--part 1/2]
 *
 * The first computes what the reference device expects, which takes most of the time and needs no GPU; the second compares
 * with that, or computes it as it goes. Every case runs with every set of features that the adapter allows, or with one; one
 * part of the cases, or all. A line for each failure, a count at the end; rows are appended to --json as they come.
 */
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { deserialize, serialize } from "node:v8";
import { dawnGpu } from "../src/device/webgpu/dawn.ts";
import type { TraitOptions } from "../src/device/webgpu/gpu.ts";
import { webgpuDevice } from "../src/device/webgpu/webgpu.ts";
import { caseError, deviceCases, expectedOf, gpuTolerance, TOLERANCES } from "../test/device/device-cases.ts";
import { packedCases } from "../test/device/packed-cases.ts";

const { values } = parseArgs({
  options: {
    json: { type: "string" },
    filter: { type: "string", default: "" },
    variant: { type: "string" },
    expect: { type: "string" },
    expected: { type: "string" },
    part: { type: "string", default: "1/1" },
  },
});
const VARIANTS: Record<string, TraitOptions> = {
  all: {},
  // Kernels for a batch, and for many rows, serve small steps, too.
  "all, batches": { few: 1, batch: 64 },
  "all, many rows": { few: 1 },
  "no matrices": { matrices: false },
  "no f16": { f16: false },
  "no f16, no subgroups": { f16: false, subgroups: false },
  "no matrices, many rows": { matrices: false, few: 1 },
};

const pattern = new RegExp(values.filter);
const [part, parts] = values.part.split("/").map(Number);
/** Packed caches, of parts that the GPU has kernels for. */
const packed = ["k4c-v4r-n32-f32", "k4c-v3r-n32-f32", "k3c-v3r-n32"].flatMap((kv) =>
  packedCases(kv, TOLERANCES.attendInt4),
);
const cases = [...deviceCases, ...packed]
  .filter(({ name }) => pattern.test(name))
  .filter((_, i) => i % parts === part - 1);
if (values.expect) {
  const wanted = new Map<string, Float32Array>();
  for (const testCase of cases) wanted.set(testCase.name, await expectedOf(testCase));
  writeFileSync(values.expect, serialize(wanted));
  process.exit(0);
}
const expected: Map<string, Float32Array> = values.expected
  ? deserialize(readFileSync(values.expected))
  : new Map();
const { variant: only } = values;
if (only !== undefined && !Object.hasOwn(VARIANTS, only))
  throw new Error(`--variant is ${only}; known: ${Object.keys(VARIANTS).join("; ")}`);
const gpu = await dawnGpu();
const date = new Date().toISOString().slice(0, 10);
const described = new Set<string>();
for (const [variant, traits] of Object.entries(VARIANTS)) {
  if (only !== undefined && variant !== only) continue;
  const { description, adapter } = await webgpuDevice(gpu, { traits });
  const about = `${description}${traits.few === undefined ? "" : `, ${variant}`}`;
  if (described.has(about)) continue;
  described.add(about);
  let failed = 0;
  let worst = 0;
  for (const testCase of cases) {
    let error = Number.NaN;
    let message: string | null = null;
    try {
      const device = await webgpuDevice(gpu, { traits });
      error = await caseError(testCase, device, expected.get(testCase.name));
    } catch (caught) {
      message = (caught as Error).message;
    }
    const allowed = gpuTolerance(testCase, traits.matrices !== false && traits.f16 !== false);
    worst = Math.max(worst, error / allowed || 0);
    if (!(error <= allowed)) {
      failed++;
      console.log(`FAILED ${variant}: ${testCase.name}: ${message ?? `${error} > ${allowed}`}`);
    }
    const found = { variant, case: testCase.name, error, allowed, message };
    const row = { op: "conformance", adapter: adapter.name, date, ...found };
    if (values.json) appendFileSync(values.json, `${JSON.stringify(row)}\n`);
  }
  console.log(
    `${about}: ${cases.length - failed} of ${cases.length} cases pass, worst ${(100 * worst).toFixed(0)} % of its tolerance`,
  );
}
process.exit(0);
