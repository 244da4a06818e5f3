// Codes of IQ1 types: two bits for -1, 0 and 1, and one bit for the direction in which they are shifted by an eighth. In eighths: 8 *
// (two bits) - 7, less 2 if bit 2 is set; four int8 at once. Sums are below 256 before the sign bits are flipped.
fn prepareCodes(local: u32) {}

/// Four codes, one a byte -> four int8.
fn codesOf(codes: u32) -> u32 {
  return (((codes & 0x03030303u) << 3u) + 0x79797979u - ((codes >> 1u) & 0x02020202u)) ^ 0x80808080u;
}
