/** What times attention in Node: the same choice of devices as for models. `nibble/browser` takes the page's GPU. */
import type { AttendTimer } from "../device/attend-timer.ts";
import { gpuAttendTimer } from "../device/webgpu/attend-timer.ts";
import type { WebgpuDevice } from "../device/webgpu/webgpu.ts";
import { UnsupportedError } from "../format/errors.ts";
import { type LoadOptions, openDevice } from "./load.ts";

/** Whoever opens it closes it. DeviceError, UnsupportedError for devices that have no clock worth reading. */
export async function openAttendTimer(
  options: Pick<LoadOptions, "device" | "adapter" | "threads"> = {},
): Promise<AttendTimer> {
  const device = await openDevice(options);
  if ("openGpu" in device) return gpuAttendTimer(device as WebgpuDevice);
  throw new UnsupportedError(`Timing attention on ${device.description}`, "The GPU can.");
}
