/**
 * Advice for making models faster or larger on this machine. Pure: facts in, sentences out, each with the exact command
 * if there is one.
 */
import type { Machine } from "../engine/machine.ts";

export interface AdviceFacts {
  readonly machine: Pick<Machine, "platform" | "node" | "memoryBytes" | "gpuMemory">;
  /** A real GPU will be used. */
  readonly hasGpu: boolean;
  /** The search's error if none was found; null: it did not fail. */
  readonly gpuProblem: string | null;
  readonly relaxedSimd: boolean;
  /** The GPU that will be used supports f16. */
  readonly f16: boolean;
  /** Linux: /etc/os-release, and PCI vendor ids of display devices ("0x10de"). */
  readonly osRelease: string;
  readonly gpuVendors: readonly string[];
}

const NVIDIA = "0x10de";
const MESA: Readonly<Record<string, string>> = { "0x1002": "AMD", "0x8086": "Intel" };

export function adviceFor(facts: AdviceFacts): string[] {
  const { machine, hasGpu, gpuProblem, relaxedSimd, f16 } = facts;
  const advice: string[] = [];
  if (!hasGpu && gpuProblem?.includes("optional package"))
    advice.push("A GPU is reached through the optional package webgpu: npm install webgpu");
  else if (!hasGpu && machine.platform === "linux") advice.push(...linuxAdvice(facts));
  else if (!hasGpu) advice.push("No GPU was found: update the system and its graphics driver.");
  if (machine.platform === "darwin" && machine.gpuMemory) {
    const command = wiredLimitCommand(machine.memoryBytes, machine.gpuMemory.bytes);
    if (command)
      advice.push(
        `macOS lets the GPU hold ${gib(machine.gpuMemory.bytes)} of ${gib(machine.memoryBytes)}. A model beyond that is paged and many times slower (published for Llama 3.1 70B: 0.6 tokens/s, and 6.0 with the limit raised). Until the next start this raises it: ${command}`,
      );
  }
  if (hasGpu && !f16)
    advice.push(
      "The GPU or its driver has no f16 arithmetic, which the kernels gain from; a newer driver may bring it.",
    );
  if (!relaxedSimd)
    advice.push(
      `Node ${machine.node} has no relaxed SIMD, which the CPU kernels gain from: use Node 22 or later.`,
    );
  return advice;
}

/**
 * The command that lets the GPU of a Mac use all but a tenth of its memory, keeping at least 6 GiB; null: that is no
 * more than now.
 */
export function wiredLimitCommand(totalBytes: number, limitBytes: number): string | null {
  const kept = Math.max(6 * 2 ** 30, totalBytes / 10);
  const mib = Math.floor((totalBytes - kept) / 2 ** 20);
  return mib * 2 ** 20 > limitBytes ? `sudo sysctl iogpu.wired_limit_mb=${mib}` : null;
}

function linuxAdvice({ gpuVendors, gpuProblem, osRelease }: AdviceFacts): string[] {
  if (gpuVendors.length === 0)
    return ["The system shows no GPU; in a container or a virtual machine one has to be passed through."];
  const mesa = [...new Set(gpuVendors.flatMap((vendor) => MESA[vendor] ?? []))].join(" and ");
  const advice: string[] = [];
  const [install, loader, drivers] = packages(osRelease);
  const wanted = [...(gpuProblem?.includes("no Vulkan") ? [loader] : []), ...(mesa ? [drivers] : [])];
  if (wanted.length > 0)
    advice.push(
      `The GPU${mesa ? ` (${mesa})` : ""} is reached through Vulkan, which is not complete here: ${install} ${wanted.join(" ")}`,
    );
  if (gpuVendors.includes(NVIDIA))
    advice.push(
      "The NVIDIA GPU needs NVIDIA's own driver with its Vulkan part (in containers: NVIDIA_DRIVER_CAPABILITIES=all); nvidia-smi shows whether the driver runs.",
    );
  return advice;
}

/** [command, Vulkan loader, Mesa's drivers] by the distribution's family. */
function packages(osRelease: string): readonly [install: string, loader: string, drivers: string] {
  const ids = [...osRelease.matchAll(/^(?:ID|ID_LIKE)="?([^"\n]*)"?$/gm)].flatMap(([, found]) =>
    found.split(" "),
  );
  const like = (...names: string[]) => names.some((name) => ids.includes(name));
  if (like("fedora", "rhel")) return ["sudo dnf install", "vulkan-loader", "mesa-vulkan-drivers"];
  if (like("arch")) return ["sudo pacman -S", "vulkan-icd-loader", "vulkan-radeon vulkan-intel"];
  if (like("suse", "opensuse")) return ["sudo zypper install", "libvulkan1", "Mesa-vulkan-device-select"];
  return ["sudo apt install", "libvulkan1", "mesa-vulkan-drivers"];
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
