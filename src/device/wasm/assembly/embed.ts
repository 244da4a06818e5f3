// Decodes one row of a packed matrix to f32: the embedding of a token, from a matrix that the output may share. Four
// rows are decoded and one is kept; the others are in the same cache lines. Values equal those of format/blocks.ts bit
// for bit: a scale, a code and their product fit f32, so only adding a min rounds.
import {
  BF16, PANEL_HEAD, PANEL_ROWS, blockBytes, blockCols, hasBytes, hasMin, isWide, panelBytes, typeOf, zero,
} from "./matmul-layout";
import { blockMin, blockScale, codes, minOf, planesAt, scaleOf } from "./matmul-decode";
import { embedFloats } from "./matmul-float";
import { EMBED, kernelOf } from "./matmul-types";

/** out [cols] f32 = row `row` of the packed matrix w [rows, cols], times `scale`. */
export function embedRow(
  out: usize, w: usize, type: i32, rows: i32, cols: i32, row: i32, scale: f32,
): void {
  if (u32(row) >= u32(rows)) unreachable();
  const panel = w + usize(row / PANEL_ROWS) * panelBytes(type, cols);
  if (type <= BF16) embedFloats(out, panel, type, cols, row % PANEL_ROWS);
  else kernelOf(type, EMBED)(out, panel, usize(row % PANEL_ROWS), 0, cols);
  if (scale == 1) return;
  for (let c: usize = 0; c < usize(cols) * 4; c += 4) store<f32>(out + c, load<f32>(out + c) * scale);
}

/** out [cols] f32 = row `row` (0 to 7) of a panel. */
export function embedPanelRow<T>(out: usize, panel: usize, row: usize, cols: i32): void {
  const factor = v128.load32_splat(panel);
  let w = panel + PANEL_HEAD;
  const quad = row >> 2;
  const place = i32x4.splat(0x03020100 + i32(row & 3) * 0x04040404);
  const end = w + usize(cols / blockCols(typeOf<T>())) * blockBytes(typeOf<T>());
  for (; w < end; w += blockBytes(typeOf<T>())) {
    const d = f32x4.mul(blockScale<T>(w, quad), factor);
    const dMin = hasMin(typeOf<T>()) ? f32x4.mul(blockMin<T>(w, quad), factor) : d;
    for (let sub = 0; sub < blockCols(typeOf<T>()) / 32; sub++, out += 128) {
      embedHalf<T>(out, w, d, dMin, sub, 0, row, place);
      embedHalf<T>(out + 64, w, d, dMin, sub, 1, row, place);
    }
  }
}

// @ts-ignore: decorator
@inline function embedHalf<T>(
  out: usize, block: usize, d: v128, dMin: v128, sub: usize, half: i32, row: usize, place: v128,
): void {
  const quad = row >> 2;
  const planes = planesAt<T>(block, i32(sub));
  const scale = i8x16.swizzle(scaleOf<T>(block, d, sub, half, quad), place);
  const min = hasMin(typeOf<T>()) ? i8x16.swizzle(minOf<T>(block, dMin, sub, half, quad), place) : scale;
  embedGroup<T>(out, planes, half * 4, row, scale, min, place);
  embedGroup<T>(out + 16, planes, half * 4 + 1, row, scale, min, place);
  embedGroup<T>(out + 32, planes, half * 4 + 2, row, scale, min, place);
  embedGroup<T>(out + 48, planes, half * 4 + 3, row, scale, min, place);
}

/** Four columns. place: the byte indices of the row's lane, four times. */
// @ts-ignore: decorator
@inline function embedGroup<T>(
  out: usize, planes: usize, group: i32, row: usize, scale: v128, min: v128, place: v128,
): void {
  let four: v128;
  if (hasBytes(typeOf<T>())) {
    const at = planes + group * 32 + (row >> 2) * 16 + (row & 3) * 2;
    four = i32x4.splat(load<i8>(at));
    four = i32x4.replace_lane(four, 1, load<i8>(at, 8));
    four = i32x4.replace_lane(four, 2, load<i8>(at, 1));
    four = i32x4.replace_lane(four, 3, load<i8>(at, 9));
  } else {
    const bytes = i8x16.swizzle(codes<T>(planes + (row >> 2) * 16, 0, group), place);
    four = isWide(typeOf<T>())
      ? i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(bytes))
      : i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(bytes));
  }
  let y = f32x4.mul(scale, f32x4.convert_i32x4_s(i32x4.sub(four, i32x4.splat(zero(typeOf<T>())))));
  if (hasMin(typeOf<T>())) y = f32x4.add(y, min);
  v128.store(out, y);
}
