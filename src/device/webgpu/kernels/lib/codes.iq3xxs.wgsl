// Ranks among IQ3_XXS's values, 8 * code - 60 but for the ends, -62 and 62; four int8 at once. Sums stay below 256 before the
// upper bits are turned, so that no byte carries into the next.
fn prepareCodes(local: u32) {}

/// Four nibbles, one a byte -> four int8.
fn codesOf(nibbles: u32) -> u32 {
  // 2 where the code is above 0, and 2 where it is 15.
  let aboveFirst = ((nibbles + 0x0f0f0f0fu) >> 3u) & 0x02020202u;
  let isLast = ((nibbles + 0x01010101u) >> 3u) & 0x02020202u;
  return ((nibbles << 3u) + 0x42424242u + aboveFirst + isLast) ^ 0x80808080u;
}
