/**
 * Cache formats that hold whole pages (cache/packing.ts) as methods, by their names: measured on devices with kernels for them
 * (`--device gpu`), never by rewriting an f16 cache.
 */
import { FORMAT_NAMES, layerFormats } from "../../cache/format-layers.ts";
import { parseFormat } from "../../cache/packing.ts";
import { checkFormat } from "../../device/check.ts";
import { PAGE_SLOTS } from "../../device/contract.ts";
import { gpuFormats } from "../../device/webgpu/kv.ts";
import { UnsupportedError } from "../../format/errors.ts";
import { isPlain, type SpecDraft } from "../spec.ts";
import type { Part, Spec } from "../types.ts";
import type { Method } from "./method.ts";

/** Tokens at which bits are counted. */
const TOKENS = 4096;

/** Packed formats that are always tried. */
const PACKED = ["kv4", "kv3"];
/** The formats of a study on a device that names none. */
export const CACHED: readonly SpecDraft[] = [
  { method: "affine", bits: 4, group: 32 },
  ...["rq4", ...PACKED].map((method) => ({ method })),
].map((part) => ({ keys: part, values: part }));
export const CACHED_NAMES = ["int4 (affine, 4 bits, groups of 32)", "rq4", ...PACKED, "k2c-v2r-n128", "..."];

/** null: no packed format has this name. */
export function cachedMethod(name: string): Method | null {
  if (!FORMAT_NAMES.includes(name) && !parseFormat(name)) return null;
  // kv3's layers differ in turn.
  const formats = layerFormats(name);
  const layers = [0, 1].map((index) => formats.of({ index, count: 2, isSliding: false }).packed);
  const [packed, other] = layers;
  if (!packed || !other) return null;
  const exact = Math.min(TOKENS, packed.recentTokens + packed.firstPages * PAGE_SLOTS) / TOKENS;
  return {
    name,
    title: `the cache format ${name}, on a device that has it`,
    needs: { keys: "page", values: "page" },
    bits: [4],
    groups: [0],
    rotates: true,
    bitsOf: ({ headDim, part }) =>
      16 * exact +
      ((1 - exact) * 4 * (packed.pageBytes(headDim, part) + other.pageBytes(headDim, part))) /
        (PAGE_SLOTS * headDim),
    apply() {
      throw new UnsupportedError(`${name} by rewriting an f16 cache`, "Measure it with --device gpu.");
    },
  };
}

/** Only a device that has the cache can measure it. */
export function isCached({ keys, values }: Spec): boolean {
  return [keys, values].some(({ method }) => cachedMethod(method) !== null);
}

/** UnsupportedError for a format that no GPU has kernels for. Needs no GPU: all have the same ones. */
export function checkGpuFormat(format: string): void {
  const device = { name: "gpu", ...gpuFormats({ matrices: false }) };
  for (const codec of layerFormats(format).codecs) checkFormat(codec, device);
}

/** The cache format of a spec. null: there is none, only rewriting can measure it. */
export function formatOf(spec: Spec): string | null {
  const { keys, values, sinks, recent } = spec;
  const alike = (Object.keys(keys) as (keyof Part)[]).every((field) => keys[field] === values[field]);
  if (!alike || !isPlain(spec) || sinks > 0 || recent > 0 || keys.rotate || keys.mean) return null;
  if (keys.method === "affine") return keys.bits === 4 && keys.group === 32 ? "int4" : null;
  return keys.method === "rq4" || cachedMethod(keys.method) ? keys.method : null;
}
