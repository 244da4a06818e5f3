/**
 * The conformance suite on this machine's GPU, for machines without a test runner. Bundle it, then run it:
 *
 *     npx rolldown bench/conformance.ts --format esm --platform node --external webgpu -o dist/conformance.js
 *     node dist/conformance.js --expect FILE
 *     node dist/conformance.js [--expected FILE] [--json FILE] [--kernels FILE] [--filter PATTERN] [--variant NAME] [--part 1/2]
 *
 * The first run computes the reference device's results, which takes most of the time and needs no GPU; the second
 * compares with them, or computes them as it goes. Every case runs with every set of features that the adapter
 * supports, or with one variant; with all cases or one part of them. It prints a line for each failure and a count at
 * the end. Rows are appended to --json as they come; the hashes of the kernel texts that passed are appended to
 * --kernels (files of one variant each, one after another, make up a whole run). The file of a whole run replaces
 * bench/results/h200-kernels.jsonl (test/device/webgpu/evidence.ts).
 */
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { deserialize, serialize } from "node:v8";
import { dawnGpu } from "../src/device/webgpu/dawn.ts";
import { webgpuDevice } from "../src/device/webgpu/webgpu.ts";
import { caseError, expectedOf, gpuTolerance } from "../test/device/case-runs.ts";
import { type EvidenceRow, TextSets } from "../test/device/webgpu/evidence.ts";
import { GPU_CASES, gpuTexts, VARIANTS } from "../test/device/webgpu/kernel-texts.ts";
import { shareDevices } from "../test/device/webgpu/sharing.ts";

const { values } = parseArgs({
  options: {
    json: { type: "string" },
    kernels: { type: "string" },
    filter: { type: "string", default: "" },
    variant: { type: "string" },
    expect: { type: "string" },
    expected: { type: "string" },
    part: { type: "string", default: "1/1" },
  },
});
const pattern = new RegExp(values.filter);
const [part, parts] = values.part.split("/").map(Number);
const cases = GPU_CASES.filter(({ name }) => pattern.test(name)).filter((_, i) => i % parts === part - 1);
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
const { gpu } = shareDevices(await dawnGpu());
const date = new Date().toISOString().slice(0, 10);
const described = new Set<string>();
for (const [variant, traits] of Object.entries(VARIANTS)) {
  if (only !== undefined && variant !== only) continue;
  const { description, adapter, traits: given } = await webgpuDevice(gpu, { traits });
  // Features that an adapter does not have make two variants equal.
  if (described.has(JSON.stringify(given))) continue;
  described.add(JSON.stringify(given));
  const about = `${description}, ${variant}`;
  let failed = 0;
  let worst = 0;
  const [right, wrong] = [new TextSets(), new TextSets()];
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
    (error <= allowed ? right : wrong).add(await gpuTexts(testCase, given));
    if (!(error <= allowed)) {
      failed++;
      console.log(`FAILED ${variant}: ${testCase.name}: ${message ?? `${error} > ${allowed}`}`);
    }
    const found = { variant, case: testCase.name, error, allowed, message };
    const row = { op: "conformance", adapter: adapter.name, date, ...found };
    if (values.json) appendFileSync(values.json, `${JSON.stringify(row)}\n`);
  }
  const evidence: EvidenceRow = {
    ...{ op: "kernels", adapter: adapter.name, date, variant, traits: given },
    ...{ passed: right.listed, failed: wrong.listed },
  };
  if (values.kernels) appendFileSync(values.kernels, `${JSON.stringify(evidence)}\n`);
  console.log(
    `${about}: ${cases.length - failed} of ${cases.length} cases pass, worst ${(100 * worst).toFixed(0)} % of its tolerance`,
  );
}
process.exit(0);
