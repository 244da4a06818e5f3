// Codes of IQ3_XXS, whose values are 8 * code - 60, except -62 and 62 at the ends; four int8 at once. Sums stay below 256 before the
// sign bits are flipped, so that no byte carries into the next.
fn prepareCodes(local: u32) {}

/// Four nibbles, one a byte -> four int8.
fn codesOf(nibbles: u32) -> u32 {
  // 2 if the code is above 0, plus 2 if it is 15.
  let aboveFirst = ((nibbles + 0x0f0f0f0fu) >> 3u) & 0x02020202u;
  let isLast = ((nibbles + 0x01010101u) >> 3u) & 0x02020202u;
  return ((nibbles << 3u) + 0x42424242u + aboveFirst + isLast) ^ 0x80808080u;
}
