/** Which of the named formats a device supports, and which is its default. */
import { DEFAULT_KV } from "../cache/codecs.ts";
import { FORMAT_NAMES, layerFormats } from "../cache/format-layers.ts";
import { hasFormat } from "../device/check.ts";
import type { Device } from "../device/contract.ts";

export function formatsOf(device: Pick<Device, "kvFormats" | "kvParts">): string[] {
  return FORMAT_NAMES.filter((name) => layerFormats(name).codecs.every((codec) => hasFormat(codec, device)));
}

/** Before the model is considered (kv-choice.ts). */
export function defaultKv(device: Pick<Device, "defaultKv">): string {
  return device.defaultKv ?? DEFAULT_KV;
}
