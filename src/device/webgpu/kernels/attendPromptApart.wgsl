// attendPromptMatrix with keys and values in places of their own, for heads of 64 or 128 dims and caches of int4, rq4, f16 or kv4: keys
// are expanded while O += P V runs, values while S = Q K' runs. Two subgroups share 32 rows: each has the scores of half of a tile's
// tokens and the sums of half of the dims, so that a matrix loaded from workgroup memory, whose rate limits this kernel, serves two
// products (1,534 -> 1,428 us, dated as below). Four subgroups take 23.5 KiB of workgroup memory, so that two workgroups share a core.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, tiles, spans, promptWork, nibbles, channelFours, promptCodes, apartTile, apartChannels, apartQueries
// lib: promptPowers, apartScores, narrow
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
// Tiles are expanded between products, not after them. Heads of 128, 512 tokens over 32,768: int4 1,331 us (1,428), rq4 1,313 (1,557),
// f16 1,436 (1,417); NVIDIA H200, 2026-11-29, lab/kernels/attendPrompt.
const BETWEEN: bool = CODED;
const SUBGROUPS: u32 = 4u;
const PAIRS: u32 = SUBGROUPS / 2u;
const WORKGROUP: u32 = SUBGROUPS * SUBGROUP;
const ROWS: u32 = SUBGROUPS * 16u;
// Pieces of 16 dims: of a query, and of the half of a value that a subgroup sums.
const QUERY_PIECES: u32 = HEAD_DIM / 16u;
const PIECES: u32 = HEAD_DIM / 32u;
const MASKED_SCORE: f32 = -1e30;
// Rows in words of 16 bytes. The scores of a pair's block are [row][32 tokens] f32, which stores fill without bank conflicts (int4
// 1,341 -> 1,310 us, f16 1,441 -> 1,425, as above). Each subgroup's weights, [row][block][16 tokens] f16, take half of their place.
const SCORE_STRIDE: u32 = 10u;
const SCORE_WORDS: u32 = 16u * SCORE_STRIDE;
const WEIGHT_STRIDE: u32 = 5u;
const WEIGHT_WORDS: u32 = 16u * WEIGHT_STRIDE;

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

