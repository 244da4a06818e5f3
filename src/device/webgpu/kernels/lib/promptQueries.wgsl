// Loads queries for attendPromptMatrix, as f16, each row divided by a factor. The kernel declares the constants, `params`, `queries`,
// `tile` and `scores`; it appends promptWork, promptTile and narrow.

// Where a row's query begins.
fn queryAt(token: u32, kvHead: u32, row: u32) -> u32 {
  return ((token + row / GROUP) * KV_HEADS * GROUP + kvHead * GROUP + row % GROUP) * (QUERY_CHUNKS * 2u);
}

// The factor by which a row's scaled query is divided to fit f16; each of its two lanes reads half of it.
fn queryFactor(token: u32, kvHead: u32, row: u32, half: u32) -> f32 {
  var largest = vec4<f32>(0.0);
  for (var i = 0u; i < QUERY_CHUNKS; i++) {
    largest = max(largest, abs(queries[queryAt(token, kvHead, row) + half * QUERY_CHUNKS + i]));
  }
  let own = max(max(largest.x, largest.y), max(largest.z, largest.w)) * params.scale * select(KEY_CODE, 1.0, TURNED > 0u);
  return factorOf(bitcast<u32>(max(own, subgroupShuffleXor(own, 1u))));
}

// Stores eight dims of a row's query as f16, scaled; those that are multiplied with codes are in the order of unpacked codes.
fn storeQueries(token: u32, kvHead: u32, row: u32, chunk: u32, at: u32, back: f32) {
  let word = queryAt(token, kvHead, row) + chunk * 2u;
  let meetsValues = TURNED > 0u && chunk >= KEY_CHUNKS;
  let factor = params.scale * select(KEY_CODE, VALUE_CODE, meetsValues) * back;
  var a = queries[word] * factor;
  var b = queries[word + 1u] * factor;
  if (CODED && !meetsValues) {
    a = a.xzyw;
    b = b.xzyw;
  }
  let slice = chunk / (QUERY_CHUNKS / SLICES);
  tile[slice][at + chunk - slice * (QUERY_CHUNKS / SLICES)] = halvesOf(a, b);
}

// Stores STAGED of the workgroup's rows, from `firstRow` on. The first words of `scores` become their factors.
fn stageQueries(work: PromptWork, kvHead: u32, firstRow: u32, local: u32) {
  for (var i = local; i < STAGED * QUERY_CHUNKS; i += WORKGROUP) {
    let staged = firstRow + i / QUERY_CHUNKS;
    let source = min(work.run.firstRow + staged, work.rows - 1u);
    let back = bitcast<f32>(scores[staged].x);
    storeQueries(work.run.token, kvHead, source, i % QUERY_CHUNKS, i / QUERY_CHUNKS * QUERY_STRIDE, back);
  }
}
