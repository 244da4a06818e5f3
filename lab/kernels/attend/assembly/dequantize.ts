// The rung that fused attention is compared with: expand a row-major int4 cache to float32, then attend to it in
// float32. Bench-only. It is meant to be a good implementation of the idea: SIMD throughout, the four query heads of a
// KV head in one pass over keys and values, the same exp2 and the same partials as the fused kernel.
// Cache: [kvHead][token] rows of the codec's bytes (src/cache/codec-int4.ts); expanded: [kvHead][token][headDim] f32.
// It takes whole groups of 32 dims, 4 query heads a KV head and one query, as the bench rows do.
import { exp2, madd, maxLanes, sumLanes } from "../../../../src/device/wasm/assembly/exp";
import { halfValue } from "../../../../src/device/wasm/assembly/kv-half";

const GROUP_BYTES: usize = 20;
const HEADS: usize = 4;
/** Tokens whose scores are held at a time. */
const TILE: usize = 64;
const ROW: usize = TILE * 4;

/** Groups [first, last) of 20 bytes each to 32 floats each. */
export function expand(codes: usize, out: usize, first: usize, last: usize): void {
  const mask = i8x16.splat(15);
  const end = codes + last * GROUP_BYTES;
  out += first * 128;
  for (let at = codes + first * GROUP_BYTES; at < end; at += GROUP_BYTES, out += 128) {
    const scale = halfValue(i32x4.splat(load<u16>(at)));
    const zero = halfValue(i32x4.splat(load<u16>(at, 2)));
    const bytes = v128.load(at, 4);
    expandSixteen(v128.and(bytes, mask), scale, zero, out);
    expandSixteen(v128.and(i16x8.shr_u(bytes, 4), mask), scale, zero, out + 64);
  }
}

// @ts-expect-error: decorator
@inline
function expandSixteen(codes: v128, scale: v128, zero: v128, out: usize): void {
  const low = i16x8.extend_low_i8x16_u(codes);
  const high = i16x8.extend_high_i8x16_u(codes);
  v128.store(out, madd(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(low)), scale, zero));
  v128.store(out, madd(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(low)), scale, zero), 16);
  v128.store(out, madd(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(high)), scale, zero), 32);
  v128.store(out, madd(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(high)), scale, zero), 48);
}

// @ts-expect-error: decorator
@inline
function sumOf(x: v128): f32 {
  return f32x4.extract_lane(sumLanes(x), 0);
}

/** Two tokens by four heads: [2, headDim] keys times [4, headDim] queries, to rows of scores. */
function scoreTwo(keys: usize, queries: usize, bytes: usize, scores: usize): void {
  let a0 = f32x4.splat(0);
  let a1 = a0;
  let a2 = a0;
  let a3 = a0;
  let b0 = a0;
  let b1 = a0;
  let b2 = a0;
  let b3 = a0;
  const q1 = queries + bytes;
  const q2 = q1 + bytes;
  const q3 = q2 + bytes;
  for (let i: usize = 0; i < bytes; i += 16) {
    const a = v128.load(keys + i);
    const b = v128.load(keys + bytes + i);
    let q = v128.load(queries + i);
    a0 = madd(a, q, a0);
    b0 = madd(b, q, b0);
    q = v128.load(q1 + i);
    a1 = madd(a, q, a1);
    b1 = madd(b, q, b1);
    q = v128.load(q2 + i);
    a2 = madd(a, q, a2);
    b2 = madd(b, q, b2);
    q = v128.load(q3 + i);
    a3 = madd(a, q, a3);
    b3 = madd(b, q, b3);
  }
  store<f32>(scores, sumOf(a0));
  store<f32>(scores + 4, sumOf(b0));
  store<f32>(scores + ROW, sumOf(a1));
  store<f32>(scores + ROW + 4, sumOf(b1));
  store<f32>(scores + 2 * ROW, sumOf(a2));
  store<f32>(scores + 2 * ROW + 4, sumOf(b2));
  store<f32>(scores + 3 * ROW, sumOf(a3));
  store<f32>(scores + 3 * ROW + 4, sumOf(b3));
}

