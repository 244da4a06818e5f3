/**
 * The default number of threads: the physical cores that this process may use. Two threads of one core share its SIMD
 * units, so more threads than cores cost time in these kernels.
 */
import { readFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";

export function physicalCores(): number {
  const logical = availableParallelism();
  // The machine's ratio of cores to logical processors, applied to those that we may use (containers, taskset).
  const perCore = threadsPerCore();
  return Math.max(1, Math.round(logical / perCore));
}

function threadsPerCore(): number {
  if (process.platform === "linux") {
    try {
      const text = readFileSync("/proc/cpuinfo", "utf8");
      const siblings = Number(/^siblings\s*:\s*(\d+)/m.exec(text)?.[1]);
      const cores = Number(/^cpu cores\s*:\s*(\d+)/m.exec(text)?.[1]);
      if (siblings > 0 && cores > 0) return Math.max(1, siblings / cores);
    } catch {
      // Not reported: count every logical processor.
    }
    return 1;
  }
  // Apple silicon has one thread per core; elsewhere two threads per core are usual on x86.
  return process.arch === "x64" && process.platform === "win32" && cpus().length % 2 === 0 ? 2 : 1;
}
