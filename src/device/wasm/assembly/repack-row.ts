// Packs one row of a quantized type into its panel; repack-source.ts knows the file's layout of codes and scales.
//
// Whatever the file's order, a block is read as groups of four codes, one byte each in a u32; the packed planes are
// these words, shifted and combined. Values are only reordered, so nothing is lost.
import { PANEL_HEAD, blockBytes, blockCols, hasBytes, hasFives, hasNibbles, hasPairs, hasSingles, hasSixes, typeOf } from "./matmul-layout";
import { planesAt } from "./matmul-decode";
import { fourCodes, packHead, sourceBytes } from "./repack-source";

/**
 * Packs the row at `source` as row `row` (0 to 7) of a panel, whose f16 scales get `shift` added to their exponents.
 */
export function repackRow<T>(panel: usize, source: usize, row: usize, shift: usize, cols: i32): void {
  let to = panel + PANEL_HEAD;
  const end = source + usize(cols / blockCols(typeOf<T>())) * sourceBytes(typeOf<T>());
  for (; source < end; source += sourceBytes(typeOf<T>()), to += blockBytes(typeOf<T>())) {
    packHead<T>(to, row, source, u32(shift));
    for (let sub = 0; sub < blockCols(typeOf<T>()) / 32; sub++) {
      packPlanes<T>(planesAt<T>(to, sub), row, source, sub);
    }
  }
}

// Bits of four 5-bit codes.
const LOW_THREE: u32 = 0x07070707;
const HIGH_TWO: u32 = 0x18181818;
const FOURTH: u32 = 0x08080808;
const FIFTH: u32 = 0x10101010;

/** Codes of 32 columns of one row: its word in each plane vector, or its half-words if codes are bytes. */
// @ts-ignore: decorator
@inline function packPlanes<T>(planes: usize, row: usize, source: usize, sub: i32): void {
  if (hasBytes(typeOf<T>())) {
    for (let g = 0; g < 8; g++) {
      const c = fourCodes<T>(source, sub, g);
      const at = planes + g * 32 + (row >> 2) * 16 + (row & 3) * 2;
      store<u16>(at, (c & 0xff) | ((c >> 8) & 0xff00));
      store<u16>(at, ((c >> 8) & 0xff) | ((c >> 16) & 0xff00), 8);
    }
    return;
  }
  let at = planes + row * 4;
  if (hasFives(typeOf<T>())) {
    const five = fourCodes<T>(source, sub, 5), six = fourCodes<T>(source, sub, 6), seven = fourCodes<T>(source, sub, 7);
    store<u32>(at, fourCodes<T>(source, sub, 0) | ((five & LOW_THREE) << 5));
    store<u32>(at, fourCodes<T>(source, sub, 1) | ((five & HIGH_TWO) << 3) | ((seven & FOURTH) << 2), 32);
    store<u32>(at, fourCodes<T>(source, sub, 2) | ((six & LOW_THREE) << 5), 64);
    store<u32>(at, fourCodes<T>(source, sub, 3) | ((six & HIGH_TWO) << 3) | ((seven & FIFTH) << 1), 96);
    store<u32>(at, fourCodes<T>(source, sub, 4) | ((seven & LOW_THREE) << 5), 128);
    return;
  }
  if (hasSixes(typeOf<T>())) {
    for (let g = 0; g < 8; g += 4, at += 96) {
      const last = fourCodes<T>(source, sub, g + 3);
      store<u32>(at, fourCodes<T>(source, sub, g) | ((last & 0x03030303) << 6));
      store<u32>(at, fourCodes<T>(source, sub, g + 1) | ((last & 0x0c0c0c0c) << 4), 32);
      store<u32>(at, fourCodes<T>(source, sub, g + 2) | ((last & 0x30303030) << 2), 64);
    }
    return;
  }
  if (hasNibbles(typeOf<T>())) {
    for (let g = 0; g < 4; g++, at += 32) {
      const low = fourCodes<T>(source, sub, g) & 0x0f0f0f0f;
      store<u32>(at, low | ((fourCodes<T>(source, sub, g + 4) & 0x0f0f0f0f) << 4));
    }
  }
  if (hasPairs(typeOf<T>())) {
    for (let g = 0; g < 8; g += 4, at += 32) {
      let word: u32 = 0;
      for (let i = 0; i < 4; i++) word |= (fourCodes<T>(source, sub, g + i) & 0x03030303) << (2 * i);
      store<u32>(at, word);
    }
  }
  if (hasSingles(typeOf<T>())) {
    let word: u32 = 0;
    for (let g = 0; g < 8; g++) word |= ((fourCodes<T>(source, sub, g) >> 2) & 0x01010101) << g;
    store<u32>(at, word);
  }
}
