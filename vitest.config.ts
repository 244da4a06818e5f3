import { delimiter } from "node:path";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { swiftShaderFolder, UNSUPPORTED } from "./scripts/chromium-parts.js";

// A GPU in software for every test process: the dynamic loader reads LD_LIBRARY_PATH when a process starts, so it is
// set here and inherited by vitest's forks. Who has set a Vulkan driver keeps it.
if (UNSUPPORTED === null && process.env.VK_ICD_FILENAMES === undefined) {
  const folder = await swiftShaderFolder();
  process.env.VK_ICD_FILENAMES = `${folder}/vk_swiftshader_icd.json`;
  const before = process.env.LD_LIBRARY_PATH;
  process.env.LD_LIBRARY_PATH = before ? `${folder}${delimiter}${before}` : folder;
}

/** Files that take long, longest first: started last, one of them would leave a core without work. */
const LONG = [
  ...[
    "device/webgpu/conformance",
    "device/webgpu/conformance-plain",
    "device/webgpu/turned",
    "device/webgpu/attend",
  ],
  ...[
    "browser/page",
    "device/webgpu/families",
    "browser/browser",
    "device/webgpu/matmul",
    "device/webgpu/pages",
  ],
  ...["app/lab-gpu", "device/webgpu/matmul-stream", "study/attend-layers", "device/webgpu/attend-compile"],
  ...["app/bench-attend", "device/webgpu/attend-matrix8", "device/webgpu/profile"],
  ...[
    "app/examples",
    "device/conformance",
    "app/lab",
    "app/bench",
    "format/hub/hostile",
    "model/golden",
    "study/plan-table",
  ],
  ...[
    "device/random-graph",
    "device/pages",
    "device/attend",
    "device/attend-packed",
    "engine/hostile-values",
  ],
  ...[
    "format/hostile",
    "lab/store",
    "app/plan",
    "lab/store-postgres",
    "app/lab-mend",
    "app/chat",
    "device/workers",
  ],
  ...["app/run", "app/pull", "cache/saved-cache", "study/doctor", "app/verify", "engine/text", "model/gguf"],
];

/**
 * Files that take a process of their own: those that share a GPU, or grammars, which a module opens and the end of a file
 * closes, and browsers. Each worker runs the others in one process, which saves a third of a second a file (60 small ones
 * took 12.9 s of processor time instead of 33.1, 2026-11-29).
 */
const APART = [
  ...["test/device/webgpu/**", "test/browser/**", "test/device/contract.test.ts"],
  ...["test/app/{bench-attend,gpu,lab-gpu}.test.ts", "test/lab/gpu.test.ts"],
  ...["test/engine/{kernel-choice,load-gpu,parallel-gpu}.test.ts"],
  "test/study/{attend-layers,plan-exact}.test.ts",
  "test/answer/{control-calls,grammar,schema,schema-fuzz,schema-libraries}.test.ts",
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId, project }: TestSpecification) => {
      const at = LONG.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return (project.config.isolate ? 0 : LONG.length + 1) + (at < 0 ? LONG.length : at);
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

const TESTS = ["test/**/*.test.ts"];

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    pool: "forks",
    // Several suites start worker threads of their own: two files at a time keep a 2-core machine honest.
    maxWorkers: 2,
    // Fewer and shorter collections: plan-table.test.ts takes 9 % less processor time (2026-11-29).
    execArgv: ["--max-semi-space-size=64"],
    // Other work on the machine makes nothing fail.
    expect: { poll: { timeout: 20_000 } },
    // Where workgroup memory is zeroed (poison.ts), kernels take minutes to compile.
    testTimeout: process.env.NIBBLE_POISON === undefined ? 60_000 : 900_000,
    projects: [
      { extends: true, test: { name: "apart", include: APART.map(testsOf) } },
      { extends: true, test: { name: "together", include: TESTS, exclude: APART, isolate: false } },
    ],
  },
});

function testsOf(files: string): string {
  return files.replace(/\*\*$/, "**/*.test.ts");
}
