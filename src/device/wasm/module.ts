/**
 * Finds and compiles the kernels: the relaxed-SIMD binary if the engine has relaxed SIMD, the plain one otherwise.
 * Detection compiles a five-instruction module; nothing is assumed from a version number.
 */
import { DeviceError, UnsupportedError } from "../../format/errors.ts";

/** (func (result v128) i32.const 0, i8x16.splat, twice, i16x8.relaxed_dot_i8x16_i7x16_s) */
const RELAXED_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 0, 253, 15, 65, 0,
  253, 15, 253, 146, 2, 11,
]);

export interface Kernels {
  readonly module: WebAssembly.Module;
  readonly relaxed: boolean;
}

/**
 * "auto" uses what the engine has. "plain": without relaxed SIMD, for comparisons and for the conformance suite.
 * "wide": V8 also joins 128-bit vectors to 256 bits.
 */
export type Simd = "auto" | "plain" | "wide";

export async function compileKernels(simd: Simd = "auto"): Promise<Kernels> {
  if (simd === "wide") await joinVectors();
  const relaxed = simd !== "plain" && (await hasRelaxedSimd());
  const url = new URL(relaxed ? "./kernels-relaxed.wasm" : "./kernels.wasm", import.meta.url);
  try {
    return { module: await WebAssembly.compile(await readBytes(url)), relaxed };
  } catch (cause) {
    throw new DeviceError("wasm", `cannot load ${url.href}: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Node 24's V8 is the first that has it, on x64; results are the same bits, and prompts are read 1.45 times as fast.
 */
const FIRST_WIDE = 24;

/**
 * This is an experiment of V8's, so it is off by default. The flag applies to all WebAssembly of the process that is
 * compiled from now on. Throws UnsupportedError if the engine does not have it.
 */
async function joinVectors(): Promise<void> {
  const { node } = globalThis.process?.versions ?? {};
  const isThere = node !== undefined && Number.parseInt(node, 10) >= FIRST_WIDE;
  if (!isThere || process.arch !== "x64")
    throw new UnsupportedError(
      `wide SIMD in ${node === undefined ? "this engine" : `Node ${node} on ${process.arch}`}`,
      `It needs Node ${FIRST_WIDE} or later on x64.`,
    );
  const v8 = await import("node:v8");
  v8.setFlagsFromString("--experimental-wasm-revectorize");
}

async function hasRelaxedSimd(): Promise<boolean> {
  if (WebAssembly.validate(RELAXED_PROBE)) return true;
  if (typeof process === "undefined" || !process.versions?.node) return false;
  // Node 20 has relaxed SIMD behind a flag that may be set until a module is compiled; an engine that does not know the
  // flag ignores it. Delete this when Node 22 is the oldest supported version.
  const v8 = await import("node:v8");
  v8.setFlagsFromString("--experimental-wasm-relaxed-simd");
  return WebAssembly.validate(RELAXED_PROBE);
}

async function readBytes(url: URL): Promise<BufferSource> {
  if (url.protocol === "file:") return (await import("node:fs/promises")).readFile(url);
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`HTTP status ${answer.status}`);
  return answer.arrayBuffer();
}
