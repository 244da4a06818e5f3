// Loads of a tile by a thread of attendDecode: keys of its tokens, values of its dims, scales and zeros. The kernel declares the
// constants, `params` and the bindings; it appends batch and planes.

struct KeyWord {
  codes: vec4<u32>,
  // The token's scale and zero.
  range: u32,
}

// Keys of this thread's tokens, for AHEAD groups of dims.
fn loadKeys(table: u32, kvHead: u32, first: u32, group: u32, local: u32) -> array<KeyWord, EACH * AHEAD> {
  var words = array<KeyWord, EACH * AHEAD>();
  for (var i = 0u; i < EACH; i++) {
    let slot = first + local + i * WORKGROUP;
    let block = blockOf(table, slot / 32u, params.kvHeads, kvHead) * KEY_WORDS;
    for (var j = 0u; j < AHEAD; j++) {
      let g = min(group + j, KEY_GROUPS - 1u);
      words[j * EACH + i].codes = keyCodes(block, g, slot % 32u);
      if (CHANNEL) {
        // Tokens have no scales.
      } else if (RQ4) {
        words[j * EACH + i].range = keys[block + KEY_SCALES_AT + slot % 32u / 8u][slot % 8u / 2u] >> (slot % 2u * 16u);
      } else {
        words[j * EACH + i].range = keys[block + KEY_SCALES_AT + g * 8u + slot % 32u / 4u][slot % 4u];
      }
    }
  }
  return words;
}

// Scales and zeros of 16 tokens; rq4 has only scales.
fn loadRanges(at: u32, group: u32) -> array<vec4<u32>, 4> {
  if (RQ4) {
    let low = values[at];
    let high = values[at + 1u];
    return array<vec4<u32>, 4>(
      halvesApart(low.xy), halvesApart(low.zw), halvesApart(high.xy), halvesApart(high.zw));
  }
  let first = at + group * 8u;
  return array<vec4<u32>, 4>(values[first], values[first + 1u], values[first + 2u], values[first + 3u]);
}

fn halvesApart(pairs: vec2<u32>) -> vec4<u32> {
  return vec4<u32>(pairs.x & 0xffffu, pairs.x >> 16u, pairs.y & 0xffffu, pairs.y >> 16u);
}

fn loadValues(table: u32, kvHead: u32, first: u32, b: u32, firstDim: u32) -> array<vec4<u32>, DIMS> {
  var codes = array<vec4<u32>, DIMS>();
  let block = blockOf(table, first / 32u + b, params.kvHeads, kvHead) * VALUE_WORDS;
  for (var i = 0u; i < DIMS; i++) {
    codes[i] = valueCodes(block, firstDim + i * (32u / DIMS));
  }
  return codes;
}
