// Codes of IQ2 types: two bits for the magnitudes 8, 25 and 43, and one for the sign: 8 + 17 * bit 0 + 35 * bit 1, negative if bit 2
// is set; four int8 at once.
fn prepareCodes(local: u32) {}

/// Four codes, one a byte -> four int8.
fn codesOf(codes: u32) -> u32 {
  let magnitude = (codes & 0x01010101u) * 17u + ((codes >> 1u) & 0x01010101u) * 35u + 0x08080808u;
  let negative = (codes >> 2u) & 0x01010101u;
  // The complement of a byte, plus 1. No magnitude is 0, so no byte carries.
  return (magnitude ^ (negative * 255u)) + negative;
}
