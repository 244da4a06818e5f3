/**
 * WebGPU in Node: Dawn through the optional package `webgpu`. Sets Dawn's toggles, lists the adapters, and reports what
 * a machine without one is missing. Browsers have `navigator.gpu` and never load this file.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { DeviceError } from "../../format/errors.ts";
import { oneLine } from "./gpu.ts";

/** For errors that report that there is no GPU. */
export const WITHOUT_GPU = "Without a GPU the device cpu works.";

/** Set once: Dawn's classes and flag objects as globals, as on the Web. */
let globalsSet = false;

export interface DawnOptions {
  /** Part of an adapter's name, case-insensitive; default: the discrete GPU. */
  adapter?: string;
}

/**
 * allow_unsafe_apis: required for subgroup matrices. vulkan_enable_f16_on_nvidia: Dawn hides f16 there by default.
 * timestamp_quantization, off: it rounds times to 65 us, longer than most kernels take, to protect web pages from
 * spying. disable_workgroup_init: kernels write workgroup memory before they read it, and SwiftShader takes two seconds
 * to compile the zeroing of 12 KiB.
 * disable_robustness is not set: our kernels stay inside their buffers, but a bug should be clamped, not corrupt
 * memory.
 */
const TOGGLES = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", "disable_workgroup_init"];

/** The name of the Vulkan loader on Linux. */
const LOADER = "libvulkan.so.1";

/**
 * Whether looking for a GPU makes sense: on Linux each GPU has a device file. Without one, loading Dawn would cost 100
 * ms and print a warning about Vulkan on stderr, only to find nothing.
 */
export function mayHaveGpu(): boolean {
  if (process.platform !== "linux") return true;
  return ["/dev/dri", "/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd"].some((path) =>
    existsSync(path),
  );
}

/** Throws DeviceError if the package or Vulkan is missing, or if no adapter has the name. */
export async function dawnGpu(options: DawnOptions = {}, toggles: readonly string[] = TOGGLES): Promise<GPU> {
  const { adapter } = options;
  const dawn = await loadDawn();
  checkVulkan();
  const flags = flagsOf(toggles);
  if (adapter !== undefined) {
    const names = await adapterNames(dawn, flags);
    const name = names.find((name) => name.toLowerCase().includes(adapter.toLowerCase()));
    if (name === undefined && names.length > 0)
      throw new DeviceError("gpu", `no adapter has "${adapter}" in its name; there are: ${names.join(", ")}`);
    if (name !== undefined) flags.push(`adapter=${name}`);
  }
  return dawn.create(flags);
}

/**
 * The adapters by name, the best for computing first, each as a GPU of its own, which `adapter` can select. [] if there
 * are none. Throws DeviceError like dawnGpu.
 */
export async function dawnAdapters(): Promise<{ readonly name: string; readonly gpu: GPU }[]> {
  const dawn = await loadDawn();
  checkVulkan();
  const names = await adapterNames(dawn, flagsOf(TOGGLES));
  return Promise.all(names.map(async (name) => ({ name, gpu: await dawnGpu({ adapter: name }) })));
}

function flagsOf(toggles: readonly string[]): string[] {
  return [`enable-dawn-features=${toggles.join(",")}`, "disable-dawn-features=timestamp_quantization"];
}

async function loadDawn(): Promise<typeof import("webgpu")> {
  try {
    const dawn = await import("webgpu");
    if (!globalsSet) Object.assign(globalThis, dawn.globals);
    globalsSet = true;
    return dawn;
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === "ERR_MODULE_NOT_FOUND";
    const found = isMissing ? "is not installed; npm i webgpu adds it" : `does not load: ${oneLine(cause)}`;
    throw new DeviceError("gpu", `the optional package webgpu ${found}. ${WITHOUT_GPU}`, { cause });
  }
}

function checkVulkan(): void {
  if (!hasVulkan())
    throw new DeviceError(
      "gpu",
      `there is no Vulkan here (${LOADER}); it comes with the GPU's driver or the system's package libvulkan1. ${WITHOUT_GPU}`,
    );
}

/**
 * Whether Dawn will find the Vulkan loader, which it looks for like any library and in node's folder. Asked first,
 * because Dawn complains on stderr. process.dlopen is made for Node's own addons: it opens the library, does not find
 * what an addon has, and closes it again. Any error but the library's absence means that it is there.
 */
function hasVulkan(): boolean {
  if (process.platform !== "linux" || process.env.DAWNNODE_BACKEND !== undefined) return true;
  try {
    process.dlopen({ exports: {} }, LOADER);
  } catch (error) {
    const isMissing = (error as Error).message.includes("cannot open shared object file");
    return !isMissing || existsSync(join(dirname(process.execPath), LOADER));
  }
  return true;
}

/** Dawn lists names only when it is asked for one that it does not have. The best for computing comes first. */
async function adapterNames(dawn: typeof import("webgpu"), flags: readonly string[]): Promise<string[]> {
  const gpu = dawn.create([...flags, "adapter=(none)"]);
  try {
    await gpu.requestAdapter({ powerPreference: "high-performance" });
    return [];
  } catch (error) {
    return [...(error as Error).message.matchAll(/, name: '(.*)'$/gm)].map(([, name]) => name);
  }
}
