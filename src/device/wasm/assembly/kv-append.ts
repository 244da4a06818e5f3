// Appends keys and values: each head vector is encoded once, as it arrives, into its slot of its block. Codes, scales
// and zeros equal those of src/cache/codec-int4.ts and codec-f16.ts: float32 arithmetic in the same order. rq4's
// arithmetic is in kv-rq4.ts.
import { maxLanes } from "./exp";
import { halfBits, halfValue } from "./kv-half";
import {
  BLOCK,
  blockAt,
  CODES_BYTES,
  GROUP,
  groupsOf,
  HALF_ROWS_BYTES,
  keyDimsOf,
  keysBytes,
  KEY_TILE_BYTES,
  KV_INT4,
  KV_RQ4,
  VALUE_GROUP_BYTES,
  VALUE_PAIRS_BYTES,
} from "./kv-layout";
import { appendKeyRq4, appendValueRq4 } from "./kv-rq4";

/** The largest magnitude that int4 can hold. */
const LARGEST: f32 = 65000;

/** Zero | scale << 16, both float16 bits, of `dims` values at x. A constant group has scale 0. */
function encodePair(x: usize, dims: i32): u32 {
  let most = v128.load(x);
  let least = f32x4.neg(most);
  for (let i: usize = 16; i < usize(dims) * 4; i += 16) {
    const values = v128.load(x + i);
    most = f32x4.pmax(most, values);
    least = f32x4.pmax(least, f32x4.neg(values));
  }
  most = held(maxLanes(most));
  // Not neg: a zero becomes +0, whatever the order of the comparison.
  const min = held(f32x4.sub(f32x4.splat(0), maxLanes(least)));
  const scale = halfBits(f32x4.div(f32x4.sub(most, min), f32x4.splat(15)));
  return i32x4.extract_lane(v128.or(halfBits(min), i32x4.shl(scale, 16)), 0);
}

// @ts-ignore: decorator
@inline
function held(x: v128): v128 {
  return f32x4.pmin(f32x4.pmax(x, f32x4.splat(-LARGEST)), f32x4.splat(LARGEST));
}

/** Codes 0..15 of four values as i32 lanes, for the rounded scale and zero. */
// @ts-ignore: decorator
@inline
function encodeFour(x: usize, zero: v128, inverse: v128): v128 {
  const steps = f32x4.add(f32x4.mul(f32x4.sub(v128.load(x), zero), inverse), f32x4.splat(0.5));
  const clamped = f32x4.pmin(f32x4.pmax(steps, f32x4.splat(0)), f32x4.splat(15));
  return i32x4.trunc_sat_f32x4_s(clamped);
}

/** Codes of sixteen values as bytes. */
// @ts-ignore: decorator
@inline
function encodeSixteen(x: usize, zero: v128, inverse: v128): v128 {
  return i8x16.narrow_i16x8_s(
    i16x8.narrow_i32x4_s(encodeFour(x, zero, inverse), encodeFour(x + 16, zero, inverse)),
    i16x8.narrow_i32x4_s(encodeFour(x + 32, zero, inverse), encodeFour(x + 48, zero, inverse)),
  );
}

// @ts-ignore: decorator
@inline
function zeroOf(pair: u32): v128 {
  return halfValue(i32x4.splat(pair & 0xffff));
}

/** 1 / scale; 0 for a constant group. */
// @ts-ignore: decorator
@inline
function inverseOf(pair: u32): v128 {
  const scale = halfValue(i32x4.splat(pair >>> 16));
  return v128.and(f32x4.div(f32x4.splat(1), scale), f32x4.gt(scale, f32x4.splat(0)));
}

/** Writes key [headDim] f32 to row `slot` of the block's keys. */
function appendKeyInt4(keys: usize, key: usize, slot: i32, headDim: i32): void {
  const groups = groupsOf(headDim);
  const row: usize = slot & 7;
  let tile = keys + usize((slot >> 3) * groups) * KEY_TILE_BYTES;
  for (let dim = 0; dim < headDim; dim += GROUP) {
    const dims = min(GROUP, headDim - dim);
    const x = key + usize(dim) * 4;
    const pair = encodePair(x, dims);
    const zero = zeroOf(pair);
    const inverse = inverseOf(pair);
    let packed = encodeSixteen(x, zero, inverse);
    if (dims > 16) packed = v128.or(packed, i16x8.shl(encodeSixteen(x + 64, zero, inverse), 4));
    const codes = tile + (row >> 2) * 64 + (row & 3) * 4;
    v128.store32_lane(codes, packed, 0, 0);
    v128.store32_lane(codes, packed, 1, 16);
    v128.store32_lane(codes, packed, 2, 32);
    v128.store32_lane(codes, packed, 3, 48);
    store<u32>(tile + CODES_BYTES + row * 4, pair);
    tile += KEY_TILE_BYTES;
  }
}

