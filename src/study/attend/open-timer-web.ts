/** Opens what times attention in a page. open-timer.ts is its counterpart in Node. */
import { pageDevice, pageGpu } from "../../engine/load-web.ts";
import type { AttendTimer } from "./attend-timer.ts";
import { gpuAttendTimer } from "./webgpu-timer.ts";

/** For `benchAttend` on the page's GPU. The caller closes it. Throws DeviceError without WebGPU. */
export async function openAttendTimer(gpu = pageGpu()): Promise<AttendTimer> {
  return gpuAttendTimer(await pageDevice(gpu));
}
