// If one vector is both key and value: adds to attendDecode's scores the products of queries with values, whose codes turnedCodes.wgsl
// transposes in `tile`. The kernel declares the constants, `tile`, `queryCodes`, `queryScales` and the bindings.

// Groups of values that are transposed at a time.
const STAGED: u32 = select(0u, min(4u, GROUPS), TURNED > 0u);

fn storeTurned(at: u32, word: vec4<u32>) {
  tile[at] = word;
}

fn turnedWord(at: u32, place: u32) -> u32 {
  return tile[at][place];
}

// Adds to the scores of this thread's tokens, for all heads.
fn addValueScores(scores: ptr<function, array<f32, HEADS * EACH>>, table: u32, kvHead: u32, first: u32, local: u32) {
  for (var begin = 0u; begin < GROUPS; begin += STAGED) {
    turnValues(table, kvHead, first, begin, local);
    for (var nth = 0u; nth < min(STAGED, GROUPS - begin); nth++) {
      let group = begin + nth;
      for (var i = 0u; i < EACH; i++) {
        let token = local + i * WORKGROUP;
        let codes = turnedCodes(nth, token);
        let block = blockOf(table, (first + token) / 32u, params.kvHeads, kvHead) * VALUE_WORDS;
        let range = valueRange(block, group, token);
        for (var h = 0u; h < HEADS; h++) {
          let at = h * GROUPS + group;
          let query = VALUE_CODES + at * 2u;
          let scales = queryScales[VALUE_SCALES + at];
          let dots = dotSigned(queryCodes[query], codes[0]) + dotSigned(queryCodes[query + 1u], codes[1]);
          (*scores)[h * EACH + i] += range.x * (scales.x * f32(dots) + scales.y) + range.y * scales.z;
        }
      }
    }
  }
}
