/**
 * Headless Chromium for tests, unpacked from the dev dependency @sparticuz/chromium and driven by playwright-core, with
 * WebGPU on its SwiftShader. Owns the flags that make it work on a bare machine, and that no process outlives a test file.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium } from "playwright-core";
import { chromiumFolder } from "../../scripts/chromium-parts.js";

/** Adapters that are programs are hidden from pages without the first; the second refuses any other. */
const FLAGS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];

/** Workgroup memory is not zeroed, as in Node (dawn.ts): SwiftShader compiles the zeroing for seconds. */
export const UNZEROED = ["--enable-dawn-features=disable_workgroup_init"];

/** Takes half a second, and two more the first time, to unpack. Playwright ends the process with ours, too. */
export async function launchChromium(flags: readonly string[] = []): Promise<Browser> {
  const folder = await chromiumFolder();
  // Fonts' caches and crash reports go where they can be deleted.
  const home = mkdtempSync(join(tmpdir(), "nibble-chromium-"));
  const browser = await chromium.launch({
    executablePath: join(folder, "chromium"),
    args: [...FLAGS, ...flags],
    timeout: 30_000,
    env: {
      ...process.env,
      HOME: home,
      FONTCONFIG_PATH: join(folder, "fonts"),
      // A bare machine has no NSS.
      LD_LIBRARY_PATH: `${join(folder, "lib")}:${folder}`,
      VK_ICD_FILENAMES: join(folder, "vk_swiftshader_icd.json"),
    },
  });
  browser.on("disconnected", () => rmSync(home, { recursive: true, force: true, maxRetries: 3 }));
  return browser;
}
