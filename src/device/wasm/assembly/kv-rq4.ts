// Encodes a head vector into rotated codes with one scale: rq4 has four bits per dim, packed pages (kv-pack.ts) also
// fewer. Codes and scale equal those of src/cache/codec-rotated.ts, which explains why the integers below make that
// easy; names are the same.
import { maxLanes } from "./exp";
import { halfBits } from "./kv-half";
import { CODES_BYTES, GROUP, ROTATED_SCALES_BYTES, groupsOf, rotatedScaleAt } from "./kv-layout";
import { hadamard, rotationNorm, flipSigns } from "./kv-rotate";

const LARGEST: f32 = 65504;
const LARGEST_PRODUCT: f32 = 65460;
const SMALLEST: f32 = 9.094947017729282e-13;
/** For 2, 3 and 4 bits. */
const STEPS = memory.data<i32>([714, 816, 918, 1020, 1122, 420, 480, 540, 600, 660, 240, 275, 309, 343, 378]);
const STEP_COUNT: usize = 5;
const RQ4_BITS: i32 = 4;

/** Largest magnitude of x [dims]. */
function largestMagnitude(x: usize, dims: i32): f32 {
  let most = f32x4.splat(0);
  for (let i: usize = 0; i < usize(dims) * 4; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + i)));
  return f32x4.extract_lane(maxLanes(most), 0);
}

/** 2^(bits - exponent of x): brings x, which is positive and normal, into [2^bits, 2^(bits + 1)). */
// @ts-ignore: decorator
@inline
function inverseUnit(x: f32, bits: i32): f32 {
  return reinterpret<f32>((254 + bits - (reinterpret<i32>(x) >>> 23)) << 23);
}

/** x times a factor to integers, ties to even, in place. */
function toIntegers(x: usize, dims: i32, factor: f32): void {
  const factors = f32x4.splat(factor);
  for (let i: usize = 0; i < usize(dims) * 4; i += 16) {
    v128.store(x + i, f32x4.nearest(f32x4.mul(v128.load(x + i), factors)));
  }
}

/** Codes of four w: 2^bits / 2 + floor((w + 0.5) / step), which is never near an integer. */
// @ts-ignore: decorator
@inline
function codesFour(w: usize, inverse: v128, bits: i32): v128 {
  const levels = f32(1 << bits);
  const steps = f32x4.add(
    f32x4.mul(f32x4.add(v128.load(w), f32x4.splat(0.5)), inverse),
    f32x4.splat(levels * 0.5),
  );
  return i32x4.trunc_sat_f32x4_s(f32x4.pmin(f32x4.pmax(steps, f32x4.splat(0)), f32x4.splat(levels - 0.5)));
}

// @ts-ignore: decorator
@inline
function sumIntegers(x: v128): i32 {
  const pairs = i32x4.add(x, v128.shuffle<i32>(x, x, 2, 3, 0, 1));
  return i32x4.extract_lane(pairs, 0) + i32x4.extract_lane(pairs, 1);
}

// @ts-ignore: decorator
@inline
function integers(w: usize): v128 {
  return i16x8.narrow_i32x4_s(i32x4.trunc_sat_f32x4_s(v128.load(w)), i32x4.trunc_sat_f32x4_s(v128.load(w, 16)));
}

/**
 * w [headDim] f32: the integers of x, as input for codesFour. Returns the chosen step; the scale's float16 bits are
 * stored after w. w has space for headDim + 4 numbers.
 */
