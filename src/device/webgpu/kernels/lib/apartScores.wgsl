// Scores and weights of attendPromptApart, which declares `params`, `scores` and MASKED_SCORE; it appends promptWork, apartTile,
// promptPowers and narrow.

// Scores of four columns; those of tokens that the query does not see are masked.
fn seenScores(four: vec4<f32>, query: u32, block: u32, column: u32) -> vec4<f32> {
  return select(vec4<f32>(MASKED_SCORE), four, vec4<bool>(
    sees(query, block + tokenOf(column), params.window), sees(query, block + tokenOf(column + 1u), params.window),
    sees(query, block + tokenOf(column + 2u), params.window), sees(query, block + tokenOf(column + 3u), params.window)));
}

// Stores a lane's eight weights of a row, as f16, in place of scores that it alone has read. Returns their sum.
fn storeWeights(pair: u32, at: u32, a: vec4<f32>, b: vec4<f32>) -> f32 {
  scores[pair][at] = smallHalvesOf(a, b);
  return dot(a + b, vec4<f32>(1.0));
}

fn highestOf(a: vec4<f32>, b: vec4<f32>) -> f32 {
  let four = max(a, b);
  let own = max(max(four.x, four.y), max(four.z, four.w));
  return max(own, subgroupShuffleXor(own, 1u));
}
