// If one vector is both key and value: the part of attendDecodeFloat's scores that comes from values, whose codes turnedCodes.wgsl
// transposes in `weighed` before weights are stored there. The kernel declares these and the constants.

// Groups of values that are transposed at a time.
const STAGED: u32 = select(0u, min(4u, GROUPS), TURNED > 0u);

fn storeTurned(at: u32, word: vec4<u32>) {
  weighed[at] = word;
}

fn turnedWord(at: u32, place: u32) -> u32 {
  return weighed[at][place];
}

// For a thread's token and all heads. All threads of a workgroup take part.
fn valueScores(table: u32, kvHead: u32, first: u32, token: u32) -> array<vec4<f32>, 2> {
  var s0 = vec4<f32>();
  var s1 = vec4<f32>();
  for (var begin = 0u; begin < GROUPS; begin += STAGED) {
    turnValues(table, kvHead, first, begin, token);
    for (var nth = 0u; nth < min(STAGED, GROUPS - begin); nth++) {
      if (token < TILE) {
        let group = begin + nth;
        let codes = turnedCodes(nth, token);
        let words = codes[0] | (codes[1] << vec4<u32>(4u));
        let block = blockOf(table, (first + token) / 32u, params.kvHeads, kvHead) * VALUE_WORDS;
        let range = valueRange(block, group, token);
        let at = VALUES_ASKED + group * HEADS;
        s0 += range.x * queryDots(words, at, 0u) + range.y * restsOf(at, 0u);
        if (FOURS > 1u) {
          s1 += range.x * queryDots(words, at, 4u) + range.y * restsOf(at, 4u);
        }
      }
    }
  }
  return array<vec4<f32>, 2>(s0, s1);
}