export function encodeRotated(x: usize, w: usize, headDim: i32, keys: bool, codeBits: i32): f32 {
  const levels = 1 << codeBits;
  const most = min<f32>(LARGEST, largestMagnitude(x, headDim));
  const bits = w + usize(headDim) * 4;
  if (most < SMALLEST) {
    memory.fill(w, 0, usize(headDim) * 4);
    store<u32>(bits, 0);
    return 1;
  }
  for (let i: usize = 0; i < usize(headDim) * 4; i += 16) {
    const clamped = f32x4.pmin(f32x4.pmax(v128.load(x + i), f32x4.splat(-LARGEST)), f32x4.splat(LARGEST));
    v128.store(w + i, clamped);
  }
  const first = inverseUnit(most, 13);
  toIntegers(w, headDim, first);
  flipSigns(w, w, headDim, 1);
  hadamard(w, headDim);
  const second = inverseUnit(largestMagnitude(w, headDim), 10);
  toIntegers(w, headDim, second);

  let sums = i32x4.splat(0);
  for (let i: usize = 0; i < usize(headDim) * 4; i += 32) {
    const eight = integers(w + i);
    sums = i32x4.add(sums, i32x4.dot_i16x8_s(eight, eight));
  }
  const squares = u32(sumIntegers(sums));
  const r = i32(Mathf.floor(Mathf.sqrt(f32(squares / u32(headDim)))));
  let best: f32 = 1;
  let bestProducts: f32 = 0;
  let bestSquares: f32 = 1;
  for (let i: usize = 0; i < STEP_COUNT; i++) {
    const step = f32(max(1, (r * load<i32>(STEPS + (usize(codeBits - 2) * STEP_COUNT + i) * 4)) >> 10));
    const inverse = f32x4.splat(1 / step);
    let products = i32x4.splat(0);
    let codeSquares = products;
    for (let at = w; at < bits; at += 32) {
      const codes = i16x8.narrow_i32x4_s(codesFour(at, inverse, codeBits), codesFour(at + 16, inverse, codeBits));
      const doubled = i16x8.sub(i16x8.shl(codes, 1), i16x8.splat(i16(levels - 1)));
      products = i32x4.add(products, i32x4.dot_i16x8_s(doubled, integers(at)));
      codeSquares = i32x4.add(codeSquares, i32x4.dot_i16x8_s(doubled, doubled));
    }
    const p = f32(sumIntegers(products));
    const q = f32(sumIntegers(codeSquares));
    if (p * p * bestSquares > bestProducts * bestProducts * q) {
      best = step;
      bestProducts = p;
      bestSquares = q;
    }
  }
  const ratio: f32 = keys ? (2 * f32(squares)) / bestProducts : (2 * bestProducts) / bestSquares;
  // All but the ratio are powers of two: nothing is rounded.
  const unit: f32 = 1 / (first * second * rotationNorm(headDim));
  const largestScale = Mathf.floor(LARGEST_PRODUCT / f32(levels - 1));
  store<i32>(bits, i32x4.extract_lane(halfBits(f32x4.splat(min<f32>(ratio * unit, largestScale))), 0));
  return best;
}

/** Bytes of scratch for appending a head vector. */
// @ts-ignore: decorator
@inline
export function rotatedWorkBytes(headDim: i32): usize {
  return usize(headDim + 4) * 4;
}

/** Writes key [headDim] f32 to row `slot` of the block's keys. */
export function appendKeyRq4(keys: usize, key: usize, slot: i32, headDim: i32, work: usize): void {
  const groups = groupsOf(headDim);
  const inverse = f32x4.splat(1 / encodeRotated(key, work, headDim, true, RQ4_BITS));
  const row: usize = slot & 7;
  let codes = keys + ROTATED_SCALES_BYTES + usize((slot >> 3) * groups) * CODES_BYTES + (row >> 2) * 64 + (row & 3) * 4;
  for (let dim = 0; dim < headDim; dim += GROUP) {
    const w = work + usize(dim) * 4;
    let packed = codesSixteen(w, inverse, RQ4_BITS);
    if (headDim - dim > 16) packed = v128.or(packed, i16x8.shl(codesSixteen(w + 64, inverse, RQ4_BITS), 4));
    v128.store32_lane(codes, packed, 0, 0);
    v128.store32_lane(codes, packed, 1, 16);
    v128.store32_lane(codes, packed, 2, 32);
    v128.store32_lane(codes, packed, 3, 48);
    codes += CODES_BYTES;
  }
  store<u16>(rotatedScaleAt(keys, slot), load<u16>(work + usize(headDim) * 4));
}

/** Codes of sixteen w as bytes. */
// @ts-ignore: decorator
@inline
export function codesSixteen(w: usize, inverse: v128, bits: i32): v128 {
  return i8x16.narrow_i16x8_s(
    i16x8.narrow_i32x4_s(codesFour(w, inverse, bits), codesFour(w + 16, inverse, bits)),
    i16x8.narrow_i32x4_s(codesFour(w + 32, inverse, bits), codesFour(w + 48, inverse, bits)),
  );
}

/**
 * Writes value [headDim] f32 to column `slot` of the block's values: half a byte in each row, the other half is kept.
 */
export function appendValueRq4(values: usize, value: usize, slot: i32, headDim: i32, work: usize): void {
  const inverse = f32x4.splat(1 / encodeRotated(value, work, headDim, false, RQ4_BITS));
  const shift = 8 * (slot & 3) + 4 * (slot >> 4);
  const mask = i32x4.splat(15 << shift);
  let at = values + ROTATED_SCALES_BYTES + usize((slot & 15) >> 2) * 16;
  for (let dim: usize = 0; dim < usize(headDim); dim += 4) {
    const codes = i32x4.shl(codesFour(work + dim * 4, inverse, RQ4_BITS), shift);
    v128.store(at, v128.bitselect(codes, v128.load(at), mask));
    at += 64;
  }
  store<u16>(rotatedScaleAt(values, slot), load<u16>(work + usize(headDim) * 4));
}
