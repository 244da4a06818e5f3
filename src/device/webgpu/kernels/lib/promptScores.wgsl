// Scores of attendPromptMatrix by lanes, two a row, each with half of the columns, and their weights. The kernel declares what is
// named in capitals, `params` and `scores`; it appends promptWork, promptTile, softcap and narrow.

// A score may exceed its maximum by a factor of 2^8 before that is raised and O is scaled down; f16 holds such weights.
const HEADROOM: f32 = 8.0;

struct LaneScores {
  fours: array<vec4<f32>, TOKENS / 8u>,
  highest: f32,
}

// Sums of the row block's slices, capped and masked. first: the tile's first slot; factor: that the row's query was divided by.
fn laneScores(work: PromptWork, rowBlock: u32, mine: u32, half: u32, query: u32, first: u32, factor: f32) -> LaneScores {
  var found: LaneScores;
  found.highest = MASKED_SCORE;
  // Tiles that every row sees completely need no masks.
  let block = positionAt(work.gap, first) / 32u * 32u;
  let last = block + max(TOKENS, 32u) - 1u;
  let clear = last <= work.firstQuery && (params.window == 0u || work.lastQuery - block < params.window);
  for (var i = 0u; i < TOKENS / 8u; i++) {
    var four = vec4<f32>(0.0);
    for (var part = 0u; part < SPLIT; part++) {
      four += bitcast<vec4<f32>>(scores[(rowBlock * SPLIT + part) * SCORE_WORDS + mine + half * (TOKENS / 8u) + i]);
    }
    if (HAS_SOFTCAP) {
      four *= factor;
      four = params.cap * vec4<f32>(boundedTanh(four.x), boundedTanh(four.y), boundedTanh(four.z), boundedTanh(four.w));
    }
    if (!clear) {
      for (var c = 0u; c < 4u; c++) {
        let position = block + tokenOf(half * (TOKENS / 2u) + i * 4u + c, first % 32u / TOKENS);
        four[c] = select(MASKED_SCORE, four[c], sees(query, position, params.window));
      }
    }
    found.fours[i] = four;
    let two = max(four.xy, four.zw);
    found.highest = max(found.highest, max(two.x, two.y));
  }
  return found;
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
  var any = 0u;
  for (var i = 0u; i < SUBGROUPS; i++) {
    any |= flags[i];
  }
  return any != 0u;
}

// 2^(score * unit - maxScore) of a lane's columns as f16; returns their sum. Masked scores weigh 0 with any maximum. Weights are
// at most 2^HEADROOM; if the maximum grows, they are written again before they are read.
fn storeWeights(fours: array<vec4<f32>, TOKENS / 8u>, unit: f32, maxScore: f32, at: u32) -> f32 {
  var sumExp = 0.0;
  let units = vec4<f32>(unit);
  let offsets = vec4<f32>(-maxScore);
  for (var i = 0u; i < TOKENS / 16u; i++) {
    let a = select(vec4<f32>(0.0), exp2(fma(fours[i * 2u], units, offsets)), fours[i * 2u] > vec4<f32>(MASKED_SCORE));
    let b = select(vec4<f32>(0.0), exp2(fma(fours[i * 2u + 1u], units, offsets)), fours[i * 2u + 1u] > vec4<f32>(MASKED_SCORE));
    sumExp += dot(a + b, vec4<f32>(1.0));
    scores[at + i] = smallHalvesOf(a, b);
  }
  return sumExp;
}
