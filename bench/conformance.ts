/**
 * The conformance suite on this machine's GPU, for machines that have one but no test runner. Bundle it, then run it:
 *
 *     npx rolldown bench/conformance.ts --format esm --platform node --external webgpu -o dist/conformance.js
 *     node dist/conformance.js [--json FILE] [--filter PATTERN] [--variant NAME]
 *
 * Every case runs with every set of features that the adapter allows, or with one: the expected values take most of the
 * time, so processes beside each other, one for each variant, are done sooner. A line for each failure, a count at the end.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { dawnGpu } from "../src/device/webgpu/dawn.ts";
import type { TraitOptions } from "../src/device/webgpu/gpu.ts";
import { webgpuDevice } from "../src/device/webgpu/webgpu.ts";
import { caseError, deviceCases, gpuTolerance } from "../test/device/device-cases.ts";

const { values } = parseArgs({
  options: {
    json: { type: "string" },
    filter: { type: "string", default: "" },
    variant: { type: "string" },
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

const { variant: only } = values;
if (only !== undefined && !Object.hasOwn(VARIANTS, only))
  throw new Error(`--variant is ${only}; known: ${Object.keys(VARIANTS).join("; ")}`);
const gpu = await dawnGpu();
const date = new Date().toISOString().slice(0, 10);
const rows: object[] = [];
const described = new Set<string>();
for (const [variant, traits] of Object.entries(VARIANTS)) {
  if (only !== undefined && variant !== only) continue;
  const { description, adapter } = await webgpuDevice(gpu, { traits });
  const about = `${description}${traits.few === undefined ? "" : `, ${variant}`}`;
  if (described.has(about)) continue;
  described.add(about);
  let failed = 0;
  let worst = 0;
  const wanted = new RegExp(values.filter);
  const cases = deviceCases.filter(({ name }) => wanted.test(name));
  for (const testCase of cases) {
    let error = Number.NaN;
    let message: string | null = null;
    try {
      const device = await webgpuDevice(gpu, { traits });
      error = await caseError(testCase, device);
    } catch (caught) {
      message = (caught as Error).message;
    }
    const allowed = gpuTolerance(testCase, traits.matrices !== false && traits.f16 !== false);
    worst = Math.max(worst, error / allowed || 0);
    if (!(error <= allowed)) {
      failed++;
      console.log(`FAILED ${variant}: ${testCase.name}: ${message ?? `${error} > ${allowed}`}`);
    }
    rows.push({
      op: "conformance",
      adapter: adapter.name,
      date,
      variant,
      case: testCase.name,
      error,
      allowed,
      message,
    });
  }
  console.log(
    `${about}: ${cases.length - failed} of ${cases.length} cases pass, worst ${(100 * worst).toFixed(0)} % of its tolerance`,
  );
}
if (values.json) writeFileSync(values.json, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
process.exit(0);
