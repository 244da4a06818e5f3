// Loads queries for attendPromptApart, as f16, each row divided by a factor. The kernel declares the constants, `params`, `queries`,
// `keyTile`, `valueTile`, `scores` and `grown`; it appends promptWork, apartTile and narrow.

// Where a row's query begins.
fn queryAt(token: u32, kvHead: u32, row: u32) -> u32 {
  return ((token + row / GROUP) * KV_HEADS * GROUP + kvHead * GROUP + row % GROUP) * (CHUNKS * 2u);
}

// The factor by which a row's scaled query is divided to fit f16; each of its two lanes reads half of it.
fn queryFactor(token: u32, kvHead: u32, row: u32, half: u32) -> f32 {
  var largest = vec4<f32>(0.0);
  for (var i = 0u; i < CHUNKS; i++) {
    largest = max(largest, abs(queries[queryAt(token, kvHead, row) + half * CHUNKS + i]));
  }
  let own = max(max(largest.x, largest.y), max(largest.z, largest.w)) * params.scale * KEY_CODE;
  return factorOf(bitcast<u32>(max(own, subgroupShuffleXor(own, 1u))));
}

// Stores 32 rows of queries in place of keys; those that are multiplied with codes are in the order of unpacked codes. The rows' factors
// are in `scores`, 32 to a pair.
fn stageQueries(work: PromptWork, kvHead: u32, firstRow: u32, local: u32) {
  for (var i = local; i < 32u * CHUNKS; i += WORKGROUP) {
    let staged = firstRow + i / CHUNKS;
    let source = min(work.run.firstRow + staged, work.rows - 1u);
    let back = bitcast<f32>(scores[staged / 32u][staged % 32u].x);
    let word = queryAt(work.run.token, kvHead, source) + i % CHUNKS * 2u;
    let factor = params.scale * KEY_CODE * back;
    var a = queries[word] * factor;
    var b = queries[word + 1u] * factor;
    if (CODED) {
      a = a.xzyw;
      b = b.xzyw;
    }
    keyTile[i / CHUNKS / 16u][i / CHUNKS % 16u * KEY_STRIDE + i % CHUNKS] = halvesOf(a, b);
  }
}

// The first O += P V is of zeros.
fn clearTiles(local: u32) {
  for (var i = local; i < 2u * VALUE_HALF; i += WORKGROUP) {
    valueTile[i / VALUE_HALF][i % VALUE_HALF] = vec4<u32>(0u);
  }
  for (var i = local; i < PAIRS * SCORE_WORDS; i += WORKGROUP) {
    scores[i / SCORE_WORDS][i % SCORE_WORDS] = vec4<u32>(0u);
  }
  if (local == 0u) {
    atomicStore(&grown, 0u);
  }
}
