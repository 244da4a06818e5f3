/**
 * The KV cache's formats by name or description. A codec defines the bytes of its vectors and pages; model code never
 * sees them. A saved cache holds the same bytes; a device may arrange them differently, with equal codes.
 */
import type { KvCodec } from "../device/contract.ts";
import { ArgumentError } from "../format/errors.ts";
import { f16 } from "./codec-f16.ts";
import { f32 } from "./codec-f32.ts";
import { int4 } from "./codec-int4.ts";
import { rq4 } from "./codec-rotated.ts";
import { describeFormat, packedCodec, parseFormat } from "./packing.ts";

/** By description: packed formats that have a name. */
const NAMED: ReadonlyMap<string, KvCodec> = new Map(
  [["k4c-v4r-n128-f32", "kv4"]].map(([text, name]) => [text, packedCodec(name, parseFormat(text)!)]),
);

const CODECS: ReadonlyMap<string, KvCodec> = new Map(
  [f16, int4, rq4, ...NAMED.values(), f32].map((codec) => [codec.name, codec]),
);

/** A model's default if the device has none of its own (engine/kv-choice.ts). */
export const DEFAULT_KV = "int4";

/** Names of formats, except f32. A device has kernels for some (device/check.ts). */
export const KV_NAMES: readonly string[] = [...CODECS.keys()].filter((name) => name !== f32.name);

/** f32 is for checking against other implementations; only the reference device supports it. */
export function kvCodec(name: string): KvCodec {
  const codec = CODECS.get(name);
  if (codec) return codec;
  const format = parseFormat(name);
  if (!format)
    throw new ArgumentError(
      "KV cache format",
      JSON.stringify(name),
      `${KV_NAMES.join(", ")}, or a description such as "k4c-v4r-n128"`,
    );
  const description = describeFormat(format);
  return NAMED.get(description) ?? packedCodec(description, format);
}
