/** What times attention in Node: the same choice of devices as for models. load-web.ts has its counterpart for pages. */
import type { AttendTimer } from "../device/attend-timer.ts";
import { wasmAttendTimer } from "../device/wasm/attend-timer.ts";
import type { WasmDevice } from "../device/wasm/wasm.ts";
import { gpuAttendTimer } from "../device/webgpu/attend-timer.ts";
import type { WebgpuDevice } from "../device/webgpu/webgpu.ts";
import { UnsupportedError } from "../format/errors.ts";
import { type LoadOptions, openDevice } from "./load.ts";

/** Whoever opens it closes it. DeviceError, ArgumentError; UnsupportedError for the reference. */
export async function openAttendTimer(
  options: Pick<LoadOptions, "device" | "adapter" | "threads" | "wideSimd"> = {},
): Promise<AttendTimer> {
  const device = await openDevice(options);
  if (device.name === "gpu") return gpuAttendTimer(device as WebgpuDevice);
  if (device.name === "wasm") return wasmAttendTimer(device as WasmDevice);
  throw new UnsupportedError(`Timing attention on ${device.description}`, "The devices gpu and cpu can.");
}
