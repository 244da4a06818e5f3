// attendPromptMatrix with keys and values in places of their own, for heads of 128 dims and caches of int4, rq4 or f16: keys are
// expanded while O += P V runs, values while S = Q K' runs. Four subgroups, each with 16 rows, take 23.5 KiB of workgroup memory, so
// that two workgroups share a core. 512 tokens over 16,384, int4: 1,687 -> 1,477 us (H200, 2026-11-29; lab/LOG.md).
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, tiles, spans, promptWork, nibbles, promptCodes, apartTile, promptPowers, narrow
// <values>
const KV_HEADS: u32 = 2u;
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 128u;
// include: cacheValues
// The output is f16, for the next product; otherwise f32. Weighted sums never exceed the values, so the rows' factors are 1.
const OUT_F16: bool = false;
// Attends to one span of the positions, number z, and writes partials for attendMerge. TILE and MOST_SPANS are attendDecode's.
const SPANS: bool = false;
const TILE: u32 = 32u;
const MOST_SPANS: u32 = 128u;
// Used by lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
// </values>

const SUBGROUP: u32 = 32u;
// The cache holds 4-bit codes; otherwise f16.
const CODED: bool = INT4 || RQ4;
const SUBGROUPS: u32 = 4u;
const WORKGROUP: u32 = SUBGROUPS * SUBGROUP;
const ROWS: u32 = SUBGROUPS * 16u;
const MASKED_SCORE: f32 = -1e30;
// A row of a subgroup's scores, [row][16 tokens] f32, in words of 16 bytes. Weights lie in the same place as f16, [row][32 tokens].
const SCORE_STRIDE: u32 = 5u;
const SCORE_WORDS: u32 = 16u * SCORE_STRIDE;

// include: promptParams
// [tokens][heads][HEAD_DIM] f32
@group(0) @binding(2) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
// [tokens][heads][HEAD_DIM]; SPANS: [spanned][heads][spans], each of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(5) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

// First queries, then keys; once they are multiplied, scores of a tile's second 16 tokens.
var<workgroup> keyTile: array<vec4<u32>, KEY_TILE>;
var<workgroup> valueTile: array<vec4<u32>, VALUE_TILE>;
// Scores of a tile's first 16 tokens, then weights of all 32; pieces of O.
var<workgroup> scores: array<array<vec4<u32>, SCORE_WORDS>, SUBGROUPS>;
// Whether a maximum has grown too much.
var<workgroup> grown: atomic<u32>;

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
  return factorOf(bitcast<u32>(max(own, subgroupShuffleXor(own, 16u))));
}

// Stores 32 rows of queries in place of keys; those that are multiplied with codes are in the order of unpacked codes.
fn stageQueries(work: PromptWork, kvHead: u32, firstRow: u32, local: u32) {
  for (var i = local; i < 32u * CHUNKS; i += WORKGROUP) {
    let staged = firstRow + i / CHUNKS;
    let source = min(work.run.firstRow + staged, work.rows - 1u);
    let back = bitcast<f32>(scores[staged / 16u][staged % 16u].x);
    let word = queryAt(work.run.token, kvHead, source) + i % CHUNKS * 2u;
    let factor = params.scale * KEY_CODE * back;
    var a = queries[word] * factor;
    var b = queries[word + 1u] * factor;
    if (CODED) {
      a = a.xzyw;
      b = b.xzyw;
    }
    keyTile[i / CHUNKS * KEY_STRIDE + i % CHUNKS] = halvesOf(a, b);
  }
}

// Scores of four columns; those of tokens that the query does not see are masked.
fn seenScores(four: vec4<f32>, query: u32, block: u32, column: u32) -> vec4<f32> {
  return select(vec4<f32>(MASKED_SCORE), four, vec4<bool>(
    sees(query, block + tokenOf(column), params.window), sees(query, block + tokenOf(column + 1u), params.window),
    sees(query, block + tokenOf(column + 2u), params.window), sees(query, block + tokenOf(column + 3u), params.window)));
}

