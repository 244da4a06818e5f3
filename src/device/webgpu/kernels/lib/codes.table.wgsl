// Codes that are indices into a table of 16 int8 values, which the kernel's block has four to a word in CODES_0 .. CODES_3. The table
// is in workgroup memory, one value per word: 16 banks, so that lanes never wait for each other.
var<workgroup> codeTable: array<u32, 16>;

/// Fills the table. Contains a barrier.
fn prepareCodes(local: u32) {
  if (local < 16u) {
    let words = vec4<u32>(CODES_0, CODES_1, CODES_2, CODES_3);
    codeTable[local] = (words[local / 4u] >> (8u * (local % 4u))) & 0xffu;
  }
  workgroupBarrier();
}

/// Four nibbles, one a byte -> four int8.
fn codesOf(nibbles: u32) -> u32 {
  return codeTable[nibbles & 15u] | (codeTable[(nibbles >> 8u) & 15u] << 8u)
    | (codeTable[(nibbles >> 16u) & 15u] << 16u) | (codeTable[nibbles >> 24u] << 24u);
}
