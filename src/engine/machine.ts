/**
 * Facts about this machine (Node only): processor, memory, and how much of it a device may use. GPU memory is in
 * gpu-memory.ts.
 */
import { availableParallelism, cpus, freemem, release, totalmem } from "node:os";
import type { DeviceMemory } from "../device/contract.ts";
import { physicalCores } from "../device/wasm/cores.ts";
import { type GpuMemory, gpuMemories, memoryOfAdapter } from "./gpu-memory.ts";

/** The machine as planning sees it. */
export interface Machine {
  /** "linux", "darwin", "win32". */
  readonly platform: string;
  /** "x64", "arm64". */
  readonly arch: string;
  /** The version of the system's kernel. */
  readonly release: string;
  /** "v20.20.0". */
  readonly node: string;
  readonly processor: string;
  /** Cores that this process may use, and threads that they run at once. */
  readonly cores: number;
  readonly threads: number;
  /** Memory that this process may use: a container's limit if there is one. */
  readonly memoryBytes: number;
  readonly freeBytes: number;
  /** Memory that the GPU may use, the largest if there are several; null: not reported by the system. */
  readonly gpuMemory: DeviceMemory | null;
}

/** This machine: its processor, cores and memory. */
export function thisMachine(): Machine {
  const { bytes: memoryBytes } = ownMemory();
  const largest = [...reportedOnce()].sort((a, b) => b.bytes - a.bytes)[0];
  return {
    platform: process.platform,
    arch: process.arch,
    release: release(),
    node: process.version,
    processor: cpus()[0]?.model.trim() || "an unnamed processor",
    cores: physicalCores(),
    threads: availableParallelism(),
    memoryBytes,
    freeBytes: Math.min(freemem(), memoryBytes),
    gpuMemory: largest ? { bytes: largest.bytes, source: largest.source } : null,
  };
}

/** Memory that this process may use. */
export function ownMemory(): DeviceMemory {
  const total = totalmem();
  const bytes = usableMemory(total, process.constrainedMemory?.() ?? 0);
  return { bytes, source: bytes < total ? "the container's limit" : "this machine's memory" };
}

/** constrained: 0, or more than the machine has, if no container limits it. */
export function usableMemory(total: number, constrained: number): number {
  return constrained > 0 ? Math.min(total, constrained) : total;
}

/** null: not reported by the system. A GPU in software has the machine's. */
export function adapterMemory(
  adapter: { readonly vendor: string; readonly name: string; readonly isSoftware: boolean },
  reported: () => readonly GpuMemory[] = reportedOnce,
): DeviceMemory | null {
  if (adapter.isSoftware) return ownMemory();
  const found = memoryOfAdapter(reported(), adapter);
  return found && { bytes: found.bytes, source: found.source };
}

let reported: readonly GpuMemory[] | null = null;

/** Asking a driver takes up to a second; cards do not come and go. */
function reportedOnce(): readonly GpuMemory[] {
  reported ??= gpuMemories(ownMemory().bytes);
  return reported;
}
