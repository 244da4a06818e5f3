// Packing: the keys and values of one head in an unpacked page (f16) become codes for the whole page. Codes and scales
// equal those of src/cache/codec-channel.ts and codec-rotated.ts: float32 arithmetic in the same order. Layouts:
// kv-layout.ts. In every format a page first becomes one byte per code, [32][padded dims], which one function arranges.
import { TINY, tinyHigh, tinyLow } from "./kv-half";
import {
  BLOCK,
  bitsOf,
  CODES_BYTES,
  GROUP,
  groupsOf,
  HALF_ROWS_BYTES,
  isRotated,
  KV_F16,
  keyDimsOf,
  keysBytes,
  keysPart,
  OCTETS,
  rotatedScaleAt,
  scalesBytes,
  valuesPart,
} from "./kv-layout";
import { codesSixteen, encodeRotated } from "./kv-rq4";

// As in codec-channel.ts.
const LARGEST: f32 = 32000;
const FIRST_SCALE: i32 = 8;
const LAST_SCALE: i32 = 0xf7;
const ZEROS: f32 = 128;
/** float32's exponent and three bits of its mantissa, minus this, are the eight bits of a scale. */
const SCALE_BIAS: i32 = 112 << 3;

/**
 * A thread's work area: the page as f32 [32][headDim], its codes as bytes [32][padded dims], and a rotated vector or,
 * [4] of each, the parameters of four channels.
 */
export function packWorkBytes(headDim: i32): usize {
  return vectorAt(0, headDim) + usize(headDim + 24) * 4;
}

// @ts-ignore: decorator
@inline
function codesAt(work: usize, headDim: i32): usize {
  return work + usize(BLOCK * headDim) * 4;
}

// @ts-ignore: decorator
@inline
function vectorAt(work: usize, headDim: i32): usize {
  return codesAt(work, headDim) + usize(BLOCK * groupsOf(headDim) * GROUP);
}

/** from: the f16 block of a head; to: its packed block. */
export function packBlock(from: usize, to: usize, headDim: i32, turned: i32, format: i32, work: usize): void {
  const keyDims = keyDimsOf(headDim, turned);
  readKeys(from, work, keyDims);
  packPart(to, keyDims, keysPart(format), true, work);
  readValues(from + keysBytes(keyDims, KV_F16), work, headDim);
  packPart(to + keysBytes(keyDims, format), headDim, valuesPart(format), false, work);
}

function readKeys(keys: usize, page: usize, headDim: i32): void {
  const row = usize(headDim) * 4;
  for (let octet = 0; octet < OCTETS; octet++) {
    for (let dim = 0; dim < headDim; dim++) {
      const eight = v128.load(keys);
      const a = f32x4.mul(tinyLow(eight), f32x4.splat(TINY));
      const b = f32x4.mul(tinyHigh(eight), f32x4.splat(TINY));
      const at = page + usize(octet * 8) * row + usize(dim) * 4;
      v128.store32_lane(at, a, 0);
      v128.store32_lane(at + row, a, 1);
      v128.store32_lane(at + 2 * row, a, 2);
      v128.store32_lane(at + 3 * row, a, 3);
      v128.store32_lane(at + 4 * row, b, 0);
      v128.store32_lane(at + 5 * row, b, 1);
      v128.store32_lane(at + 6 * row, b, 2);
      v128.store32_lane(at + 7 * row, b, 3);
      keys += HALF_ROWS_BYTES;
    }
  }
}

function readValues(values: usize, page: usize, headDim: i32): void {
  for (let dim = 0; dim < headDim; dim += 8) {
    for (let slot = 0; slot < BLOCK; slot++) {
      const eight = v128.load(values);
      const at = page + usize(slot * headDim + dim) * 4;
      v128.store(at, f32x4.mul(tinyLow(eight), f32x4.splat(TINY)));
      v128.store(at, f32x4.mul(tinyHigh(eight), f32x4.splat(TINY)), 16);
      values += HALF_ROWS_BYTES;
    }
  }
}

/** Encodes the page in work to keys, or values, at `to`. */
function packPart(to: usize, headDim: i32, part: i32, keys: bool, work: usize): void {
  const padded = groupsOf(headDim) * GROUP;
  const codes = codesAt(work, headDim);
  memory.fill(codes, 0, usize(BLOCK * padded));
  if (isRotated(part)) encodeRows(to, headDim, bitsOf(part), keys, work);
  else encodeChannels(to, headDim, bitsOf(part), work);
  arrange(codes, to + scalesBytes(headDim, part), groupsOf(headDim), bitsOf(part), keys);
}

