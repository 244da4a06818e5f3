// Codes of keys and values as blocks hold them (kv.ts), of 4 bits, or of 3 in two planes. The kernel declares GROUPS, KEY_BITS,
// VALUE_BITS and the bindings `keys`, `values`.

// 3 bits: where the planes of high bits begin in a block. Keys of one or two groups lie without gaps.
const KEY_HIGHS_AT: u32 = (GROUPS + 1u) / 2u * 32u;
const VALUE_HIGHS_AT: u32 = GROUPS * 16u;

// A token's codes of a group of dims. 3 bits: low bits in x and y, high ones in z.
fn keyCodes(block: u32, group: u32, token: u32) -> vec4<u32> {
  if (KEY_BITS == 3u) {
    let low = keys[block + group / 2u * 32u + token];
    let at = select(group / 4u * 128u + token * 4u + group % 4u, token * GROUPS + group, GROUPS < 3u);
    return vec4<u32>(select(low.xy, low.zw, group % 2u == 1u), keys[block + KEY_HIGHS_AT + at / 4u][at % 4u], 0u);
  }
  return keys[block + group * 32u + token];
}

// A dim's codes of a block's tokens, likewise.
fn valueCodes(block: u32, dim: u32) -> vec4<u32> {
  if (VALUE_BITS == 3u) {
    let low = values[block + dim / 16u * 8u + dim % 8u];
    let high = values[block + VALUE_HIGHS_AT + dim / 32u * 8u + dim % 8u];
    return vec4<u32>(select(low.xy, low.zw, dim % 16u >= 8u), high[dim % 32u / 8u], 0u);
  }
  return values[block + dim];
}

// In the order of 4-bit codes: code i in the low half of byte i, code i + 16 in its high half.
fn nibbleWords(codes: vec4<u32>, bits: u32) -> vec4<u32> {
  if (bits == 3u) {
    let apart = codesApart(codes, bits);
    return apart[0] | (apart[1] << vec4<u32>(4u));
  }
  return codes;
}

// Of a token, and of a dim. The bits are not a parameter, so that a variant's text has no branches that it never takes.
fn nibblesOfKey(codes: vec4<u32>) -> vec4<u32> {
  if (KEY_BITS == 3u) {
    return nibbleWords(codes, 3u);
  }
  return codes;
}

fn nibblesOfValue(codes: vec4<u32>) -> vec4<u32> {
  if (VALUE_BITS == 3u) {
    return nibbleWords(codes, 3u);
  }
  return codes;
}

// One word of a dim's codes: tokens 4 word to 4 word + 3, and those 16 further.
fn valueNibbles(block: u32, dim: u32, word: u32) -> u32 {
  if (VALUE_BITS == 3u) {
    let codes = valueCodes(block, dim);
    let low = ((codes.x >> (2u * word)) & 0x03030303u) | (((codes.z >> word) & 0x01010101u) << 2u);
    let high = ((codes.y >> (2u * word)) & 0x03030303u) | (((codes.z >> (word + 4u)) & 0x01010101u) << 2u);
    return low | (high << 4u);
  }
  return values[block + dim][word];
}

// Codes 0 to 15, one a byte, then 16 to 31.
fn codesApart(codes: vec4<u32>, bits: u32) -> array<vec4<u32>, 2> {
  if (bits == 3u) {
    let shifts = vec4<u32>(0u, 2u, 4u, 6u);
    let places = vec4<u32>(0u, 1u, 2u, 3u);
    let low = (vec4<u32>(codes.x) >> shifts) & vec4<u32>(0x03030303u);
    let high = (vec4<u32>(codes.y) >> shifts) & vec4<u32>(0x03030303u);
    let lowTops = ((vec4<u32>(codes.z) >> places) & vec4<u32>(0x01010101u)) << vec4<u32>(2u);
    let highTops = ((vec4<u32>(codes.z) >> (places + 4u)) & vec4<u32>(0x01010101u)) << vec4<u32>(2u);
    return array<vec4<u32>, 2>(low | lowTops, high | highTops);
  }
  return array<vec4<u32>, 2>(codes & vec4<u32>(0x0f0f0f0fu), (codes >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu));
}