/**
 * Writes value [headDim] f32 to column `slot` of the block's values: half a byte in each row, the other half is kept.
 */
function appendValueInt4(values: usize, value: usize, slot: i32, headDim: i32): void {
  const shift = 8 * (slot & 3) + 4 * (slot >> 4);
  const mask = i32x4.splat(15 << shift);
  const vector = usize((slot & 15) >> 2) * 16;
  let group = values;
  for (let dim = 0; dim < headDim; dim += GROUP) {
    const dims = min(GROUP, headDim - dim);
    const x = value + usize(dim) * 4;
    const pair = encodePair(x, dims);
    const zero = zeroOf(pair);
    const inverse = inverseOf(pair);
    store<u32>(group + usize(slot) * 4, pair);
    for (let four: usize = 0; four < usize(dims) / 4; four++) {
      const at = group + VALUE_PAIRS_BYTES + four * 64 + vector;
      const codes = i32x4.shl(encodeFour(x + four * 16, zero, inverse), shift);
      v128.store(at, v128.bitselect(codes, v128.load(at), mask));
    }
    group += VALUE_GROUP_BYTES;
  }
}

function appendKeyF16(keys: usize, key: usize, slot: i32, headDim: i32): void {
  const row = slot & 7;
  let at = keys + usize((slot >> 3) * headDim) * HALF_ROWS_BYTES + usize(2 * (row & 3) + (row >> 2)) * 2;
  for (let dim = 0; dim < headDim; dim += 4) {
    const bits = halfBits(v128.load(key + usize(dim) * 4));
    v128.store16_lane(at, bits, 0, 0);
    v128.store16_lane(at, bits, 2, 16);
    v128.store16_lane(at, bits, 4, 32);
    v128.store16_lane(at, bits, 6, 48);
    at += 4 * HALF_ROWS_BYTES;
  }
}

function appendValueF16(values: usize, value: usize, slot: i32, headDim: i32): void {
  let at = values + usize(slot) * HALF_ROWS_BYTES;
  for (let dim = 0; dim < headDim; dim += 8) {
    const x = value + usize(dim) * 4;
    v128.store(at, v128.or(halfBits(v128.load(x)), i32x4.shl(halfBits(v128.load(x, 16)), 16)));
    at += usize(BLOCK) * HALF_ROWS_BYTES;
  }
}

/**
 * Stores keys [tokens, kvHeads, turned or headDim] and values [tokens, kvHeads, headDim] f32 of KV heads [firstHead,
 * lastHead) at positions position, position + 1, ... of one text, whose pages are in `table`. Heads are independent:
 * any division among threads gives the same bytes. work: this thread's own, rotatedWorkBytes; only rq4 needs it.
 */
export function appendKv(
  cache: usize,
  keys: usize,
  values: usize,
  position: i32,
  tokens: i32,
  kvHeads: i32,
  headDim: i32,
  turned: i32,
  table: usize,
  format: i32,
  work: usize,
  firstHead: i32,
  lastHead: i32,
): void {
  const keyDims = keyDimsOf(headDim, turned);
  const half = keysBytes(keyDims, format);
  for (let head = firstHead; head < lastHead; head++) {
    for (let token = 0; token < tokens; token++) {
      const block = blockAt(cache, table, kvHeads, head, position + token, headDim, turned, format);
      const slot = (position + token) % BLOCK;
      const vector = usize(token * kvHeads + head);
      const key = keys + vector * usize(keyDims) * 4;
      const value = values + vector * usize(headDim) * 4;
      if (format == KV_INT4) {
        appendKeyInt4(block, key, slot, keyDims);
        appendValueInt4(block + half, value, slot, headDim);
      } else if (format == KV_RQ4) {
        appendKeyRq4(block, key, slot, keyDims, work);
        appendValueRq4(block + half, value, slot, headDim, work);
      } else {
        appendKeyF16(block, key, slot, keyDims);
        appendValueF16(block + half, value, slot, headDim);
      }
    }
  }
}
