/** Opens what times attention in Node, on the device that a model would be loaded on. open-timer-web.ts is its counterpart in a page. */

import type { WasmDevice } from "../../device/wasm/wasm.ts";
import type { WebgpuDevice } from "../../device/webgpu/webgpu.ts";
import { type LoadOptions, openDevice } from "../../engine/load.ts";
import { UnsupportedError } from "../../format/errors.ts";
import type { AttendTimer } from "./attend-timer.ts";
import { wasmAttendTimer } from "./wasm-timer.ts";
import { gpuAttendTimer } from "./webgpu-timer.ts";

/** The caller closes it. Throws DeviceError, ArgumentError; UnsupportedError for the reference. */
export async function openAttendTimer(
  options: Pick<LoadOptions, "device" | "adapter" | "kernels" | "threads" | "wideSimd"> = {},
): Promise<AttendTimer> {
  const device = await openDevice(options);
  if (device.name === "gpu") return gpuAttendTimer(device as WebgpuDevice);
  if (device.name === "wasm") return wasmAttendTimer(device as WasmDevice);
  throw new UnsupportedError(`Timing attention on ${device.description}`, "Supported devices: gpu and cpu.");
}
