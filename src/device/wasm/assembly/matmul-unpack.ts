// Unpacks a slice of a packed panel into scratch, in a form that no longer depends on the type. Prompts are multiplied
// in this form (matmul-tile.ts).
//
// Unpacked, every type is the same (codes of at most 7 bits with one common zero, or 16-bit codes; f32 scales and
// mins), so a few tile kernels serve all types, and all tokens share the work of decoding. A slice is up to SLICE
// columns; in scratch, for every 32 columns:
// [steps of 32 bytes: codes of 8 rows x a group (narrow, 8 steps) or x half a group (wide, 16 steps)]
// [scales f32 x 8, twice if halves have their own][mins likewise, if the type has them]
import { Q5_1, Q5_K, blockBytes, blockCols, hasHalves, hasMin, typeOf, zero } from "./matmul-layout";
import { blockMin, blockScale, codes, minOf, planesAt, scaleOf, wide, wideCodes } from "./matmul-decode";

/** Columns unpacked at a time: codes, scales and 4 tokens' activations then fit a 48 KB first-level cache. */
export const SLICE: i32 = 1024;
/** Bytes of scratch for a slice of the largest kind (wide, halves, mins). */
export const SLICE_BYTES: usize = usize(SLICE / 32) * (512 + 64 + 64);

/** The common zero of narrow codes, for which quantized activations have ZERO and HALF_ZERO. */
// @ts-ignore: decorator
@inline function commonZero<T>(): i32 {
  return hasHalves(typeOf<T>()) ? 32 : 16;
}

/** Unpacks `cols` columns (whole blocks), at w in the panel, into scratch. */
export function unpackSlice<T>(scratch: usize, w: usize, panel: usize, cols: i32): void {
  const factor = v128.load32_splat(panel);
  const end = w + usize(cols / blockCols(typeOf<T>())) * blockBytes(typeOf<T>());
  let to = scratch;
  for (; w < end; w += blockBytes(typeOf<T>())) {
    for (let sub = 0; sub < blockCols(typeOf<T>()) / 32; sub++) {
      const planes = planesAt<T>(w, sub);
      unpackCodes<T>(to, planes, 0);
      unpackCodes<T>(to, planes, 1);
      to += wide<T>() ? 512 : 256;
      unpackScales<T>(to, w, factor, sub, 0);
      unpackScales<T>(to + 16, w, factor, sub, 1);
      to += scaleBytes<T>();
    }
  }
}

// @ts-ignore: decorator
@inline function unpackCodes<T>(to: usize, planes: usize, quad: usize): void {
  unpackGroup<T>(to, planes, quad, 0);
  unpackGroup<T>(to, planes, quad, 4);
  unpackGroup<T>(to, planes, quad, 1);
  unpackGroup<T>(to, planes, quad, 5);
  unpackGroup<T>(to, planes, quad, 2);
  unpackGroup<T>(to, planes, quad, 6);
  unpackGroup<T>(to, planes, quad, 3);
  unpackGroup<T>(to, planes, quad, 7);
}

// @ts-ignore: decorator
@inline function unpackGroup<T>(to: usize, planes: usize, quad: usize, group: i32): void {
  if (wide<T>()) {
    const less = i16x8.splat(<i16>zero(typeOf<T>()));
    v128.store(to + group * 64 + quad * 16, i16x8.sub(wideCodes<T>(planes, quad, group, false), less));
    v128.store(to + group * 64 + quad * 16 + 32, i16x8.sub(wideCodes<T>(planes, quad, group, true), less));
  } else {
    const more = i8x16.splat(<i8>(isBiased<T>() ? 0 : commonZero<T>() - zero(typeOf<T>())));
    v128.store(to + group * 32 + quad * 16, i8x16.add(codes<T>(planes, quad, group), more));
  }
}

/** Unsigned 5-bit codes are kept, as if their zero were 16; their min compensates for it. */
// @ts-ignore: decorator
@inline function isBiased<T>(): bool {
  return !wide<T>() && (typeOf<T>() == Q5_1 || typeOf<T>() == Q5_K);
}

// @ts-ignore: decorator
@inline function unpackScales<T>(to: usize, block: usize, factor: v128, sub: i32, quad: usize): void {
  const d = f32x4.mul(blockScale<T>(block, quad), factor);
  const scale = scaleOf<T>(block, d, sub, 0, quad);
  v128.store(to, scale);
  if (hasHalves(typeOf<T>())) v128.store(to, scaleOf<T>(block, d, sub, 1, quad), 32);
  if (!hasMin(typeOf<T>())) return;
  const dMin = f32x4.mul(blockMin<T>(block, quad), factor);
  let min = minOf<T>(block, dMin, sub, 0, quad);
  if (isBiased<T>()) min = f32x4.add(min, f32x4.mul(scale, f32x4.splat(16)));
  v128.store(to + (hasHalves(typeOf<T>()) ? 64 : 32), min);
  if (hasHalves(typeOf<T>())) v128.store(to, minOf<T>(block, dMin, sub, 1, quad), 96);
}

/** Bytes of scales and mins of 32 columns in scratch. */
// @ts-ignore: decorator
@inline export function scaleBytes<T>(): usize {
  return (hasHalves(typeOf<T>()) ? 64 : 32) * (hasMin(typeOf<T>()) ? 2 : 1);
}
