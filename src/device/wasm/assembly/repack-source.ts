// The file's layout of a block's scales and codes, for one row: GGUF's blocks (ggml-common.h) and our MLX blocks
// (format/tensor.ts). Codes are read as four neighbours at once, a byte each; `group` g means columns 4g..4g+3 of 32
// (`sub`).
import {
  BF16, F32, IQ4_NL, IQ4_XS, MLX8_G32, MXFP4, NVFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, blockCols,
  isGrid, isGrid4, isMlx, isTernary, typeOf,
} from "./matmul-layout";

/** Bytes of a block in the file. */
// @ts-ignore: decorator
@inline export function sourceBytes(T: i32): usize {
  if (T == Q4_0 || T == IQ4_NL) return 18;
  if (T == Q4_1) return 20;
  if (T == Q5_0) return 22;
  if (T == Q5_1) return 24;
  if (T == Q8_0) return 34;
  if (T == Q2_K) return 84;
  if (T == Q3_K) return 110;
  if (T == Q4_K) return 144;
  if (T == Q5_K) return 176;
  if (T == Q6_K) return 210;
  if (T == IQ4_XS) return 136;
  if (T == MXFP4) return 17;
  if (T == NVFP4) return 40;
  if (isTernary(T)) return 18;
  if (isGrid(T)) return 18 + 256; // [d][odd scales, u8 x 16][codes, u8 x 256]: ../staged.ts
  return 8 + usize(T >= MLX8_G32 ? blockCols(T) : blockCols(T) / 2);
}

/** Bytes of a row of any type in the file. */
export function sourceRowBytes(type: i32, cols: i32): usize {
  if (type == F32) return usize(cols) * 4;
  if (type <= BF16) return usize(cols) * 2;
  return usize(cols / blockCols(type)) * sourceBytes(type);
}

/** Four codes of a row, unsigned, one a byte (byte types: signed). */
// @ts-ignore: decorator
@inline export function fourCodes<T>(from: usize, sub: i32, group: i32): u32 {
  if (typeOf<T>() == Q8_0) return load<u32>(from + group * 4, 2);
  if (isTernary(typeOf<T>())) {
    const four = u32(load<u8>(from + sub * 8 + group, 2));
    return (four | (four << 6) | (four << 12) | (four << 18)) & 0x03030303;
  }
  if (typeOf<T>() == NVFP4) {
    const word = load<u32>(from + sub * 16 + (group >> 2) * 8 + (group & 1) * 4, 8);
    return (word >> (((group >> 1) & 1) * 4)) & 0x0f0f0f0f;
  }
  if (isGrid(typeOf<T>())) return load<u32>(from + sub * 32 + group * 4, 18);
  if (typeOf<T>() >= MLX8_G32) return load<u32>(from + sub * 32 + group * 4, 8) ^ 0x80808080;
  if (isMlx(typeOf<T>())) {
    const packed = u32(load<u16>(from + sub * 16 + group * 2, 8));
    const pairs = (packed | (packed << 8)) & 0x00ff00ff;
    return (pairs | (pairs << 4)) & 0x0f0f0f0f;
  }
  if (typeOf<T>() == Q2_K) return twoBits(from + 16, sub, group);
  if (typeOf<T>() == Q3_K) {
    return twoBits(from + 32, sub, group) | (((load<u32>(from + group * 4) >> sub) & 0x01010101) << 2);
  }
  if (typeOf<T>() == Q6_K) {
    const low = load<u32>(from + (sub >> 2) * 64 + (sub & 1) * 32 + group * 4) >> (((sub >> 1) & 1) * 4);
    return (low & 0x0f0f0f0f) | (twoBits(from + 128, sub, group) << 4);
  }
  if (typeOf<T>() == Q4_K) return neighbours(from + 16, sub, group);
  if (typeOf<T>() == Q5_K) {
    return neighbours(from + 48, sub, group) | (((load<u32>(from + 16 + group * 4) >> sub) & 0x01010101) << 4);
  }
  if (typeOf<T>() == Q4_1) return halves(from + 4, group);
  if (typeOf<T>() == Q5_0) return halves(from + 6, group) | fifthBits(from + 2, group);
  if (typeOf<T>() == Q5_1) return halves(from + 8, group) | fifthBits(from + 4, group);
  if (typeOf<T>() == MXFP4) return halves(from + 1, group);
  if (typeOf<T>() == IQ4_XS) return halves(from + 8 + sub * 16, group);
  return halves(from + 2, group);
}

/** 16 bytes: low nibbles are columns 0..15, high nibbles 16..31. */
// @ts-ignore: decorator
@inline function halves(at: usize, group: i32): u32 {
  return (load<u32>(at + (group & 3) * 4) >> ((group >> 2) * 4)) & 0x0f0f0f0f;
}

/** K types: 32 bytes hold the nibbles of two subs. */
// @ts-ignore: decorator
@inline function neighbours(at: usize, sub: i32, group: i32): u32 {
  return (load<u32>(at + (sub >> 1) * 32 + group * 4) >> ((sub & 1) * 4)) & 0x0f0f0f0f;
}

