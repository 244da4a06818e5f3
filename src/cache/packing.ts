/**
 * Cache formats that hold whole pages, from a description: how keys are held, how values, and how many of the newest tokens
 * stay in float16. Owns what a description may say; codecs of the parts have files of their own.
 *
 * A description is `kKEYS-vVALUES-nTOKENS`: "k4c-v4r-n128". KEYS and VALUES are bits (2, 3, 4, 8) and how codes are scaled:
 *   c  by channel: a scale and a zero for each dim of the head over the page's 32 tokens
 *   r  rotated: one scale for each vector, after a Walsh-Hadamard rotation
 * TOKENS: a page is packed when at least so many tokens follow it.
 */
import type { KvCodec, Packing, PartFormat } from "../device/contract.ts";
import { type CodeBits, type CodeScales, partName } from "../device/kv.ts";
import { channelCodec } from "./codec-channel.ts";
import { f16 } from "./codec-f16.ts";
import { rotatedCodec } from "./codec-rotated.ts";
import { byVectors, type PartCodec } from "./part-codec.ts";

export interface PackedFormat {
  readonly keys: PartFormat;
  readonly values: PartFormat;
  /** Tokens that follow a page when it is packed, at least. */
  readonly recent: number;
}

/** Less could not take back a few wrong guesses, nor a token that is run again. */
const LEAST_RECENT = 32;
const MOST_RECENT = 4096;

const SCALES: { readonly [letter: string]: CodeScales } = { c: "channel", r: "rotated" };

/** null: it is no such description. */
export function parseFormat(description: string): PackedFormat | null {
  const found = /^k([2348])([cr])-v([2348])([cr])-n(\d{1,4})$/.exec(description);
  if (!found) return null;
  const [, keyBits, keyScales, valueBits, valueScales, tokens] = found;
  const recent = Number(tokens);
  if (recent < LEAST_RECENT || recent > MOST_RECENT) return null;
  return {
    keys: { bits: Number(keyBits) as CodeBits, scales: SCALES[keyScales] },
    values: { bits: Number(valueBits) as CodeBits, scales: SCALES[valueScales] },
    recent,
  };
}

export function describeFormat({ keys, values, recent }: PackedFormat): string {
  return `k${partName(keys)}-v${partName(values)}-n${recent}`;
}

/** Tokens come in float16 and are packed by the page. */
export function packedCodec(
  name: string,
  { keys, values, recent }: PackedFormat,
): KvCodec & { packed: Packing } {
  const codecOf = ({ bits, scales }: PartFormat, part: "keys" | "values"): PartCodec =>
    scales === "channel" ? channelCodec(bits) : byVectors(rotatedCodec(bits, part));
  const parts = { keys: codecOf(keys, "keys"), values: codecOf(values, "values") };
  return {
    ...f16,
    name,
    packed: {
      ...{ keys, values, recent },
      pageBytes: (headDim, part) => parts[part].pageBytes(headDim),
      encode: (page, bytes, part) => parts[part].encode(page, bytes),
      decode: (bytes, page, part) => parts[part].decode(bytes, page),
    },
  };
}
