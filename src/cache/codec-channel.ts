/**
 * Codes by channel: the 32 values of one head dim in a page share a scale and a zero, 8 bits each. Keys have channels
 * that are outliers in every token (biases, norm weights, slow rotary pairs); with a scale of their own they do not
 * coarsen the others. (KIVI, arXiv 2402.02750; measured in lab/LOG.md, 2026-11-28.) In attention the scales are
 * multiplied into the query, once per page, and the zeros become one number for all of the page's tokens.
 *
 * value = scale * (code + zero). The scale is a positive float16 with 3 mantissa bits, stored as its bits 14 to 7; the
 * zero is an integer from -128 to 127. Bytes: scales u8 [headDim], zeros i8 [headDim], then codes [PAGE_SLOTS][headDim]
 * in the order of codes.ts, token by token.
 *
 * Nothing is clipped except by the format's own largest value, because queries look for exactly those keys that are
 * outliers. Everything is computed in integers below 2^24 or by comparing exact products, so that every device finds
 * the same codes:
 * 1. x, limited to +-32,000. lo and hi: smallest and largest of the channel.
 * 2. A scale is M 2^e with M from 8 to 15. w(x) = x / 2^(e-4) rounded to an integer (ties to even), and
 *      r(x) = floor((2w + 16M) / (32M)): x / scale, rounded. Always below 2^24.
 * 3. From the smallest scale with scale * most >= hi - lo (most = 2^bits - 1; the difference in float32) and
 *      scale * 128 >= |lo|, |hi| upwards, the first for which r(hi) - r(lo) <= most and -128 <= r(lo) <= 127.
 * 4. zero = r(lo), code = r(x) - zero.
 */
import { PAGE_SLOTS } from "../device/contract.ts";
import type { CodeBits } from "../device/kv.ts";
import { codeBytes, packCodes, unpackCodes } from "./codes.ts";
import type { PartCodec } from "./part-codec.ts";

const LARGEST = 32_000;
/** 2^-14 and 61,440: avoids subnormal and infinite float16. */
const FIRST_SCALE = 8;
const LAST_SCALE = 0xf7;
const LEAST_ZERO = -128;
const MOST_ZERO = 127;
const fround = Math.fround;

const mantissaOf = (scale: number) => 8 + (scale & 7);
/** The unit of the scale's mantissa. */
const unitOf = (scale: number) => 2 ** ((scale >> 3) - 18);
const numberOf = (scale: number) => mantissaOf(scale) * unitOf(scale);

/** x / scale, rounded. */
function ratio(x: number, scale: number): number {
  const mantissa = mantissaOf(scale);
  const w = roundToEven((x * 16) / unitOf(scale));
  return Math.floor((2 * w + 16 * mantissa) / (32 * mantissa));
}

function roundToEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1;
}

/** NaN, for which there is no code, becomes some number. */
function held(x: number): number {
  if (x > LARGEST) return LARGEST;
  return x > -LARGEST ? x : -LARGEST;
}

function scaleFor(low: number, high: number, most: number): number {
  const range = fround(high - low);
  const largest = Math.max(Math.abs(low), Math.abs(high));
  for (let scale = FIRST_SCALE; ; scale++) {
    const value = numberOf(scale);
    if (value * most < range || value * -LEAST_ZERO < largest) continue;
    const zero = ratio(low, scale);
    if (ratio(high, scale) - zero <= most && zero >= LEAST_ZERO && zero <= MOST_ZERO) return scale;
    if (scale === LAST_SCALE) throw new Error(`no scale for ${low} to ${high}`);
  }
}

export function channelCodec(bits: CodeBits): PartCodec {
  const most = 2 ** bits - 1;
  return {
    pageBytes: (headDim) => 2 * headDim + PAGE_SLOTS * codeBytes(headDim, bits),
    encode(page, bytes) {
      const headDim = page.length / PAGE_SLOTS;
      const codes = new Uint8Array(page.length);
      for (let dim = 0; dim < headDim; dim++) {
        let low = LARGEST;
        let high = -LARGEST;
        for (let at = dim; at < page.length; at += headDim) {
          low = Math.min(low, held(page[at]));
          high = Math.max(high, held(page[at]));
        }
        const scale = scaleFor(low, high, most);
        const zero = ratio(low, scale);
        for (let at = dim; at < page.length; at += headDim) codes[at] = ratio(held(page[at]), scale) - zero;
        bytes[dim] = scale;
        bytes[headDim + dim] = zero & 0xff;
      }
      const size = codeBytes(headDim, bits);
      for (let slot = 0; slot < PAGE_SLOTS; slot++) {
        const at = 2 * headDim + slot * size;
        packCodes(codes.subarray(slot * headDim, (slot + 1) * headDim), bits, bytes.subarray(at, at + size));
      }
    },
    decode(bytes, page) {
      const headDim = page.length / PAGE_SLOTS;
      const codes = new Uint8Array(headDim);
      const size = codeBytes(headDim, bits);
      for (let slot = 0; slot < PAGE_SLOTS; slot++) {
        unpackCodes(bytes.subarray(2 * headDim + slot * size), bits, codes);
        for (let dim = 0; dim < headDim; dim++) {
          const zero = (bytes[headDim + dim] << 24) >> 24;
          page[slot * headDim + dim] = numberOf(bytes[dim]) * (codes[dim] + zero);
        }
      }
    },
  };
}
