/**
 * Converts blocks in the layouts of kv.ts to pages as the codec defines them, which a saved cache holds: the inverse of
 * appending and packing. Defines no layout itself.
 */
import { type KvPart, PAGE_SLOTS } from "../contract.ts";
import { INT4_GROUP } from "../int4.ts";
import { isChannel, type KvLayout, kvBlock, kvGroups } from "./kv.ts";

const WORD_BYTES = 16;

/** Returns the codec's bytes of one head's page. block: the bytes of its block on the GPU. */
export function readPage(layout: KvLayout, headDim: number, part: KvPart, block: Uint8Array): Uint8Array {
  const slots = Array.from({ length: PAGE_SLOTS }, (_, token) => token);
  const vectors = slots.map((token) => readVector(layout, headDim, part, block, token));
  return joined(isChannel(layout) ? [readChannels(layout, headDim, block), ...vectors] : vectors);
}

/** The scales of all dims, then their zeros. */
function readChannels(layout: KvLayout, headDim: number, block: Uint8Array): Uint8Array {
  const scales = kvBlock(layout, headDim).scalesAt * WORD_BYTES;
  const bytes = (at: number) =>
    Uint8Array.from({ length: headDim }, (_, dim) => block[scales + 2 * dim + at]);
  return joined([bytes(0), bytes(1)]);
}

/** The codec's bytes of one token's key or value of one head. */
export function readVector(
  layout: KvLayout,
  headDim: number,
  part: KvPart,
  buffer: Uint8Array,
  token: number,
): Uint8Array {
  const scales = kvBlock(layout, headDim).scalesAt * WORD_BYTES;
  const codes = (bits: number, group?: number) => readCodes({ bits, headDim, part, buffer, token }, group);
  switch (layout) {
    case "f16":
      return readHalves(headDim, part, buffer, token);
    case "int4": {
      const groups = Array.from({ length: kvGroups(headDim) }, (_, group) => {
        const scale = scales + (group * PAGE_SLOTS + token) * 4;
        return [buffer.subarray(scale, scale + 4), codes(4, group)];
      });
      return joined(groups.flat());
    }
    case "rq4":
    case "rq3": {
      const scale = buffer.subarray(scales + token * 2, scales + token * 2 + 2);
      return joined([scale, codes(layout === "rq4" ? 4 : 3)]);
    }
    case "channel4":
      return codes(4);
    case "channel3":
      return codes(3);
  }
}

function readHalves(headDim: number, part: KvPart, buffer: Uint8Array, token: number): Uint8Array {
  const out = new Uint8Array(headDim * 2);
  for (let chunk = 0; chunk < headDim / 8; chunk++) {
    const word = part === "keys" ? chunk * PAGE_SLOTS + token : (token * headDim) / 8 + chunk;
    const at = word * WORD_BYTES;
    out.set(buffer.subarray(at, at + WORD_BYTES), chunk * WORD_BYTES);
  }
  return out;
}

interface Codes {
  readonly bits: number;
  readonly headDim: number;
  readonly part: KvPart;
  readonly buffer: Uint8Array;
  readonly token: number;
}

/** A token's codes in the order of src/cache/codes.ts, for one group of dims or for all. */
function readCodes(codes: Codes, group?: number): Uint8Array {
  const { bits, headDim } = codes;
  const groups = group === undefined ? Array.from({ length: kvGroups(headDim) }, (_, g) => g) : [group];
  const bytes: number[] = [];
  /** Appends `count` bits of each code, from bit `from` on. dimOf: the dim whose code has this place in this byte. */
  const plane = (
    from: number,
    count: number,
    dimOf: (byte: number, place: number, bytes: number) => number,
  ) => {
    for (const g of groups) {
      const length = (Math.min(INT4_GROUP, headDim - g * INT4_GROUP) * count) / 8;
      for (let byte = 0; byte < length; byte++) {
        let value = 0;
        for (let place = 0; place < 8 / count; place++) {
          const code = readCode(codes, g * INT4_GROUP + dimOf(byte, place, length));
          value |= ((code >> from) & (2 ** count - 1)) << (place * count);
        }
        bytes.push(value);
      }
    }
  };
  const apart = (byte: number, place: number, length: number) => byte + place * length;
  if (bits === 4) plane(0, 4, apart);
  else {
    plane(0, 2, apart);
    plane(2, 1, (byte, place) => 8 * byte + place);
  }
  return Uint8Array.from(bytes);
}

function readCode({ bits, headDim, part, buffer, token }: Codes, dim: number): number {
  const groups = kvGroups(headDim);
  const group = Math.floor(dim / INT4_GROUP);
  const within = dim % INT4_GROUP;
  // The code's number among the 32 that are stored together.
  const i = part === "keys" ? within : token;
  if (bits === 4) {
    const word = group * INT4_GROUP + (part === "keys" ? token : within);
    const byte = buffer[word * WORD_BYTES + (i % 16)];
    return i < 16 ? byte & 15 : byte >> 4;
  }
  // Indices in u32s: the first of two that are neighbours, and the third.
  const [low, high] =
    part === "keys"
      ? [
          (Math.floor(group / 2) * PAGE_SLOTS + token) * 4 + (group % 2) * 2,
          Math.ceil(groups / 2) * PAGE_SLOTS * 4 +
            (groups < 3 ? token * groups + group : Math.floor(group / 4) * 128 + token * 4 + (group % 4)),
        ]
      : [
          (Math.floor(dim / 16) * 8 + (dim % 8)) * 4 + (dim % 16 >= 8 ? 2 : 0),
          groups * 16 * 4 + (group * 8 + (dim % 8)) * 4 + Math.floor(within / 8),
        ];
  // 32 codes are 16 pairs, i and i + 2, stored in the two halves of three words: five pairs in each word, and the last
  // pair in the bits that are left in all three.
  const pair = Math.floor((i % 16) / 4) * 4 + (i % 2) + (i >= 16 ? 2 : 0);
  const words = [low, low + 1, high].map((word) => {
    const half = 4 * word + (i % 4 >= 2 ? 2 : 0);
    return buffer[half] | (buffer[half + 1] << 8);
  });
  if (pair < 15) return (words[Math.floor(pair / 5)] >> (3 * (pair % 5))) & 7;
  return words.reduce((code, word, bit) => code | ((word >> 15) << bit), 0);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
