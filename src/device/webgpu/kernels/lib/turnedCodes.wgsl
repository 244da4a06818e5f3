// Transposes codes of values that are also keys (TURNED): a block of values has a dim's codes of 32 tokens together, but scores need a
// token's codes of 32 dims. Some groups of a tile are transposed in workgroup memory, four dims by four tokens at a time. The kernel
// declares STAGED, GROUPS, VALUE_WORDS, BLOCKS, WORKGROUP, `params` and the array `staged`; it appends batch and planes.

// Four words of dims, each with the same four tokens -> four words of tokens, each with a byte per dim.
fn fourTurned(four: vec4<u32>) -> vec4<u32> {
  let even = (four.xz & vec2<u32>(0x00ff00ffu)) | ((four.yw & vec2<u32>(0x00ff00ffu)) << vec2<u32>(8u));
  let odd = ((four.xz >> vec2<u32>(8u)) & vec2<u32>(0x00ff00ffu)) | (four.yw & vec2<u32>(0xff00ff00u));
  return vec4<u32>(
    (even.x & 0xffffu) | (even.y << 16u), (odd.x & 0xffffu) | (odd.y << 16u),
    (even.x >> 16u) | (even.y & 0xffff0000u), (odd.x >> 16u) | (odd.y & 0xffff0000u));
}

// Transposes STAGED groups of a tile's values, from `begin` on. All threads of a workgroup take part.
fn turnValues(table: u32, kvHead: u32, first: u32, begin: u32, local: u32) {
  // After this barrier, no thread reads what was there before.
  workgroupBarrier();
  for (var item = local; item < STAGED * BLOCKS * 8u; item += WORKGROUP) {
    let group = min(begin + item / (8u * BLOCKS), GROUPS - 1u);
    let block = blockOf(table, first / 32u + item / 8u % BLOCKS, params.kvHeads, kvHead) * VALUE_WORDS;
    let dim = group * 32u + item % 8u * 4u;
    let a = nibbleWords(valueCodes(block, dim), VALUE_BITS);
    let b = nibbleWords(valueCodes(block, dim + 1u), VALUE_BITS);
    let c = nibbleWords(valueCodes(block, dim + 2u), VALUE_BITS);
    let d = nibbleWords(valueCodes(block, dim + 3u), VALUE_BITS);
    storeTurned(item * 4u, fourTurned(vec4<u32>(a.x, b.x, c.x, d.x)));
    storeTurned(item * 4u + 1u, fourTurned(vec4<u32>(a.y, b.y, c.y, d.y)));
    storeTurned(item * 4u + 2u, fourTurned(vec4<u32>(a.z, b.z, c.z, d.z)));
    storeTurned(item * 4u + 3u, fourTurned(vec4<u32>(a.w, b.w, c.w, d.w)));
  }
  workgroupBarrier();
}

// Codes of a token of the tile for the nth of these groups: one byte per dim, dims 0 to 15, then 16 to 31.
fn turnedCodes(nth: u32, token: u32) -> array<vec4<u32>, 2> {
  let at = (nth * BLOCKS + token / 32u) * 32u + token % 16u / 4u;
  let shift = vec4<u32>(token / 16u % 2u * 4u);
  let place = token % 4u;
  let low = vec4<u32>(
    turnedWord(at, place), turnedWord(at + 4u, place), turnedWord(at + 8u, place), turnedWord(at + 12u, place));
  let high = vec4<u32>(
    turnedWord(at + 16u, place), turnedWord(at + 20u, place), turnedWord(at + 24u, place), turnedWord(at + 28u, place));
  return array<vec4<u32>, 2>((low >> shift) & vec4<u32>(0x0f0f0f0fu), (high >> shift) & vec4<u32>(0x0f0f0f0fu));
}

// The scale and zero of a token's group of values. block: where the block's scales begin.
fn valueRange(block: u32, group: u32, token: u32) -> vec2<f32> {
  if (RQ4) {
    let two = unpack2x16float(values[block + VALUE_SCALES_AT + token % 32u / 8u][token % 8u / 2u]);
    return vec2<f32>(1.0, -VALUE_MIDDLE) * two[token % 2u];
  }
  return unpack2x16float(values[block + VALUE_SCALES_AT + group * 8u + token % 32u / 4u][token % 4u]);
}