/** K types: 32 bytes hold the bit pairs of four subs. */
// @ts-ignore: decorator
@inline function twoBits(at: usize, sub: i32, group: i32): u32 {
  return (load<u32>(at + (sub >> 2) * 32 + group * 4) >> ((sub & 3) * 2)) & 0x03030303;
}

/** A 32-bit word with bit k for column k: moves four of its bits to bit 4 of four bytes. */
// @ts-ignore: decorator
@inline function fifthBits(at: usize, group: i32): u32 {
  return ((((load<u32>(at) >> (group * 4)) & 15) * 0x00204081) & 0x01010101) << 4;
}

/** The offset of a block's f16 scale; -1 for types that have none. */
// @ts-ignore: decorator
@inline export function scaleOffset(T: i32): i32 {
  if (T == Q2_K) return 80;
  if (T == Q3_K) return 108;
  if (T == Q6_K) return 208;
  return T == MXFP4 || T == NVFP4 || isMlx(T) ? -1 : 0;
}

/** The offset of a block's f16 min (or the unit of its mins), or -1. */
// @ts-ignore: decorator
@inline export function minOffset(T: i32): i32 {
  if (T == Q2_K) return 82;
  return T == Q4_1 || T == Q5_1 || T == Q4_K || T == Q5_K ? 2 : -1;
}

/** Writes the scales of one row's block into the packed block's head. */
// @ts-ignore: decorator
@inline export function packHead<T>(to: usize, row: usize, from: usize, shift: u32): void {
  if (scaleOffset(typeOf<T>()) >= 0) packHalf(to + row * 2, from + scaleOffset(typeOf<T>()), shift);
  if (minOffset(typeOf<T>()) >= 0) packHalf(to + 16 + row * 2, from + minOffset(typeOf<T>()), shift);
  if (isMlx(typeOf<T>())) {
    store<u32>(to + row * 4, load<u32>(from));
    store<u32>(to + row * 4, load<u32>(from, 4), 32);
  } else if (typeOf<T>() == MXFP4) {
    store<u8>(to + row, load<u8>(from));
  } else if (typeOf<T>() == NVFP4) {
    // NaN is 0, as in ggml.
    for (let i = 0; i < 4; i++) {
      const scale = load<u8>(from + i, 4);
      store<u8>(to + i * 8 + row, scale == 0x7f ? 0 : scale & 0x7f);
    }
  } else if (typeOf<T>() == Q2_K) {
    for (let i = 0; i < 16; i++) store<u8>(to + i * 8 + row, load<u8>(from + i), 32);
  } else if (typeOf<T>() == Q3_K) {
    for (let i = 0; i < 16; i++) {
      const low = (load<u8>(from + (i & 7), 96) >> u8((i >> 3) * 4)) & 15;
      const high = (load<u8>(from + (i & 3), 104) >> u8((i >> 2) * 2)) & 3;
      store<u8>(to + i * 8 + row, (low | (high << 4)) - 32, 16);
    }
  } else if (typeOf<T>() == Q6_K) {
    for (let i = 0; i < 16; i++) store<u8>(to + i * 8 + row, load<u8>(from + i, 192), 16);
  } else if (isGrid4(typeOf<T>())) {
    for (let i = 0; i < 8; i++) store<u8>(to + i * 8 + row, load<u8>(from + 2 * i, 2), 16);
  } else if (isGrid(typeOf<T>())) {
    for (let i = 0; i < 16; i++) store<u8>(to + i * 8 + row, load<u8>(from + i, 2), 16);
  } else if (typeOf<T>() == Q4_K || typeOf<T>() == Q5_K) {
    for (let i = 0; i < 8; i++) {
      store<u8>(to + i * 16 + row, sixBits(from + 4, i, 0), 32);
      store<u8>(to + i * 16 + row, sixBits(from + 4, i, 4), 40);
    }
  } else if (typeOf<T>() == IQ4_XS) {
    for (let i = 0; i < 8; i++) {
      const low = (load<u8>(from + (i >> 1), 4) >> u8((i & 1) * 4)) & 15;
      const high = u8(load<u16>(from, 2) >> u16(i * 2)) & 3;
      store<u8>(to + i * 8 + row, (low | (high << 4)) - 32, 16);
    }
  }
}

/** An f16 times 2^shift, exact: shift is 0, or 10 for values below 64, which makes subnormal values normal. */
// @ts-ignore: decorator
@inline function packHalf(to: usize, from: usize, shift: u32): void {
  let half = u32(load<u16>(from));
  const magnitude = half & 0x7fff;
  if (shift != 0 && magnitude != 0) {
    if (magnitude >= 0x400) {
      half += shift << 10;
    } else {
      const up = clz(magnitude) - 21; // to bring the highest bit to bit 10
      half = (half & 0x8000) | (((shift + 1 - up) << 10) + ((magnitude << up) & 0x3ff));
    }
  }
  store<u16>(to, u16(half));
}

/** q4_k and q5_k: scale (part 0) or min (part 4) of sub i; the first four are whole, the others in two pieces. */
// @ts-ignore: decorator
@inline function sixBits(at: usize, i: i32, part: i32): u8 {
  if (i < 4) return load<u8>(at + i + part) & 63;
  const low = (load<u8>(at + i, 4) >> u8(part)) & 15;
  return low | ((load<u8>(at + i - 4 + part) >> 6) << 4);
}
