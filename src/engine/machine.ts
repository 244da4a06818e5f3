/**
 * What this machine is (Node only): processor, memory, and how much of it a GPU may hold where the system says. Owns
 * reading these and the rule for Macs. Refuses to know models and WebGPU.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, cpus, freemem, release, totalmem } from "node:os";
import { physicalCores } from "../device/wasm/cores.ts";

export interface Machine {
  /** "linux", "darwin", "win32". */
  readonly platform: string;
  /** "x64", "arm64". */
  readonly arch: string;
  /** Of the system's kernel. */
  readonly release: string;
  /** "v20.20.0". */
  readonly node: string;
  readonly processor: string;
  /** Cores that this process may use, and threads that these run at once. */
  readonly cores: number;
  readonly threads: number;
  /** What this process may use: a container's limit where there is one. */
  readonly memoryBytes: number;
  readonly freeBytes: number;
  /** What the GPU may hold of it; null: the system does not say. */
  readonly gpuMemory: { readonly bytes: number; readonly source: string } | null;
}

export function thisMachine(): Machine {
  const memoryBytes = usableMemory(totalmem(), process.constrainedMemory?.() ?? 0);
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
    gpuMemory: gpuMemory(memoryBytes),
  };
}

/** constrained: 0 or more than there is where no container limits it. */
export function usableMemory(total: number, constrained: number): number {
  return constrained > 0 ? Math.min(total, constrained) : total;
}

/**
 * What a Mac lets its GPU hold. setMiB: `sysctl iogpu.wired_limit_mb`, 0 unless someone has set it. Apple documents no
 * default; logs of Metal's recommendedMaxWorkingSetSize show two thirds up to 32 GiB of memory and three quarters from
 * 36 GiB on (21.3 of 32, 27 of 36, 48 of 64); macOS 26 allows some more (107.5 of 128), which is not counted on.
 */
export function wiredLimit(totalBytes: number, setMiB: number): number {
  if (setMiB > 0) return Math.min(totalBytes, setMiB * 2 ** 20);
  return Math.floor(totalBytes >= 36 * 2 ** 30 ? totalBytes * 0.75 : (totalBytes * 2) / 3);
}

function gpuMemory(memoryBytes: number): Machine["gpuMemory"] {
  if (process.platform === "darwin") {
    const set = Number(command("sysctl", ["-n", "iogpu.wired_limit_mb"]) ?? 0) || 0;
    return {
      bytes: wiredLimit(memoryBytes, set),
      source: set > 0 ? "iogpu.wired_limit_mb" : "macOS's default",
    };
  }
  return process.platform === "linux" ? (amdMemory() ?? nvidiaMemory()) : null;
}

/** amdgpu tells it in a file for each card; the largest is taken. */
function amdMemory(): Machine["gpuMemory"] {
  let bytes = 0;
  try {
    for (const card of readdirSync("/sys/class/drm").filter((name) => /^card\d+$/.test(name))) {
      try {
        const text = readFileSync(`/sys/class/drm/${card}/device/mem_info_vram_total`, "utf8");
        bytes = Math.max(bytes, Number(text) || 0);
      } catch {
        // Another driver's card.
      }
    }
  } catch {
    // No such folder: no graphics driver.
  }
  return bytes > 0 ? { bytes, source: "amdgpu" } : null;
}

function nvidiaMemory(): Machine["gpuMemory"] {
  const text = command("nvidia-smi", ["--query-gpu=memory.total", "--format=csv,noheader,nounits"]);
  const mib = Math.max(0, ...(text ?? "").split("\n").map((line) => Number(line) || 0));
  return mib > 0 ? { bytes: mib * 2 ** 20, source: "nvidia-smi" } : null;
}

function command(name: string, args: readonly string[]): string | null {
  try {
    return execFileSync(name, args, { encoding: "utf8", timeout: 5000, stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return null;
  }
}
