// Codes that are used as numbers.
fn prepareCodes(local: u32) {}

/// Four nibbles, one a byte -> four int8.
fn codesOf(nibbles: u32) -> u32 {
  return nibbles;
}
