import { delimiter } from "node:path";
import { defineConfig } from "vitest/config";
import { swiftShaderFolder, UNSUPPORTED } from "./scripts/chromium-parts.js";

// A GPU in software for every test process: the dynamic loader reads LD_LIBRARY_PATH when a process starts, so it is
// set here and inherited by vitest's forks. Who has set a Vulkan driver keeps it.
if (UNSUPPORTED === null && process.env.VK_ICD_FILENAMES === undefined) {
  const folder = await swiftShaderFolder();
  process.env.VK_ICD_FILENAMES = `${folder}/vk_swiftshader_icd.json`;
  const before = process.env.LD_LIBRARY_PATH;
  process.env.LD_LIBRARY_PATH = before ? `${folder}${delimiter}${before}` : folder;
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    // Several suites start worker threads of their own: two files at a time keep a 2-core machine honest.
    maxWorkers: 2,
    testTimeout: 60_000,
  },
});