// Stores a lane's weights, as f16, in place of scores that it alone has read. Returns their sum.
fn storeWeights(subgroup: u32, at: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> f32 {
  scores[subgroup][at] = smallHalvesOf(a, b);
  scores[subgroup][at + 2u] = smallHalvesOf(c, d);
  return dot((a + b) + (c + d), vec4<f32>(1.0));
}

fn storeSeen(subgroup: u32, at: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, unit: f32, maxScore: f32) -> f32 {
  return storeWeights(
    subgroup, at, seenPowers(a, unit, maxScore), seenPowers(b, unit, maxScore), seenPowers(c, unit, maxScore),
    seenPowers(d, unit, maxScore));
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let work = promptWorkOf(workgroup, params.table, params.window, ROWS);
  if (work.isNone) {
    return;
  }
  let kvHead = workgroup.y;
  let subgroup = local / SUBGROUP;
  let lane = local % SUBGROUP;
  // Two lanes per row, each with 16 of a tile's tokens.
  let row = min(work.run.firstRow + subgroup * 16u + lane % 16u, work.rows - 1u);
  let half = lane / 16u;
  let own = lane % 16u * SCORE_STRIDE;
  let mine = own + half;
  let query = work.run.position + row / GROUP;
  let firstPage = pageAt(work.table, kvHead, positionAt(work.gap, work.start));
  loadKeys(firstPage, local);
  loadValues(firstPage, local);
  // The page is looked up one tile before it is loaded.
  var page = pageAt(work.table, kvHead, positionAt(work.gap, work.start + 32u));

  // Queries become f16, each row divided by a factor, and then matrices.
  let unit = queryFactor(work.run.token, kvHead, row, half);
  scores[subgroup][lane % 16u] = vec4<u32>(bitcast<u32>(inverseFactor(unit)));
  workgroupBarrier();
  // each P 0..7
  var q{P}: Left;
  var sum{P}: Result;
  // end
  for (var firstRow = 0u; firstRow < ROWS; firstRow += 32u) {
    stageQueries(work, kvHead, firstRow, local);
    workgroupBarrier();
    if (subgroup / 2u == firstRow / 32u) {
      // each P 0..7
      q{P} = subgroupMatrixLoad<Left, row_major>(&keyTile, subgroup % 2u * 16u * KEY_STRIDE + {2 * P}u, KEY_STRIDE);
      // end
    }
    workgroupBarrier();
  }
  var maxScore = MASKED_SCORE;
  var sumExp = 0.0;
  // The first O += P V is of zeros.
  for (var i = local; i < VALUE_TILE; i += WORKGROUP) {
    valueTile[i] = vec4<u32>(0u);
  }
  for (var i = local; i < SUBGROUPS * SCORE_WORDS; i += WORKGROUP) {
    scores[i / SCORE_WORDS][i % SCORE_WORDS] = vec4<u32>(0u);
  }
  if (local == 0u) {
    atomicStore(&grown, 0u);
  }
  workgroupBarrier();
  var a = vec4<f32>();
  var b = vec4<f32>();
  var c = vec4<f32>();
  var d = vec4<f32>();
  var first = work.start;
  loop {
    // Maxima are raised outside the inner loop, in which nearly all tiles stay.
    var grows = 0u;
    loop {
      // O += P V of the previous tile, while this tile's keys are expanded.
      let lowWeights = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 0u, SCORE_STRIDE);
      let highWeights = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 2u, SCORE_STRIDE);
      // each P 0..7
      if (CODED) {
        let at{P} = {16 * P}u * VALUE_STRIDE;
        sum{P} = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, col_major>(&valueTile, at{P}, VALUE_STRIDE), sum{P});
        sum{P} = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, col_major>(&valueTile, at{P} + 2u, VALUE_STRIDE), sum{P});
      } else {
        sum{P} = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, row_major>(&valueTile, {2 * P}u, VALUE_STRIDE), sum{P});
        sum{P} = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, row_major>(&valueTile, 16u * VALUE_STRIDE + {2 * P}u, VALUE_STRIDE), sum{P});
      }
      // end
      if (first >= work.end) {
        break;
      }
      expandKeys(local);
      loadKeys(page, local);
      workgroupBarrier();

      // S = Q K', while values are expanded.
      let position = positionAt(work.gap, first);
      var low = Result();
      var high = Result();
      // each P 0..7
      low = subgroupMatrixMultiplyAccumulate(q{P}, subgroupMatrixLoad<Right, col_major>(&keyTile, {2 * P}u, KEY_STRIDE), low);
      high = subgroupMatrixMultiplyAccumulate(q{P}, subgroupMatrixLoad<Right, col_major>(&keyTile, 16u * KEY_STRIDE + {2 * P}u, KEY_STRIDE), high);
      // end
      expandValues(position, work.lastQuery, local);
      loadValues(page, local);
      subgroupMatrixStore<row_major>(&scores[subgroup], 0u, low, SCORE_STRIDE);
      page = pageAt(work.table, kvHead, positionAt(work.gap, first + 64u));
      workgroupBarrier();
      subgroupMatrixStore<row_major>(&keyTile, subgroup * SCORE_WORDS, high, SCORE_STRIDE);
      a = bitcast<vec4<f32>>(scores[subgroup][mine]);
      b = bitcast<vec4<f32>>(scores[subgroup][mine + 2u]);
      workgroupBarrier();
      c = bitcast<vec4<f32>>(keyTile[subgroup * SCORE_WORDS + mine]);
      d = bitcast<vec4<f32>>(keyTile[subgroup * SCORE_WORDS + mine + 2u]);

      // Online softmax, assuming that no maximum grows, which is rare after the first tiles.
      let block = position / 32u * 32u;
      var added = 0.0;
      if (block + 31u <= work.firstQuery && (params.window == 0u || work.lastQuery - block < params.window)) {
        added = storeWeights(
          subgroup, mine, powers(a, unit, maxScore), powers(b, unit, maxScore), powers(c, unit, maxScore), powers(d, unit, maxScore));
      } else {
        a = seenScores(a, query, block, half * 8u);
        b = seenScores(b, query, block, half * 8u + 4u);
        c = seenScores(c, query, block, half * 8u + 16u);
        d = seenScores(d, query, block, half * 8u + 20u);
        added = storeSeen(subgroup, mine, a, b, c, d, unit, maxScore);
      }
      if (added > MOST_ADDED) {
        atomicStore(&grown, 1u);
      }
      first += 32u;
      grows = workgroupUniformLoad(&grown);
      if (grows != 0u) {
        break;
      }
      sumExp += added;
    }
    if (grows == 0u) {
      break;
    }
    let four = max(max(a, b), max(c, d));
    var highest = max(max(four.x, four.y), max(four.z, four.w));
    highest = max(highest, subgroupShuffleXor(highest, 16u));
    if (local == 0u) {
      atomicStore(&grown, 0u);
    }
    let next = max(maxScore, highest * unit);
    let rescale = exp2(maxScore - next);
    maxScore = next;
    sumExp *= rescale;
    // Elements of O can be scaled only in memory.
    // each P 0..7
    subgroupMatrixStore<row_major>(&scores[subgroup], 0u, sum{P}, SCORE_STRIDE);
    workgroupBarrier();
    scores[subgroup][mine + half] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[subgroup][mine + half]) * rescale);
    scores[subgroup][mine + half + 1u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[subgroup][mine + half + 1u]) * rescale);
    workgroupBarrier();
    sum{P} = subgroupMatrixLoad<Result, row_major>(&scores[subgroup], 0u, SCORE_STRIDE);
    workgroupBarrier();
    // end
    sumExp += storeSeen(subgroup, mine, a, b, c, d, unit, maxScore);
    workgroupBarrier();
  }

  // Write the rows to the output, or to the span's partials.
  sumExp += subgroupShuffleXor(sumExp, 16u);
  let inverse = VALUE_CODE / select(sumExp, 1.0, SPANS);
  let head = kvHead * GROUP + row % GROUP;
  var outAt = ((work.run.token + row / GROUP) * KV_HEADS * GROUP + head) * HEAD_DIM;
  if (SPANS) {
    outAt = (((work.run.spanned + row / GROUP) * KV_HEADS * GROUP + head) * work.places + workgroup.z) * (HEAD_DIM + 4u);
  }
  if (SPANS && half == 0u) {
    out[(outAt + HEAD_DIM) / 4u] = vec4<u32>(bitcast<u32>(maxScore), bitcast<u32>(sumExp), 0u, 0u);
  }
  if (OUT_F16 && half == 0u && kvHead == 0u && row % GROUP == 0u) {
    out[params.factorsAt + work.run.token + row / GROUP] = vec4<u32>(bitcast<u32>(1.0), 0u, 0u, 0u);
  }
  // each P 0..7
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores[subgroup], 0u, sum{P}, SCORE_STRIDE);
  workgroupBarrier();
  {
    let x = bitcast<vec4<f32>>(scores[subgroup][mine + half]) * inverse;
    let y = bitcast<vec4<f32>>(scores[subgroup][mine + half + 1u]) * inverse;
    let place = outAt + {16 * P}u + half * 8u;
    if (OUT_F16) {
      out[place / 8u] = halvesOf(x, y);
    } else {
      out[place / 4u] = bitcast<vec4<u32>>(x);
      out[place / 4u + 1u] = bitcast<vec4<u32>>(y);
    }
  }
  // end
}
