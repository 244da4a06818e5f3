/**
 * How much memory GPUs may use, as far as the system reports it (Node only): macOS by its limit for wired memory,
 * NVIDIA's by nvidia-smi, AMD's by the driver's files, Windows by its registry. Also finds the one that belongs to an
 * adapter. WebGPU itself never reports memory.
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

/** What is read from the system; tests provide their own. */
export interface SystemReader {
  /** "linux", "darwin", "win32". */
  readonly platform: string;
  /** The command's output; "": none, or there is no such command. */
  run(command: string, args: readonly string[]): string;
  /** "": no such file. */
  read(path: string): string;
  /** []: no such folder. */
  list(path: string): readonly string[];
}

const SYSTEM: SystemReader = {
  platform: process.platform,
  run(command, args) {
    const stdio = ["ignore", "pipe", "ignore"] as const;
    return (
      spawnSync(command, args, { encoding: "utf8", timeout: 5000, stdio: [...stdio], windowsHide: true })
        .stdout ?? ""
    );
  },
  read(path) {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return "";
    }
  },
  list(path) {
    try {
      return readdirSync(path);
    } catch {
      return [];
    }
  },
};

export interface GpuMemory {
  readonly bytes: number;
  /** The source: "nvidia-smi". */
  readonly source: string;
  /** WebGPU's name of the vendor. */
  readonly vendor: string;
  /** "": not reported. */
  readonly name: string;
  /** Part of the machine's memory, not the GPU's own. */
  readonly isShared: boolean;
}

/** All GPUs that the system reports; ramBytes: the machine's memory. */
export function gpuMemories(ramBytes: number, system: SystemReader = SYSTEM): GpuMemory[] {
  switch (system.platform) {
    case "darwin":
      return [mac(ramBytes, system)];
    case "linux":
      return [...nvidia(system), ...amd(system)];
    case "win32":
      return windows(ramBytes, system);
    default:
      return [];
  }
}

/**
 * The GPU that belongs to an adapter: by vendor, and by name if both have one. Of several, one with its own memory
 * comes first, as in WebGPU's order, and then the smallest, so that a plan fits any of them. null: not known.
 */
export function memoryOfAdapter(
  found: readonly GpuMemory[],
  adapter: { readonly vendor: string; readonly name: string },
): GpuMemory | null {
  const sameVendor = found.filter(({ vendor }) => vendor === adapter.vendor.toLowerCase());
  const sameName = sameVendor.filter(({ name }) => name !== "" && isPart(name, adapter.name));
  const fits = sameName.length > 0 ? sameName : sameVendor;
  const own = fits.filter(({ isShared }) => !isShared);
  return (own.length > 0 ? own : fits).reduce<GpuMemory | null>(
    (a, b) => (a && a.bytes <= b.bytes ? a : b),
    null,
  );
}

function isPart(a: string, b: string): boolean {
  const [first, second] = [a.toLowerCase(), b.toLowerCase()];
  return first.includes(second) || second.includes(first);
}

/**
 * The memory that a Mac lets its GPU use. setMiB: `sysctl iogpu.wired_limit_mb`, 0 unless it was set. Apple documents
 * no default; logs of Metal's recommendedMaxWorkingSetSize show two thirds up to 32 GiB of memory and three quarters
 * from 36 GiB on (21.3 of 32, 27 of 36, 48 of 64); macOS 26 allows somewhat more (107.5 of 128), which is not relied
 * on.
 */
export function wiredLimit(totalBytes: number, setMiB: number): number {
  if (setMiB > 0) return Math.min(totalBytes, setMiB * 2 ** 20);
  return Math.floor(totalBytes >= 36 * 2 ** 30 ? totalBytes * 0.75 : (totalBytes * 2) / 3);
}

function mac(ramBytes: number, system: SystemReader): GpuMemory {
  const set = Number(system.run("sysctl", ["-n", "iogpu.wired_limit_mb"])) || 0;
  return {
    bytes: wiredLimit(ramBytes, set),
    source: set > 0 ? "iogpu.wired_limit_mb" : "macOS's default",
    vendor: "apple",
    name: "",
    isShared: true,
  };
}

function nvidia(system: SystemReader): GpuMemory[] {
  const text = system.run("nvidia-smi", ["--query-gpu=memory.total,name", "--format=csv,noheader,nounits"]);
  return [...text.matchAll(/^\s*(\d+), *(.+?)\s*$/gm)].map(([, mib, name]) => ({
    bytes: Number(mib) * 2 ** 20,
    source: "nvidia-smi",
    vendor: "nvidia",
    name,
    isShared: false,
  }));
}

/** No current GPU with its own memory has less: a smaller size is what an integrated one has reserved. */
const LEAST_OWN = 2 * 2 ** 30;

/** amdgpu has files for each card; integrated GPUs may also use memory of the machine that the driver maps ("GTT"). */
function amd(system: SystemReader): GpuMemory[] {
  const folder = "/sys/class/drm";
  const cards = system.list(folder).filter((name) => /^card\d+$/.test(name));
  return cards.flatMap((card) => {
    const size = (kind: string) =>
      Number(system.read(`${folder}/${card}/device/mem_info_${kind}_total`)) || 0;
    const vram = size("vram");
    if (vram === 0) return [];
    const isShared = vram < LEAST_OWN;
    const bytes = isShared ? vram + size("gtt") : vram;
    return [{ bytes, source: "amdgpu", vendor: "amd", name: "", isShared }];
  });
}

/** Display adapters. */
const CLASS = "HKLM\\SYSTEM\\CurrentControlSet\\Control\\Class\\{4d36e968-e325-11ce-bfc1-08002be10318}";
const VENDORS: readonly (readonly [RegExp, string])[] = [
  [/nvidia/i, "nvidia"],
  [/\bamd\b|radeon/i, "amd"],
  [/intel/i, "intel"],
  [/qualcomm|adreno/i, "qualcomm"],
];

/** Drivers write the size of their own memory there; Windows lets integrated GPUs use half of the machine's, too. */
function windows(ramBytes: number, system: SystemReader): GpuMemory[] {
  const query = (value: string) => valuesByKey(system.run("reg", ["query", CLASS, "/s", "/v", value]));
  const names = query("DriverDesc");
  return [...query("HardwareInformation.qwMemorySize")].flatMap(([key, text]) => {
    const size = Number(text) || 0;
    const name = names.get(key) ?? "";
    const vendor = VENDORS.find(([pattern]) => pattern.test(name))?.[1];
    if (size === 0 || vendor === undefined) return [];
    const isShared = size < LEAST_OWN;
    const bytes = isShared ? size + Math.floor(ramBytes / 2) : size;
    return [{ bytes, source: "the registry", vendor, name, isShared }];
  });
}

/** The output of `reg query /v`: a line for a key, followed by one for its value: name, type, data. */
function valuesByKey(text: string): Map<string, string> {
  const values = new Map<string, string>();
  let key = "";
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith("HKEY_")) key = line.trim();
    const value = /^\s+\S+\s+REG_\w+\s+(.*?)\s*$/.exec(line)?.[1];
    if (value !== undefined) values.set(key, value);
  }
  return values;
}
