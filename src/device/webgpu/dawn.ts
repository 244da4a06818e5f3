/**
 * WebGPU in Node: Dawn through the optional package `webgpu`. Owns its toggles and the refusal of adapters that compute
 * nothing. Browsers have `navigator.gpu` instead and never load this file.
 */
import { existsSync } from "node:fs";
import { DeviceError } from "../../format/errors.ts";

/** Set once: Dawn's classes and flag objects as globals, as the Web has them. */
let globalsSet = false;

export interface DawnOptions {
  /** Part of an adapter's name; default: the discrete GPU. */
  adapter?: string;
}

/**
 * allow_unsafe_apis: subgroup matrices are behind it. vulkan_enable_f16_on_nvidia: Dawn hides f16 there by default.
 * timestamp_quantization, off: it rounds times to 65 us, longer than most kernels take, against spies in web pages.
 * disable_workgroup_init: kernels write workgroup memory before they read it, and SwiftShader compiles the zeroing of 12 KiB
 * for two seconds.
 * disable_robustness is not set: our kernels stay inside their buffers, but a bug should clamp, not corrupt.
 */
const TOGGLES = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia", "disable_workgroup_init"];

/**
 * Whether looking for a GPU makes sense: on Linux there is a device file for each. Without one, loading Dawn would cost
 * 100 ms and a warning about Vulkan on stderr, only to find nothing.
 */
export function mayHaveGpu(): boolean {
  if (process.platform !== "linux") return true;
  return ["/dev/dri", "/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd"].some((path) =>
    existsSync(path),
  );
}

/** DeviceError when the package is missing or cannot start. */
export async function dawnGpu(options: DawnOptions = {}, toggles: readonly string[] = TOGGLES): Promise<GPU> {
  let dawn: typeof import("webgpu");
  try {
    dawn = await import("webgpu");
  } catch (cause) {
    const way = "npm i webgpu adds it; --device cpu works without";
    throw new DeviceError(
      "gpu",
      `the optional package webgpu is not installed or does not load here. ${way}`,
      {
        cause,
      },
    );
  }
  if (!globalsSet) Object.assign(globalThis, dawn.globals);
  globalsSet = true;
  const flags = [`enable-dawn-features=${toggles.join(",")}`, "disable-dawn-features=timestamp_quantization"];
  if (options.adapter !== undefined) flags.push(`adapter=${options.adapter}`);
  return dawn.create(flags);
}
