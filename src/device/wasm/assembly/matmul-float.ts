// Float weights (f32, f16, bf16) times f32 activations. Layout: the 8 rows' values of a column are adjacent, so a
// broadcast activation is multiplied with 8 rows in two vectors. These types serve small models and tests, so one
// kernel of 8 rows x 4 tokens does one token and many (a single token is repeated).
import { BF16, F32 } from "./matmul-layout";
import { madd } from "./exp";
import { f16x4 } from "./matmul-decode";

// @ts-ignore: decorator
@unmanaged class f32Weights { @inline get id(): i32 { return 0; } }
// @ts-ignore: decorator
@unmanaged class f16Weights { @inline get id(): i32 { return 1; } }
// @ts-ignore: decorator
@unmanaged class bf16Weights { @inline get id(): i32 { return 2; } }

/** Four rows' weights of one column. */
// @ts-ignore: decorator
@inline function four<T>(at: usize, quad: usize): v128 {
  const type = changetype<T>(0).id;
  if (type == 0) return v128.load(at + quad * 16);
  if (type == 1) return f16x4(at + quad * 8);
  return i32x4.shl(v128.load16x4_u(at + quad * 8), 16);
}

/** sums [4, 8] = 8 rows of w times the tokens x0..x3, [cols] f32 each. Equal tokens are not loaded twice. */
export function floatPanel(
  sums: usize, w: usize, type: i32, cols: i32, x0: usize, x1: usize, x2: usize, x3: usize,
): void {
  if (type == F32) floatTile<f32Weights>(sums, w, 32, cols, x0, x1, x2, x3);
  else if (type == BF16) floatTile<bf16Weights>(sums, w, 16, cols, x0, x1, x2, x3);
  else floatTile<f16Weights>(sums, w, 16, cols, x0, x1, x2, x3);
}

function floatTile<T>(
  sums: usize, w: usize, step: usize, cols: i32, x0: usize, x1: usize, x2: usize, x3: usize,
): void {
  let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0;
  let b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  const end = usize(cols) * 4;
  if (x0 == x3) {
    for (let c: usize = 0; c < end; c += 4, w += step) {
      const x = v128.load32_splat(x0 + c);
      a0 = madd(x, four<T>(w, 0), a0);
      b0 = madd(x, four<T>(w, 1), b0);
    }
  } else {
    for (let c: usize = 0; c < end; c += 4, w += step) {
      const wa = four<T>(w, 0);
      const wb = four<T>(w, 1);
      let x = v128.load32_splat(x0 + c);
      a0 = madd(x, wa, a0);
      b0 = madd(x, wb, b0);
      x = v128.load32_splat(x1 + c);
      a1 = madd(x, wa, a1);
      b1 = madd(x, wb, b1);
      x = v128.load32_splat(x2 + c);
      a2 = madd(x, wa, a2);
      b2 = madd(x, wb, b2);
      x = v128.load32_splat(x3 + c);
      a3 = madd(x, wa, a3);
      b3 = madd(x, wb, b3);
    }
  }
  v128.store(sums, a0);
  v128.store(sums, b0, 16);
  v128.store(sums, a1, 32);
  v128.store(sums, b1, 48);
  v128.store(sums, a2, 64);
  v128.store(sums, b2, 80);
  v128.store(sums, a3, 96);
  v128.store(sums, b3, 112);
}

/** out [cols] f32 = one row of a packed float panel. */
export function embedFloats(out: usize, w: usize, type: i32, cols: i32, row: i32): void {
  const quad = usize(row >> 2);
  const place = i32x4.splat(0x03020100 + (row & 3) * 0x04040404);
  for (let c: usize = 0; c < usize(cols) * 4; c += 4, w += type == F32 ? 32 : 16) {
    let value: v128;
    if (type == F32) value = four<f32Weights>(w, quad);
    else if (type == BF16) value = four<bf16Weights>(w, quad);
    else value = four<f16Weights>(w, quad);
    store<f32>(out + c, f32x4.extract_lane(i8x16.swizzle(value, place), 0));
  }
}