// First queries, then keys, by halves of the tokens; once they are multiplied, scores of each pair's second block of 16 rows.
var<workgroup> keyTile: array<array<vec4<u32>, KEY_HALF>, 2>;
// Values, by halves of the dims.
var<workgroup> valueTile: array<array<vec4<u32>, VALUE_HALF>, 2>;
// Each pair's scores of its first block, then weights of both; pieces of O.
var<workgroup> scores: array<array<vec4<u32>, SCORE_WORDS>, PAIRS>;
// Whether a maximum has grown too much.
var<workgroup> grown: atomic<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let work = promptWorkOf(workgroup, params.table, params.window, ROWS);
  if (work.isNone) {
    return;
  }
  let kvHead = workgroup.y;
  let subgroup = local / SUBGROUP;
  // The pair shares rows; `side` is a half of the tokens and of the dims.
  let pair = subgroup / 2u;
  let side = subgroup % 2u;
  let lane = local % SUBGROUP;
  // A lane has a row of each block, with eight of the subgroup's 16 tokens.
  let line = lane / 2u;
  let half = lane % 2u;
  let scored = line * SCORE_STRIDE + side * 4u + half;
  let own = side * WEIGHT_WORDS + line * WEIGHT_STRIDE;
  let other = (1u - side) * WEIGHT_WORDS + line * WEIGHT_STRIDE;
  let mine = own + half;
  // each R 0..1
  let row{R} = min(work.run.firstRow + pair * 32u + {16 * R}u + line, work.rows - 1u);
  let query{R} = work.run.position + row{R} / GROUP;
  let unit{R} = queryFactor(work.run.token, kvHead, row{R}, half);
  var maxScore{R} = MASKED_SCORE;
  var sumExp{R} = 0.0;
  // end
  let firstPage = pageAt(work.table, kvHead, positionAt(work.gap, work.start));
  loadKeys(firstPage, local);
  loadValues(firstPage, local);
  // The page is looked up one tile before it is loaded.
  var page = pageAt(work.table, kvHead, positionAt(work.gap, work.start + 32u));

  // Queries become f16, each row divided by a factor, and then matrices.
  if (half == 0u) {
    scores[pair][side * 16u + line] = vec4<u32>(bitcast<u32>(inverseFactor(select(unit0, unit1, side == 1u))));
  }
  workgroupBarrier();
  // each P 0..7
  var upper{P}: Left;
  var lower{P}: Left;
  var sum{P}: Result;
  // end
  for (var firstRow = 0u; firstRow < ROWS; firstRow += 32u) {
    stageQueries(work, kvHead, firstRow, local);
    workgroupBarrier();
    if (pair == firstRow / 32u) {
      // each P 0..7 if QUERY_PIECES > P
      upper{P} = subgroupMatrixLoad<Left, row_major>(&keyTile[0], {2 * P}u, KEY_STRIDE);
      lower{P} = subgroupMatrixLoad<Left, row_major>(&keyTile[1], {2 * P}u, KEY_STRIDE);
      // end
    }
    workgroupBarrier();
  }
  clearTiles(local);
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
      // each R 0..1
      let lowWeights{R} = subgroupMatrixLoad<Left, row_major>(&scores[pair], {2 * R}u, WEIGHT_STRIDE);
      let highWeights{R} = subgroupMatrixLoad<Left, row_major>(&scores[pair], WEIGHT_WORDS + {2 * R}u, WEIGHT_STRIDE);
      // end
      // each P 0..3 if PIECES > P
      if (CODED) {
        let lowValues{P} = subgroupMatrixLoad<Right, col_major>(&valueTile[side], {16 * P}u * VALUE_STRIDE, VALUE_STRIDE);
        let highValues{P} = subgroupMatrixLoad<Right, col_major>(&valueTile[side], {16 * P}u * VALUE_STRIDE + 2u, VALUE_STRIDE);
        sum{P} = subgroupMatrixMultiplyAccumulate(lowWeights0, lowValues{P}, sum{P});
        sum{4 + P} = subgroupMatrixMultiplyAccumulate(lowWeights1, lowValues{P}, sum{4 + P});
        sum{P} = subgroupMatrixMultiplyAccumulate(highWeights0, highValues{P}, sum{P});
        sum{4 + P} = subgroupMatrixMultiplyAccumulate(highWeights1, highValues{P}, sum{4 + P});
      } else {
        let lowValues{P} = subgroupMatrixLoad<Right, row_major>(&valueTile[side], {2 * P}u, VALUE_STRIDE);
        let highValues{P} = subgroupMatrixLoad<Right, row_major>(&valueTile[side], 16u * VALUE_STRIDE + {2 * P}u, VALUE_STRIDE);
        sum{P} = subgroupMatrixMultiplyAccumulate(lowWeights0, lowValues{P}, sum{P});
        sum{4 + P} = subgroupMatrixMultiplyAccumulate(lowWeights1, lowValues{P}, sum{4 + P});
        sum{P} = subgroupMatrixMultiplyAccumulate(highWeights0, highValues{P}, sum{P});
        sum{4 + P} = subgroupMatrixMultiplyAccumulate(highWeights1, highValues{P}, sum{4 + P});
      }
      if (BETWEEN) {
        expandKey{P}(local);
      }
      // end
      if (first >= work.end) {
        break;
      }
      if (!BETWEEN) {
        expandKeys(local);
      }
      loadKeys(page, local);
      workgroupBarrier();

      // S = Q K' of half of the tokens, while values are expanded.
      let position = positionAt(work.gap, first);
      var upperScores = Result();
      var lowerScores = Result();
      prepareValues(position, work.lastQuery, local);
      // each P 0..3 if PIECES > P
      let keys{2 * P} = subgroupMatrixLoad<Right, col_major>(&keyTile[side], {4 * P}u, KEY_STRIDE);
      upperScores = subgroupMatrixMultiplyAccumulate(upper{2 * P}, keys{2 * P}, upperScores);
      lowerScores = subgroupMatrixMultiplyAccumulate(lower{2 * P}, keys{2 * P}, lowerScores);
      let keys{2 * P + 1} = subgroupMatrixLoad<Right, col_major>(&keyTile[side], {4 * P + 2}u, KEY_STRIDE);
      upperScores = subgroupMatrixMultiplyAccumulate(upper{2 * P + 1}, keys{2 * P + 1}, upperScores);
      lowerScores = subgroupMatrixMultiplyAccumulate(lower{2 * P + 1}, keys{2 * P + 1}, lowerScores);
      if (BETWEEN) {
        expandValue{P}(local);
      }
      // end
      if (!BETWEEN) {
        expandValues(local);
      }
      loadValues(page, local);
      subgroupMatrixStore<row_major>(&scores[pair], side * 4u, upperScores, SCORE_STRIDE);
      page = pageAt(work.table, kvHead, positionAt(work.gap, first + 64u));
      workgroupBarrier();
      subgroupMatrixStore<row_major>(&keyTile[pair], side * 4u, lowerScores, SCORE_STRIDE);
      a = bitcast<vec4<f32>>(scores[pair][scored]);
      b = bitcast<vec4<f32>>(scores[pair][scored + 2u]);
      let block = position / 32u * 32u;
      let isWhole = block + 31u <= work.firstQuery && (params.window == 0u || work.lastQuery - block < params.window);
      let column = side * 16u + half * 8u;
      var added0 = 0.0;
      var added1 = 0.0;
      workgroupBarrier();
      c = bitcast<vec4<f32>>(keyTile[pair][scored]);
      d = bitcast<vec4<f32>>(keyTile[pair][scored + 2u]);

      // Online softmax, assuming that no maximum grows, which is rare after the first tiles.
      if (isWhole) {
        added0 = storeWeights(pair, mine, powers(a, unit0, maxScore0), powers(b, unit0, maxScore0));
        added1 = storeWeights(pair, mine + 2u, powers(c, unit1, maxScore1), powers(d, unit1, maxScore1));
      } else {
        a = seenScores(a, query0, block, column);
        b = seenScores(b, query0, block, column + 4u);
        c = seenScores(c, query1, block, column);
        d = seenScores(d, query1, block, column + 4u);
        added0 = storeWeights(pair, mine, seenPowers(a, unit0, maxScore0), seenPowers(b, unit0, maxScore0));
        added1 = storeWeights(pair, mine + 2u, seenPowers(c, unit1, maxScore1), seenPowers(d, unit1, maxScore1));
      }
      if (max(added0, added1) > MOST_ADDED) {
        atomicStore(&grown, 1u);
      }
      first += 32u;
      grows = workgroupUniformLoad(&grown);
      if (grows != 0u) {
        break;
      }
      sumExp0 += added0;
      sumExp1 += added1;
    }
    if (grows == 0u) {
      break;
    }
    // Half of a row's scores are the other subgroup's.
    var highest = vec2<f32>(highestOf(a, b), highestOf(c, d));
    if (half == 0u) {
      scores[pair][own] = vec4<u32>(bitcast<vec2<u32>>(highest), 0u, 0u);
    }
    if (local == 0u) {
      atomicStore(&grown, 0u);
    }
    workgroupBarrier();
    highest = max(highest, bitcast<vec2<f32>>(scores[pair][other].xy));
    workgroupBarrier();
    // each R 0..1
    let next{R} = max(maxScore{R}, highest[{R}] * unit{R});
    let rescale{R} = exp2(maxScore{R} - next{R});
    maxScore{R} = next{R};
    sumExp{R} *= rescale{R};
    // Elements of O can be scaled only in memory.
    // each P 0..3 if PIECES > P
    subgroupMatrixStore<row_major>(&scores[pair], side * WEIGHT_WORDS, sum{4 * R + P}, WEIGHT_STRIDE);
    workgroupBarrier();
    scores[pair][mine + half] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[pair][mine + half]) * rescale{R});
    scores[pair][mine + half + 1u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[pair][mine + half + 1u]) * rescale{R});
    workgroupBarrier();
    sum{4 * R + P} = subgroupMatrixLoad<Result, row_major>(&scores[pair], side * WEIGHT_WORDS, WEIGHT_STRIDE);
    workgroupBarrier();
    // end
    // end
    sumExp0 += storeWeights(pair, mine, seenPowers(a, unit0, maxScore0), seenPowers(b, unit0, maxScore0));
    sumExp1 += storeWeights(pair, mine + 2u, seenPowers(c, unit1, maxScore1), seenPowers(d, unit1, maxScore1));
    workgroupBarrier();
  }

  // Write the rows to the output, or to the span's partials.
  var total = vec2<f32>(sumExp0 + subgroupShuffleXor(sumExp0, 1u), sumExp1 + subgroupShuffleXor(sumExp1, 1u));
  workgroupBarrier();
  if (half == 0u) {
    scores[pair][own] = vec4<u32>(bitcast<vec2<u32>>(total), 0u, 0u);
  }
  workgroupBarrier();
  total += bitcast<vec2<f32>>(scores[pair][other].xy);
  // each R 0..1
  let inverse{R} = VALUE_CODE / select(total[{R}], 1.0, SPANS);
  let head{R} = kvHead * GROUP + row{R} % GROUP;
  var outAt{R} = ((work.run.token + row{R} / GROUP) * KV_HEADS * GROUP + head{R}) * HEAD_DIM;
  if (SPANS) {
    outAt{R} = (((work.run.spanned + row{R} / GROUP) * KV_HEADS * GROUP + head{R}) * work.places + workgroup.z) * (HEAD_DIM + 4u);
  }
  if (SPANS && half == 0u && side == 0u) {
    out[(outAt{R} + HEAD_DIM) / 4u] = vec4<u32>(bitcast<u32>(maxScore{R}), bitcast<u32>(total[{R}]), 0u, 0u);
  }
  if (OUT_F16 && half == 0u && side == 0u && kvHead == 0u && row{R} % GROUP == 0u) {
    out[params.factorsAt + work.run.token + row{R} / GROUP] = vec4<u32>(bitcast<u32>(1.0), 0u, 0u, 0u);
  }
  // each P 0..3 if PIECES > P
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores[pair], side * WEIGHT_WORDS, sum{4 * R + P}, WEIGHT_STRIDE);
  workgroupBarrier();
  {
    let x = bitcast<vec4<f32>>(scores[pair][mine + half]) * inverse{R};
    let y = bitcast<vec4<f32>>(scores[pair][mine + half + 1u]) * inverse{R};
    let place = outAt{R} + side * (HEAD_DIM / 2u) + {16 * P}u + half * 8u;
    if (OUT_F16) {
      out[place / 8u] = halvesOf(x, y);
    } else {
      out[place / 4u] = bitcast<vec4<u32>>(x);
      out[place / 4u + 1u] = bitcast<vec4<u32>>(y);
    }
  }
  // end
  // end
}
