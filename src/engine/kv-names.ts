/** Which of the formats that have a name a device can hold. */
import { FORMAT_NAMES, layerFormats } from "../cache/format-layers.ts";
import { hasFormat } from "../device/check.ts";
import type { PlannedDevice } from "./plan.ts";

export function formatsOf(device: Pick<PlannedDevice, "kvFormats" | "kvParts">): string[] {
  return FORMAT_NAMES.filter((name) => layerFormats(name).codecs.every((codec) => hasFormat(codec, device)));
}
