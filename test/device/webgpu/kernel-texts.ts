/**
 * Which kernel texts the conformance suite runs on a GPU with given traits, found without a GPU: the cases' graphs are compiled,
 * and each step's dispatches are asked whether it needs them. A text is named by the hash of what the compiler sees of it:
 * comments, gaps and the order of declarations do not count, so that a function may move to a library.
 */
import { createHash } from "node:crypto";
import { batchOf } from "../../../src/device/webgpu/batch.ts";
import type { TraitOptions, Traits } from "../../../src/device/webgpu/gpu.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { type KernelSpec, shaderText } from "../../../src/device/webgpu/wgsl.ts";
import { caseSteps } from "../case-runs.ts";
import { type DeviceCase, deviceCases, TOLERANCES } from "../device-cases.ts";
import { packedCases } from "../packed-cases.ts";
import { turnedCases } from "../turned-cases.ts";

/** The sets of features with which bench/conformance.ts runs each case. */
export const VARIANTS: Readonly<Record<string, TraitOptions>> = {
  all: {},
  // Kernels for a batch, and for many rows, serve small steps, too.
  "all, batches": { few: 1, batch: 64 },
  "all, many rows": { few: 1 },
  "no matrices": { matrices: false },
  "no f16": { f16: false },
  "no f16, no subgroups": { f16: false, subgroups: false },
  "no matrices, many rows": { matrices: false, few: 1 },
  floats: { matrices: false, matrices8: false, floats: true },
  // Of Metal; on other GPUs it is `floats`.
  "matrices of 8": { matrices: false, floats: true },
};

/** All cases that a GPU can be asked for, with packed caches of the parts that it has kernels for. */
export const GPU_CASES: readonly DeviceCase[] = [
  ...deviceCases,
  ...["k4c-v4r-n32-f32", "k4c-v3r-n32-f32", "k3c-v3r-n32"].flatMap((kv) =>
    packedCases(kv, TOLERANCES.attendInt4),
  ),
  ...turnedCases("f16", TOLERANCES.attendF16),
  ...["int4", "rq4", "k4c-v4r-n32"].flatMap((kv) => turnedCases(kv, TOLERANCES.attendInt4)),
];

/** By kernel: hashes of texts. */
export type Texts = ReadonlyMap<string, ReadonlySet<string>>;

/** Limits that cut nothing in two. */
const LIMITS = { maxStorageBufferBindingSize: 2 ** 31, maxBufferSize: 2 ** 31 };

/** They are the same for all traits. */
const stepsOf = new WeakMap<DeviceCase, ReturnType<typeof caseSteps>>();

/** The texts that a case's steps run and no GPU in software can: they use float16, subgroups or subgroup matrices. */
export async function gpuTexts(testCase: DeviceCase, traits: Traits): Promise<Texts> {
  const known = stepsOf.get(testCase) ?? caseSteps(testCase);
  stepsOf.set(testCase, known);
  const { graph, steps } = await known;
  const program = compileGraph(graph, traits, LIMITS);
  const texts = new Map<string, Set<string>>();
  const batches = steps.map((step) => batchOf(graph, step, traits));
  for (const { mode, shape } of batches)
    for (const dispatch of program.modes[mode]) {
      if (dispatch.workgroups(shape) === null) continue;
      const { kernel } = dispatch.kernel;
      const hash = hashOf(dispatch.kernel);
      if (hash !== null) texts.set(kernel, (texts.get(kernel) ?? new Set()).add(hash));
    }
  return texts;
}

const hashes = new Map<string, string | null>();

/** null: software runs it, too. */
function hashOf(spec: KernelSpec): string | null {
  const key = JSON.stringify([spec.kernel, spec.values, spec.libs]);
  let hash = hashes.get(key);
  if (hash === undefined) {
    // What is enabled and not used makes no other text.
    const text = declarations(shaderText(spec, [])).sort().join("\n");
    const needsGpu = /\bf16\b|\bsubgroup(_|[A-Z])/.test(text);
    hash = needsGpu ? createHash("sha256").update(text).digest("hex").slice(0, 12) : null;
    hashes.set(key, hash);
  }
  return hash;
}

/** Directives and declarations of a shader, each in one line without comments. */
export function declarations(text: string): string[] {
  const found: string[] = [];
  let depth = 0;
  let begin = 0;
  const bare = text.replace(/\/\/.*$/gm, "").replace(/\s+/g, " ");
  for (let i = 0; i < bare.length; i++) {
    if (bare[i] === "{") depth++;
    if (bare[i] === "}") depth--;
    if (depth > 0 || (bare[i] !== "}" && bare[i] !== ";")) continue;
    found.push(bare.slice(begin, i + 1).trim());
    begin = i + 1;
  }
  return found;
}
