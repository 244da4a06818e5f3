/**
 * The KV cache's formats by name. A codec owns the bytes of one head vector; model code never sees them. The bytes
 * defined here are also what a saved cache holds: a device may arrange them otherwise, with equal codes.
 */
import type { KvCodec } from "../device/contract.ts";
import { ArgumentError } from "../format/errors.ts";
import { f16 } from "./codec-f16.ts";
import { f32 } from "./codec-f32.ts";
import { int4 } from "./codec-int4.ts";
import { rq4 } from "./codec-rq4.ts";

const CODECS: ReadonlyMap<string, KvCodec> = new Map(
  [f16, int4, rq4, f32].map((codec) => [codec.name, codec]),
);

/** f32 is for checking against outside implementations; only the reference device takes it. */
export function kvCodec(name: string): KvCodec {
  const codec = CODECS.get(name);
  if (!codec) throw new ArgumentError("KV cache format", JSON.stringify(name), [...CODECS.keys()].join(", "));
  return codec;
}
