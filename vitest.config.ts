import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Several suites start worker threads of their own: two files at a time keep a 2-core machine honest.
    maxWorkers: 2,
    testTimeout: 60_000,
  },
});