/** Eight dims of `count` tokens' values times four rows of weights, added to the heads' totals. */
function weighEight(values: usize, bytes: usize, count: usize, weights: usize, totals: usize): void {
  let a0 = v128.load(totals);
  let b0 = v128.load(totals, 16);
  let a1 = v128.load(totals + bytes);
  let b1 = v128.load(totals + bytes, 16);
  let a2 = v128.load(totals + 2 * bytes);
  let b2 = v128.load(totals + 2 * bytes, 16);
  let a3 = v128.load(totals + 3 * bytes);
  let b3 = v128.load(totals + 3 * bytes, 16);
  for (let token: usize = 0; token < count; token++) {
    const a = v128.load(values);
    const b = v128.load(values, 16);
    let w = v128.load32_splat(weights);
    a0 = madd(a, w, a0);
    b0 = madd(b, w, b0);
    w = v128.load32_splat(weights, ROW);
    a1 = madd(a, w, a1);
    b1 = madd(b, w, b1);
    w = v128.load32_splat(weights, 2 * ROW);
    a2 = madd(a, w, a2);
    b2 = madd(b, w, b2);
    w = v128.load32_splat(weights, 3 * ROW);
    a3 = madd(a, w, a3);
    b3 = madd(b, w, b3);
    values += bytes;
    weights += 4;
  }
  v128.store(totals, a0);
  v128.store(totals, b0, 16);
  v128.store(totals + bytes, a1);
  v128.store(totals + bytes, b1, 16);
  v128.store(totals + 2 * bytes, a2);
  v128.store(totals + 2 * bytes, b2, 16);
  v128.store(totals + 3 * bytes, a3);
  v128.store(totals + 3 * bytes, b3, 16);
}

/**
 * One span of a KV head for its four query heads. keys, values [tokens, headDim] f32, tokens even; queries [4, headDim]
 * already times scale * log2(e); work: 1024 bytes for scores, then [4, headDim] totals; partials: per head
 * `partialStep` bytes apart, laid out as in attend.ts.
 */
export function attendFloat(
  keys: usize,
  values: usize,
  queries: usize,
  tokens: usize,
  headDim: usize,
  work: usize,
  partials: usize,
  partialStep: usize,
): void {
  const bytes = headDim * 4;
  const totals = work + HEADS * ROW;
  memory.fill(totals, 0, HEADS * bytes);
  for (let head: usize = 0; head < HEADS; head++) {
    store<f32>(partials + head * partialStep, -1e30);
    store<f32>(partials + head * partialStep, 0, 4);
  }
  for (let first: usize = 0; first < tokens; first += TILE) {
    const count = min(TILE, tokens - first);
    for (let token: usize = 0; token < count; token += 2) {
      scoreTwo(keys + (first + token) * bytes, queries, bytes, work + token * 4);
    }
    for (let head: usize = 0; head < HEADS; head++) {
      const row = work + head * ROW;
      for (let token = count; token & 3; token++) store<f32>(row + token * 4, -3e38);
      const total = totals + head * bytes;
      const partial = partials + head * partialStep;
      let most = v128.load(row);
      for (let i: usize = 16; i < count * 4; i += 16) most = f32x4.pmax(most, v128.load(row + i));
      const old = load<f32>(partial);
      const maximum = max(old, f32x4.extract_lane(maxLanes(most), 0));
      const maxima = f32x4.splat(maximum);
      if (maximum > old) {
        const factor = exp2(f32x4.splat(old - maximum));
        for (let i: usize = 0; i < bytes; i += 16) {
          v128.store(total + i, f32x4.mul(v128.load(total + i), factor));
        }
        store<f32>(partial, maximum);
        store<f32>(partial, load<f32>(partial, 4) * f32x4.extract_lane(factor, 0), 4);
      }
      let sums = f32x4.splat(0);
      for (let i: usize = 0; i < count * 4; i += 16) {
        const weight = exp2(f32x4.sub(v128.load(row + i), maxima));
        sums = f32x4.add(sums, weight);
        v128.store(row + i, weight);
      }
      store<f32>(partial, load<f32>(partial, 4) + sumOf(sums), 4);
    }
    for (let dim: usize = 0; dim < bytes; dim += 32) {
      weighEight(values + first * bytes + dim, bytes, count, work, totals + dim);
    }
  }
  for (let head: usize = 0; head < HEADS; head++) {
    memory.copy(partials + head * partialStep + 16, totals + head * bytes, bytes);
  }
}