/** One scale for each token. */
function encodeRows(scales: usize, headDim: i32, bits: i32, keys: bool, work: usize): void {
  const w = vectorAt(work, headDim);
  let codes = codesAt(work, headDim);
  for (let slot = 0; slot < BLOCK; slot++) {
    const inverse = f32x4.splat(1 / encodeRotated(work + usize(slot * headDim) * 4, w, headDim, keys, bits));
    for (let dim: usize = 0; dim < usize(headDim); dim += 16)
      v128.store(codes + dim, codesSixteen(w + dim * 4, inverse, bits));
    store<u16>(rotatedScaleAt(scales, slot), load<u16>(w + usize(headDim) * 4));
    codes += usize(groupsOf(headDim) * GROUP);
  }
}

/** Clamps numbers to the format's range; NaN becomes some number. */
// @ts-ignore: decorator
@inline
function held(x: v128): v128 {
  return f32x4.pmin(f32x4.pmax(f32x4.splat(-LARGEST), x), f32x4.splat(LARGEST));
}

/** The value of a scale. */
// @ts-ignore: decorator
@inline
function numberOf(scale: i32): f32 {
  return reinterpret<f32>((scale + SCALE_BIAS) << 20);
}

// A scale is M 2^e: x / scale, rounded, is floor((w + 8 M + 0.5) / 16 M), which is never near an integer, where w is x
// / 2^(e - 4) rounded.

// @ts-ignore: decorator
@inline
function wFactorOf(scale: i32): f32 {
  return reinterpret<f32>((127 + 22 - (scale >> 3)) << 23);
}

// @ts-ignore: decorator
@inline
function mantissaOf(scale: i32): f32 {
  const mantissa = 8 + (scale & 7);
  return f32(mantissa);
}

// @ts-ignore: decorator
@inline
function ratio(x: f32, scale: i32): f32 {
  const mantissa = mantissaOf(scale);
  return Mathf.floor((nearest(x * wFactorOf(scale)) + (8 * mantissa + 0.5)) * (1 / (16 * mantissa)));
}

/** The smallest scale that holds all values from low to high without clipping. */
function scaleFor(low: f32, high: f32, most: f32): i32 {
  const range = high - low;
  const largest = max(abs(low), abs(high));
  const about = max(range / most, largest / ZEROS);
  let scale = max(FIRST_SCALE, (i32(reinterpret<u32>(about) >> 20)) - SCALE_BIAS - 1);
  for (; scale < LAST_SCALE; scale++) {
    const value = numberOf(scale);
    if (value * most < range || value * ZEROS < largest) continue;
    const zero = ratio(low, scale);
    if (ratio(high, scale) - zero <= most && zero >= -ZEROS && zero < ZEROS) break;
  }
  return scale;
}

/** A scale and a zero for each dim. */
function encodeChannels(scales: usize, headDim: i32, bits: i32, work: usize): void {
  const row = usize(headDim) * 4;
  const end = work + usize(BLOCK) * row;
  const padded = usize(groupsOf(headDim) * GROUP);
  const most = f32((1 << bits) - 1);
  const four = vectorAt(work, headDim);
  for (let dim: usize = 0; dim < usize(headDim); dim += 4) {
    let low = f32x4.splat(LARGEST);
    let high = f32x4.splat(-LARGEST);
    for (let at = work + dim * 4; at < end; at += row) {
      const x = held(v128.load(at));
      low = f32x4.pmin(low, x);
      high = f32x4.pmax(high, x);
    }
    v128.store(four, low);
    v128.store(four, high, 16);
    for (let lane: usize = 0; lane < 4; lane++) {
      const at = four + lane * 4;
      const scale = scaleFor(load<f32>(at), load<f32>(at, 16), most);
      const mantissa = mantissaOf(scale);
      const zero = ratio(load<f32>(at), scale);
      store<u8>(scales + dim + lane, scale);
      store<i8>(scales + usize(headDim) + dim + lane, i8(zero));
      store<f32>(at, wFactorOf(scale), 32);
      store<f32>(at, 8 * mantissa + 0.5, 48);
      store<f32>(at, 1 / (16 * mantissa), 64);
      store<f32>(at, zero, 80);
    }
    const factor = v128.load(four, 32);
    const middle = v128.load(four, 48);
    const inverse = v128.load(four, 64);
    const zero = v128.load(four, 80);
    let codes = codesAt(work, headDim) + dim;
    for (let at = work + dim * 4; at < end; at += row) {
      const w = f32x4.nearest(f32x4.mul(held(v128.load(at)), factor));
      const code = f32x4.sub(f32x4.floor(f32x4.mul(f32x4.add(w, middle), inverse)), zero);
      const integers = i32x4.trunc_sat_f32x4_s(code);
      const bytes = i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(integers, integers), i32x4.splat(0));
      v128.store32_lane(codes, bytes, 0);
      codes += padded;
    }
  }
}

