/** SwiftShader as `navigator.gpu`, with devices that all tests of a file share: compiling takes most of their time. */
import { afterAll } from "vitest";
import { softwareGpu } from "./gpu.ts";
import { type Sharing, shareDevices } from "./sharing.ts";

let sharing: Promise<Sharing> | null = null;

/** Devices that are to be lost or to fail are `softwareGpu`'s. */
export async function sharedGpu(): Promise<GPU> {
  sharing ??= softwareGpu().then(shareDevices);
  return (await sharing).gpu;
}

afterAll(async () => {
  await (await sharing)?.end();
});
