// Queries on their way into attendPromptMatrix, as f16, each row divided by a factor. The kernel declares what is named in
// capitals, `params`, `queries` and `tile`; it appends promptTile and narrow.

// Where a row's query begins.
fn queryAt(token: u32, kvHead: u32, row: u32) -> u32 {
  return ((token + row / GROUP) * KV_HEADS * GROUP + kvHead * GROUP + row % GROUP) * (HEAD_DIM / 4u);
}

// The factor that makes a row's scaled query fit f16; each of its two lanes reads half of it.
fn queryFactor(token: u32, kvHead: u32, row: u32, half: u32) -> f32 {
  var largest = vec4<f32>(0.0);
  for (var i = 0u; i < HEAD_DIM / 8u; i++) {
    largest = max(largest, abs(queries[queryAt(token, kvHead, row) + half * (HEAD_DIM / 8u) + i]));
  }
  let own = max(max(largest.x, largest.y), max(largest.z, largest.w)) * params.scale * KEY_CODE;
  return factorOf(bitcast<u32>(max(own, subgroupShuffleXor(own, 1u))));
}

// Eight dims of a row's query as f16, scaled; int4: in the order of unpacked codes.
fn storeQueries(token: u32, kvHead: u32, row: u32, chunk: u32, at: u32, back: f32) {
  let word = queryAt(token, kvHead, row) + chunk * 2u;
  var a = queries[word] * (params.scale * KEY_CODE * back);
  var b = queries[word + 1u] * (params.scale * KEY_CODE * back);
  if (CODED) {
    a = a.xzyw;
    b = b.xzyw;
  }
  tile[at + chunk] = halvesOf(a, b);
}
