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
  ...["device/webgpu/conformance", "browser/page", "device/webgpu/attend", "device/webgpu/matmul"],
  ...["browser/browser", "device/webgpu/families", "device/webgpu/conformance-plain", "study/plan-table"],
  ...["model/golden", "device/conformance", "lab/store", "lab/store-postgres", "app/run", "device/attend"],
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const at = LONG.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return at < 0 ? LONG.length : at;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    include: ["test/**/*.test.ts"],
    pool: "forks",
    // Several suites start worker threads of their own: two files at a time keep a 2-core machine honest.
    maxWorkers: 2,
    testTimeout: 60_000,
  },
});
