/**
 * Reads blocks of packed pages of the CPU device: the host's mirror of assembly/kv-layout.ts and the inverse of
 * kv-pack.ts.
 */
import { PAGE_SLOTS as BLOCK, type KvPart, type PartFormat } from "../contract.ts";

const GROUP = 32;
const OCTETS = 4;

/** The scale of a token, for rotated vectors. */
export function readRotatedScale(block: Uint8Array, slot: number): Uint8Array {
  const at = (slot >> 3) * 16 + (slot & 3) * 4 + ((slot >> 2) & 1) * 2;
  return block.subarray(at, at + 2);
}

/** Bytes of a block's scales: by channel a scale and a zero for each dim, rounded up to whole cache lines. */
export function packedScalesBytes(headDim: number, scales: PartFormat["scales"]): number {
  return scales === "rotated" ? BLOCK * 2 : Math.ceil(headDim / 32) * 64;
}

/** The codec's bytes of a page's keys, or values, of one head. */
export function readPackedPage(
  block: Uint8Array,
  part: KvPart,
  headDim: number,
  { bits, scales }: PartFormat,
): Uint8Array {
  const out: number[] = [];
  const isRotated = scales === "rotated";
  if (!isRotated) out.push(...block.subarray(0, 2 * headDim));
  const codes = block.subarray(packedScalesBytes(headDim, scales));
  for (let slot = 0; slot < BLOCK; slot++) {
    if (isRotated) out.push(...readRotatedScale(block, slot));
    out.push(...readCodes(codes, part, headDim, bits, slot));
  }
  return Uint8Array.from(out);
}

/** A token's codes in the order of src/cache/codes.ts. */
function readCodes(codes: Uint8Array, part: KvPart, headDim: number, bits: number, slot: number): number[] {
  const groups = Math.ceil(headDim / GROUP);
  const code = (dim: number) => {
    const group = Math.floor(dim / GROUP);
    const [row, k] = part === "keys" ? [slot, dim % GROUP] : [dim % GROUP, slot];
    const tile = part === "keys" ? (row >> 3) * groups + group : group * OCTETS + (row >> 3);
    return readCode(codes, groups * OCTETS, bits, tile, row & 7, k);
  };
  const out: number[] = [];
  const plane = (count: number, first: (at: number, i: number, length: number) => number, from: number) => {
    for (let start = 0; start < headDim; start += GROUP) {
      const length = Math.min(GROUP, headDim - start);
      const perByte = 8 / count;
      for (let i = 0; i < length / perByte; i++) {
        let byte = 0;
        for (let field = 0; field < perByte; field++) {
          const dim = start + first(field, i, length / perByte);
          byte |= ((code(dim) >> from) & (2 ** count - 1)) << (field * count);
        }
        out.push(byte);
      }
    }
  };
  const strided = (field: number, i: number, stride: number) => i + field * stride;
  if (bits === 4) plane(4, strided, 0);
  else plane(2, strided, 0);
  if (bits === 3) plane(1, (field, i) => 8 * i + field, 2);
  return out;
}

function readCode(
  codes: Uint8Array,
  tiles: number,
  bits: number,
  tile: number,
  row: number,
  k: number,
): number {
  const inPanel = (row & 3) * 4 + (k & 3);
  if (bits === 4) {
    const byte = codes[tile * 128 + (row >> 2) * 64 + ((k & 15) >> 2) * 16 + inPanel];
    return k < 16 ? byte & 15 : byte >> 4;
  }
  const low = codes[tile * 64 + (row >> 2) * 32 + ((k & 7) >> 2) * 16 + inPanel] >> (2 * (k >> 3));
  if (bits === 2) return low & 3;
  const high = codes[tiles * 64 + tile * 32 + (row >> 2) * 16 + inPanel] >> (k >> 2);
  return (low & 3) | ((high & 1) << 2);
}