/**
 * Arranges codes, bytes [32][groups * 32], into tiles. Keys: rows are tokens, k are dims, [4 token octets][groups]
 * tiles; values: rows are dims, k are tokens, [groups][4 dim octets].
 */
function arrange(codes: usize, to: usize, groups: i32, bits: i32, keys: bool): void {
  const width = usize(groups * GROUP);
  const rowStride: usize = keys ? width : 1;
  const stride: usize = keys ? 1 : width;
  const tiles = groups * OCTETS;
  const high = to + usize(tiles) * 64;
  for (let tile = 0; tile < tiles; tile++) {
    const octet = keys ? tile / groups : tile % OCTETS;
    const group = keys ? tile % groups : tile / OCTETS;
    const first = keys
      ? codes + usize(octet * 8) * width + usize(group * GROUP)
      : codes + usize(group * GROUP + octet * 8);
    for (let row: usize = 0; row < 8; row++) {
      const from = first + row * rowStride;
      if (bits == 4) {
        const at = to + usize(tile) * CODES_BYTES + (row >> 2) * 64 + (row & 3) * 4;
        for (let k: usize = 0; k < 16; k++)
          store<u8>(at + (k >> 2) * 16 + (k & 3), code(from, k, stride) | (code(from, k + 16, stride) << 4));
        continue;
      }
      const at = to + usize(tile) * 64 + (row >> 2) * 32 + (row & 3) * 4;
      for (let k: usize = 0; k < 8; k++) {
        const byte =
          (code(from, k, stride) & 3) |
          ((code(from, k + 8, stride) & 3) << 2) |
          ((code(from, k + 16, stride) & 3) << 4) |
          ((code(from, k + 24, stride) & 3) << 6);
        store<u8>(at + (k >> 2) * 16 + (k & 3), byte);
      }
      if (bits == 3) {
        for (let j: usize = 0; j < 4; j++) {
          let byte: u32 = 0;
          for (let field: usize = 0; field < 8; field++)
            byte |= (code(from, 4 * field + j, stride) >> 2) << u32(field);
          store<u8>(high + usize(tile) * 32 + (row >> 2) * 16 + (row & 3) * 4 + j, byte);
        }
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function code(from: usize, k: usize, stride: usize): u32 {
  return load<u8>(from + k * stride);
}

/** Expands tiles of 2 or 3 bits into tiles of 4. */
export function unpackTiles(codes: usize, out: usize, tiles: i32, bits: i32): void {
  const low = v128.load(FIELDS);
  const top = v128.load(FIELDS, 16);
  const end = codes + usize(tiles) * 64;
  let high = end;
  for (; codes < end; codes += 32) {
    const first = v128.load(codes);
    const second = v128.load(codes, 16);
    let a = v128.and(first, low);
    let b = v128.and(second, low);
    let c = v128.and(i16x8.shr_u(first, 2), low);
    let d = v128.and(i16x8.shr_u(second, 2), low);
    if (bits == 3) {
      const bitsOfAll = v128.load(high);
      a = v128.or(a, v128.and(i16x8.shl(bitsOfAll, 2), top));
      b = v128.or(b, v128.and(i16x8.shl(bitsOfAll, 1), top));
      c = v128.or(c, v128.and(bitsOfAll, top));
      d = v128.or(d, v128.and(i16x8.shr_u(bitsOfAll, 1), top));
      high += 16;
    }
    v128.store(out, a);
    v128.store(out, b, 16);
    v128.store(out, c, 32);
    v128.store(out, d, 48);
    out += 64;
  }
}

/** The low two bits of each half byte, and the third. Loaded, because V8 rebuilds constants at each use. */
const FIELDS = memory.data<u32>([
  0x33333333, 0x33333333, 0x33333333, 0x33333333, 0x44444444, 0x44444444, 0x44444444, 0x44444444,
]);
