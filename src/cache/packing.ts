/**
 * Cache formats that pack whole pages, made from a description: the formats of keys and of values, and how many of the
 * newest tokens stay in float16. The codecs of the parts are in files of their own.
 *
 * A description is `kKEYS-vVALUES-nTOKENS`, optionally with `-f32`: "k4c-v4r-n128-f32". KEYS and VALUES are bits (2, 3,
 * 4, 8) and the kind of scales:
 * c by channel: a scale and a zero for each dim of the head over the page's 32 tokens
 * r rotated: one scale for each vector, after a Walsh-Hadamard rotation
 * TOKENS: a page is packed when at least N tokens follow it. f32: the first 32 tokens of a text, one page, are never
 * packed.
 */
import { type KvCodec, PAGE_SLOTS, type Packing, type PartFormat } from "../device/contract.ts";
import { type CodeBits, type CodeScales, partName } from "../device/kv.ts";
import { channelCodec } from "./codec-channel.ts";
import { f16 } from "./codec-f16.ts";
import { rotatedCodec } from "./codec-rotated.ts";
import { byVectors, type PartCodec } from "./part-codec.ts";

/** The contents of a description. */
export type PackedFormat = Pick<Packing, "keys" | "values" | "recentTokens" | "firstPages">;

/** With fewer, a few wrong guesses could not be undone, nor could a token be run again. */
const LEAST_RECENT = 32;
const MOST_RECENT = 4096;

const SCALES: { readonly [letter: string]: CodeScales } = { c: "channel", r: "rotated" };

/** null: it is not such a description. */
export function parseFormat(description: string): PackedFormat | null {
  const found = /^k([2348])([cr])-v([2348])([cr])-n(\d{1,4})(?:-f(32))?$/.exec(description);
  if (!found) return null;
  const [, keyBits, keyScales, valueBits, valueScales, tokens, first] = found;
  const recentTokens = Number(tokens);
  if (recentTokens < LEAST_RECENT || recentTokens > MOST_RECENT) return null;
  return {
    keys: { bits: Number(keyBits) as CodeBits, scales: SCALES[keyScales] },
    values: { bits: Number(valueBits) as CodeBits, scales: SCALES[valueScales] },
    recentTokens,
    firstPages: first === undefined ? 0 : 1,
  };
}

export function describeFormat({ keys, values, recentTokens, firstPages }: PackedFormat): string {
  const firsts = firstPages > 0 ? `-f${firstPages * PAGE_SLOTS}` : "";
  return `k${partName(keys)}-v${partName(values)}-n${recentTokens}${firsts}`;
}

/** Tokens are appended in float16 and packed by the page. */
export function packedCodec(
  name: string,
  { keys, values, recentTokens, firstPages }: PackedFormat,
): KvCodec & { packed: Packing } {
  const codecOf = ({ bits, scales }: PartFormat, part: "keys" | "values"): PartCodec =>
    scales === "channel" ? channelCodec(bits) : byVectors(rotatedCodec(bits, part));
  const parts = { keys: codecOf(keys, "keys"), values: codecOf(values, "values") };
  return {
    ...f16,
    name,
    packed: {
      ...{ keys, values, recentTokens, firstPages },
      pageBytes: (headDim, part) => parts[part].pageBytes(headDim),
      encode: (page, bytes, part) => parts[part].encode(page, bytes),
      decode: (bytes, page, part) => parts[part].decode(bytes, page),
    },
  };
}
