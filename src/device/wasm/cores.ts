/**
 * How many threads to use unless told: the physical cores that this process may run on. Two threads of one core share
 * its SIMD units, so more threads than cores cost time in these kernels.
 */
import { readFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";

export function physicalCores(): number {
  const logical = availableParallelism();
  // Cores of the machine over its logical processors, applied to those that we may use (containers, taskset).
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
      // Not told: count every logical processor.
    }
    return 1;
  }
  // Apple silicon has no shared cores; elsewhere two threads a core are the rule on x86.
  return process.arch === "x64" && process.platform === "win32" && cpus().length % 2 === 0 ? 2 : 1;
}
