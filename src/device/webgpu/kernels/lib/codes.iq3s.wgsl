// Codes of IQ3_S, whose values are two apart: 2 * code - 15, four int8 at once. Sums stay below 256 before the sign bits are flipped,
// so that no byte carries into the next.
fn prepareCodes(local: u32) {}

/// Four nibbles, one a byte -> four int8.
fn codesOf(nibbles: u32) -> u32 {
  return ((nibbles << 1u) + 0x71717171u) ^ 0x80808080u;
}
