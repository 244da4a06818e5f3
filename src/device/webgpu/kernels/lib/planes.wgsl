// Reads codes of keys and values from blocks (kv.ts), of 4 bits or of 3. The kernel declares GROUPS, KEY_GROUPS, KEY_BITS, VALUE_BITS
// and the bindings `keys`, `values`.

// 3 bits: 32 codes are three words, x, y and z. The two halves of a word hold five pairs of codes, at bits 0, 3, 6, 9 and 12. Pair p
// of all 16 has codes i and i + 2, with i = p / 4 * 4 + p % 2 + p % 4 / 2 * 16. The last pair has its bits in the highest bits of x, y
// and z.
const PAIR: u32 = 0x00070007u;
// Where the third words begin in a block. Keys of one or two groups have no gaps.
const KEY_HIGHS_AT: u32 = (KEY_GROUPS + 1u) / 2u * 32u;
const VALUE_HIGHS_AT: u32 = GROUPS * 16u;

// Words that are used and no others: in k3c-v3r's attendDecodePacked, 16-byte loads whose parts were chosen afterwards took 105.8 us
// instead of 87.6 (64/8 heads of 128 after 131,072 tokens, H200), by registers that waited for them.

// A token's codes of a group of dims.
fn keyCodes(block: u32, group: u32, token: u32) -> vec4<u32> {
  if (KEY_BITS == 3u) {
    let low = block + group / 2u * 32u + token;
    let i = group % 2u * 2u;
    let at = select(group / 4u * 128u + token * 4u + group % 4u, token * KEY_GROUPS + group, KEY_GROUPS < 3u);
    return vec4<u32>(keys[low][i], keys[low][i + 1u], keys[block + KEY_HIGHS_AT + at / 4u][at % 4u], 0u);
  }
  return keys[block + group * 32u + token];
}

// A dim's codes of all tokens of a block, likewise.
fn valueCodes(block: u32, dim: u32) -> vec4<u32> {
  if (VALUE_BITS == 3u) {
    let low = block + dim / 16u * 8u + dim % 8u;
    let i = dim % 16u / 8u * 2u;
    return vec4<u32>(values[low][i], values[low][i + 1u], values[block + VALUE_HIGHS_AT + dim / 32u * 8u + dim % 8u][dim % 32u / 8u], 0u);
  }
  return values[block + dim];
}

// Codes in the order of 4-bit codes: code i in the low half of byte i, code i + 16 in its high half.
fn nibbleWords(codes: vec4<u32>, bits: u32) -> vec4<u32> {
  if (bits == 3u) {
    let apart = codesApart(codes, bits);
    return apart[0] | (apart[1] << vec4<u32>(4u));
  }
  return codes;
}

// One word of a dim's codes: tokens 4 word to 4 word + 3, and the four that are 16 further.
fn valueNibbles(block: u32, dim: u32, word: u32) -> u32 {
  if (VALUE_BITS == 3u) {
    let codes = valueCodes(block, dim);
    // Four codes of each half: the end of one word, and the beginning of the next.
    let left = vec4<u32>(codes.x, codes.x >> 12u, codes.y >> 9u, codes.z >> 6u);
    let right = vec4<u32>(0u, codes.y << 3u, codes.z << 6u, lastPair(codes) << 9u);
    let masks = vec4<u32>(0x0fff0fffu, 0x00070007u, 0x003f003fu, 0x01ff01ffu);
    let four = (left[word] & masks[word]) | (right[word] & ~masks[word] & 0x0fff0fffu);
    return (four & PAIR) | ((four & 0x00380038u) << 5u) | ((four & 0x01c001c0u) >> 2u) | ((four & 0x0e000e00u) << 3u);
  }
  return values[block + dim][word];
}

// Codes 0 to 15, one per byte, then 16 to 31.
fn codesApart(codes: vec4<u32>, bits: u32) -> array<vec4<u32>, 2> {
  if (bits == 3u) {
    let a = vec4<u32>(codes.x, codes.x >> 12u, codes.y >> 9u, codes.z >> 6u) & vec4<u32>(PAIR);
    let b = vec4<u32>(codes.x >> 3u, codes.y, codes.y >> 12u, codes.z >> 9u) & vec4<u32>(PAIR);
    let c = vec4<u32>(codes.x >> 6u, codes.y >> 3u, codes.z, codes.z >> 12u) & vec4<u32>(PAIR);
    let d = vec4<u32>(codes.x >> 9u, codes.y >> 6u, codes.z >> 3u, lastPair(codes)) & vec4<u32>(PAIR);
    return array<vec4<u32>, 2>(a | (b << vec4<u32>(8u)), c | (d << vec4<u32>(8u)));
  }
  return array<vec4<u32>, 2>(codes & vec4<u32>(0x0f0f0f0fu), (codes >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu));
}

// 3 bits: the sixteenth pair, one bit from each half of each word.
fn lastPair(codes: vec4<u32>) -> u32 {
  return ((codes.x >> 15u) & 0x00010001u) | ((codes.y >> 14u) & 0x00020002u) | ((codes.z >> 13u) & 0x00040004u);
}
