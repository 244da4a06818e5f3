// Scores of attendPromptMatrix and their weights. Two lanes have a row, each half of its columns. The kernel declares the constants,
// `params` and `scores`; it appends promptWork, promptTile, promptPowers, softcap and
// narrow.

// Fields have names, since an array that a loop indexes may be in local memory. Tiles of 16 tokens use the first two.
struct LaneScores {
  a: vec4<f32>,
  b: vec4<f32>,
  c: vec4<f32>,
  d: vec4<f32>,
}

// Scores of four columns: the sum over the row block's slices.
fn scoreFour(rowBlock: u32, at: u32) -> vec4<f32> {
  var four = bitcast<vec4<f32>>(scores[rowBlock * SPLIT * SCORE_WORDS + at]);
  // each S 1..3
  if (SPLIT > {S}u) {
    four += bitcast<vec4<f32>>(scores[(rowBlock * SPLIT + {S}u) * SCORE_WORDS + at]);
  }
  // end
  return four;
}

// at: the lane's first word of a slice. factor: the one by which the row's query was divided.
fn laneScores(rowBlock: u32, at: u32, factor: f32) -> LaneScores {
  var found = LaneScores();
  found.a = capped(scoreFour(rowBlock, at), factor);
  found.b = capped(scoreFour(rowBlock, at + 1u), factor);
  if (TOKENS > 16u) {
    found.c = capped(scoreFour(rowBlock, at + 2u), factor);
    found.d = capped(scoreFour(rowBlock, at + 3u), factor);
  }
  return found;
}

fn capped(four: vec4<f32>, factor: f32) -> vec4<f32> {
  if (HAS_SOFTCAP) {
    let x = four * factor;
    return params.cap * vec4<f32>(boundedTanh(x.x), boundedTanh(x.y), boundedTanh(x.z), boundedTanh(x.w));
  }
  return four;
}

// Masks scores of tokens that the query does not see. part: the tile's part of its page. column: the lane's first column.
fn seenScores(found: LaneScores, block: u32, part: u32, column: u32, query: u32) -> LaneScores {
  return LaneScores(
    masked(found.a, block, part, column, query), masked(found.b, block, part, column + 4u, query),
    masked(found.c, block, part, column + 8u, query), masked(found.d, block, part, column + 12u, query));
}

fn masked(four: vec4<f32>, block: u32, part: u32, column: u32, query: u32) -> vec4<f32> {
  return select(vec4<f32>(MASKED_SCORE), four, vec4<bool>(
    sees(query, block + tokenOf(column, part), params.window), sees(query, block + tokenOf(column + 1u, part), params.window),
    sees(query, block + tokenOf(column + 2u, part), params.window), sees(query, block + tokenOf(column + 3u, part), params.window)));
}

// The row's highest score, the same in both lanes.
fn highestOf(found: LaneScores) -> f32 {
  var four = max(found.a, found.b);
  if (TOKENS > 16u) {
    four = max(four, max(found.c, found.d));
  }
  let own = max(max(four.x, four.y), max(four.z, four.w));
  return max(own, subgroupShuffleXor(own, 1u));
}

var<workgroup> grown: array<u32, SUBGROUPS>;

// Whether a lane's maximum has to be raised; the workgroup does so if any has.
fn noteGrowth(grows: bool, subgroup: u32, lane: u32) {
  let some = subgroupAny(grows);
  if (lane == 0u) {
    grown[subgroup] = u32(some);
  }
}

fn anyGrowth() -> bool {
  let flags = workgroupUniformLoad(&grown);
  var any = flags[0];
  // each S 1..3
  if (SUBGROUPS > {S}u) {
    any |= flags[min({S}u, SUBGROUPS - 1u)];
  }
  // end
  return any != 0u;
}

// Stores 2^(score * unit - maxScore) of a lane's columns as f16; returns their sum. If it is above MOST_ADDED, the maximum is raised
// and they are written again before they are read.
fn storeWeights(found: LaneScores, unit: f32, maxScore: f32, at: u32) -> f32 {
  let none = vec4<f32>(0.0);
  if (TOKENS > 16u) {
    return storeFours(
      at, powers(found.a, unit, maxScore), powers(found.b, unit, maxScore), powers(found.c, unit, maxScore),
      powers(found.d, unit, maxScore));
  }
  return storeFours(at, powers(found.a, unit, maxScore), powers(found.b, unit, maxScore), none, none);
}

// Stores the weights of the tile at `position`. found: its scores, which are masked here. column: the lane's first column.
fn storeTileWeights(
  found: ptr<function, LaneScores>, work: PromptWork, position: u32, column: u32, query: u32, unit: f32, maxScore: f32, at: u32,
) -> f32 {
  let block = position / 32u * 32u;
  // Tiles that every row sees completely need no masks.
  if (block + 31u <= work.firstQuery && (params.window == 0u || work.lastQuery - block < params.window)) {
    return storeWeights(*found, unit, maxScore, at);
  }
  *found = seenScores(*found, block, position % 32u / TOKENS, column, query);
  return storeSeen(*found, unit, maxScore, at);
}

fn storeSeen(found: LaneScores, unit: f32, maxScore: f32, at: u32) -> f32 {
  let none = vec4<f32>(0.0);
  if (TOKENS > 16u) {
    return storeFours(
      at, seenPowers(found.a, unit, maxScore), seenPowers(found.b, unit, maxScore), seenPowers(found.c, unit, maxScore),
      seenPowers(found.d, unit, maxScore));
  }
  return storeFours(at, seenPowers(found.a, unit, maxScore), seenPowers(found.b, unit, maxScore), none, none);
}

fn storeFours(at: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> f32 {
  scores[at] = smallHalvesOf(a, b);
  if (TOKENS > 16u) {
    scores[at + 1u] = smallHalvesOf(c, d);
  }
  return dot((a + b) + (c + d), vec4<f32>(1.0));
}
