// attendPrompt by f16 subgroup matrices with f32 sums. The rows of a workgroup are the query heads of one KV head, token by token, 16
// rows per subgroup, so that they share what is expanded. Tile by tile: keys and values become f16 in workgroup memory, S = Q K',
// online softmax by lanes, O += P V. O stays in matrix registers, whose elements cannot be accessed: a row's weights are relative to
// an old maximum until the new one is 2^8 times larger; only then O is scaled, through memory. Pieces P of 16 dims have names: if
// loops indexed them, they would be in local memory. Columns of a tile are its tokens in the order in which codes unpack (tokenOf).
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, tiles, spans, promptWork, softcap, nibbles, planes, channelFours, promptCodes, promptTile, promptQueries
// lib: promptPowers, promptScores, promptPieces, narrow, sinks
// <values>
const KV_HEADS: u32 = 2u;
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 64u;
// 0: keys and values are separate. Otherwise one vector is both: the cache holds TURNED rotated dims as keys, HEAD_DIM dims as values.
const TURNED: u32 = 0u;
// include: cacheValues
// Blocks of 16 rows, and the subgroups that share one, each with a slice of the head's dims.
const ROW_BLOCKS: u32 = 4u;
const SPLIT: u32 = 1u;
// Tokens of a tile: 32, or 16 if a tile of 32 would not fit.
const TOKENS: u32 = 32u;
const HAS_SOFTCAP: bool = false;
const HAS_SINKS: bool = false;
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
const SUBGROUPS: u32 = ROW_BLOCKS * SPLIT;
const WORKGROUP: u32 = SUBGROUPS * SUBGROUP;
const ROWS: u32 = ROW_BLOCKS * 16u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
// 16 x 16 pieces of a row block per subgroup.
const PIECES: u32 = HEAD_DIM / 16u / SPLIT;
const MASKED_SCORE: f32 = -1e30;

// include: promptParams
// [tokens][heads][TURNED + HEAD_DIM] f32
@group(0) @binding(2) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
// [tokens][heads][HEAD_DIM]; SPANS: [spanned][heads][spans], each of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(5) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;
// [heads]
@group(0) @binding(7) var<storage, read> sinks: array<f32>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

// First queries, then keys and values in turn: less memory, so that more workgroups share a core.
var<workgroup> tile: array<array<vec4<u32>, TILE_WORDS>, SLICES>;
// For each subgroup: scores f32, weights f16, pieces of O.
var<workgroup> scores: array<vec4<u32>, SUBGROUPS * SCORE_WORDS>;
// CHANNEL: for each four dims of the next keys, if the rows of scores have no room for them.
var<workgroup> channels: array<vec4<u32>, select(1u, KEY_GROUPS * 8u, CHANNEL && !IN_ROWS)>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let work = promptWorkOf(workgroup, params.table, params.window, ROWS);
  if (work.isNone) {
    return;
  }
  let kvHead = workgroup.y;
  let subgroup = local / SUBGROUP;
  let lane = local % SUBGROUP;
  let rowBlock = subgroup / SPLIT;
  let slice = subgroup % SPLIT * PIECES;
  let own = subgroup * SCORE_WORDS;
  ownSlice = subgroup % SPLIT;
  // Two lanes per row, each with half of the columns.
  let row = min(work.run.firstRow + rowBlock * 16u + lane / 2u, work.rows - 1u);
  let half = lane % 2u;
  let mine = lane / 2u * SCORE_STRIDE;
  let weightsAt = own + mine + half * WEIGHT_HALF;
  let query = work.run.position + row / GROUP;
  let begin = positionAt(work.gap, work.start);
  load(pageAt(work.table, kvHead, begin), begin, local);
  // The page is looked up one tile before it is loaded.
  var page = pageAt(work.table, kvHead, positionAt(work.gap, work.start + TOKENS));

  // Queries become f16, each row divided by a factor, and then matrices.
  let factor = queryFactor(work.run.token, kvHead, row, half);
  // The factor of scores, applied when the maximum is found and subtracted; a power of two, so that fma rounds as max does.
  let unit = select(factor, 1.0, HAS_SOFTCAP);
  scores[rowBlock * 16u + lane / 2u] = vec4<u32>(bitcast<u32>(inverseFactor(factor)));
  workgroupBarrier();
  // each P 0..7
  var q{P}: Left;
  var turned{P}: Left;
  var sum{P}: Result;
  // end
  // STAGED rows at a time, so that they need no more workgroup memory than a tile.
  for (var firstRow = 0u; firstRow < ROWS; firstRow += STAGED) {
    stageQueries(work, kvHead, firstRow, local);
    workgroupBarrier();
    if (rowBlock * 16u / STAGED == firstRow / STAGED) {
      // each P 0..7 if PIECES > P
      q{P} = queryPiece(rowBlock % (STAGED / 16u), {P}u);
      // end
      // each P 0..7 if TURNED_PIECES > P
      turned{P} = turnedPiece(rowBlock % (STAGED / 16u), ownSlice * TURNED_PIECES + {P}u);
      // end
    }
    workgroupBarrier();
  }
  var maxScore = MASKED_SCORE;
  var sumExp = 0.0;
  clearTile(local);
  workgroupBarrier();
  var lanes = LaneScores();
  var first = work.start;
  loop {
    // Maxima are raised outside the inner loop, in which nearly all tiles stay: inside it, this cost a sixth of the time (H200,
    // 2026-11-29).
    var grows = false;
    loop {
      // O += P V of the previous tile; of zeros at first.
      if (SPLIT == 1u) {
        let lowWeights = subgroupMatrixLoad<Left, row_major>(&scores, own, SCORE_STRIDE);
        let highWeights = subgroupMatrixLoad<Left, row_major>(&scores, own + WEIGHT_HALF, SCORE_STRIDE);
        // each P 0..7 if PIECES > P
        if (CODED) {
          let valuesAt{P} = min({P}u, PIECES - 1u) * PIECE;
          sum{P} = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, col_major>(&tile[0], valuesAt{P}, VALUE_STRIDE), sum{P});
          sum{P} = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, col_major>(&tile[0], valuesAt{P} + SECOND / 8u, VALUE_STRIDE), sum{P});
        } else {
          sum{P} = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, row_major>(&tile[0], {2 * P}u, VALUE_STRIDE), sum{P});
          sum{P} = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, row_major>(&tile[0], SECOND * VALUE_STRIDE + {2 * P}u, VALUE_STRIDE), sum{P});
        }
        // end
      } else {
        for (var s = 0u; s < STEPS; s++) {
          let weights = subgroupMatrixLoad<Left, row_major>(
            &scores, own + s / HALF_STEPS * WEIGHT_HALF + s % HALF_STEPS * 2u, SCORE_STRIDE);
          // each P 0..7 if PIECES > P
          addValues(&sum{P}, weights, s, placeOf({P}u));
          // end
        }
      }
      if (first >= work.end) {
        break;
      }
      storeChannels(local);
      let nextPage = pageAt(work.table, kvHead, positionAt(work.gap, first + 2u * TOKENS));
      workgroupBarrier();
      expandKeys(local);
      loadKeys(page, positionAt(work.gap, first + TOKENS), local);
      workgroupBarrier();

      // S = Q K'.
      if (TURNED > 0u) {
        for (var s = 0u; s < STEPS; s++) {
          var product = Result();
          // each P 0..7 if TURNED_PIECES > P
          addTurned(&product, turned{P}, s, ownSlice * TURNED_PIECES + {P}u);
          // end
          subgroupMatrixStore<row_major>(&scores, own + s * 4u, product, SCORE_STRIDE);
        }
        workgroupBarrier();
        expandValues(positionAt(work.gap, first), work.lastQuery, local);
        workgroupBarrier();
        for (var s = 0u; s < STEPS; s++) {
          var product = subgroupMatrixLoad<Result, row_major>(&scores, own + s * 4u, SCORE_STRIDE);
          // each P 0..7 if PIECES > P
          addValuesAsKeys(&product, q{P}, s, placeOf({P}u));
          // end
          subgroupMatrixStore<row_major>(&scores, own + s * 4u, product, SCORE_STRIDE);
        }
      } else if (SPLIT == 1u) {
        var low = Result();
        var high = Result();
        // each P 0..7 if PIECES > P
        low = subgroupMatrixMultiplyAccumulate(q{P}, subgroupMatrixLoad<Right, col_major>(&tile[0], {2 * P}u, KEY_STRIDE), low);
        high = subgroupMatrixMultiplyAccumulate(q{P}, subgroupMatrixLoad<Right, col_major>(&tile[0], SECOND * KEY_STRIDE + {2 * P}u, KEY_STRIDE), high);
        // end
        subgroupMatrixStore<row_major>(&scores, own, low, SCORE_STRIDE);
        subgroupMatrixStore<row_major>(&scores, own + 4u, high, SCORE_STRIDE);
      } else {
        for (var s = 0u; s < STEPS; s++) {
          var product = Result();
          // each P 0..7 if PIECES > P
          addKeys(&product, q{P}, s, placeOf({P}u));
          // end
          subgroupMatrixStore<row_major>(&scores, own + s * 4u, product, SCORE_STRIDE);
        }
      }
      workgroupBarrier();

      // Online softmax, assuming that no maximum grows, which is rare after the first tiles.
      lanes = laneScores(rowBlock, mine + half * (TOKENS / 8u), factor);
      if (SPLIT > 1u) {
        // The row block's other subgroups read this one's scores.
        workgroupBarrier();
      }
      let position = positionAt(work.gap, first);
      let added = storeTileWeights(&lanes, work, position, half * (TOKENS / 2u), query, unit, maxScore, weightsAt);
      noteGrowth(added > MOST_ADDED, subgroup, lane);
      // All products with keys are done since the barrier before the scores were read.
      if (TURNED == 0u) {
        expandValues(position, work.lastQuery, local);
      }
      loadValues(page, positionAt(work.gap, first + TOKENS), local);
      page = nextPage;
      first += TOKENS;
      grows = anyGrowth();
      if (grows) {
        break;
      }
      sumExp += added;
    }
    if (!grows) {
      break;
    }
    let next = max(maxScore, highestOf(lanes) * unit);
    let rescale = exp2(maxScore - next);
    maxScore = next;
    sumExp *= rescale;
    // each P 0..7 if PIECES > P
    rescalePiece(&sum{P}, own, own + mine + half * 2u, rescale);
    // end
    sumExp += storeSeen(lanes, unit, maxScore, weightsAt);
    workgroupBarrier();
  }

  // Write the rows to the output, or to the span's partials.
  sumExp += subgroupShuffleXor(sumExp, 1u);
  if (HAS_SINKS) {
    sumExp += sinkWeight(sinks[kvHead * GROUP + row % GROUP], maxScore);
  }
  let inverse = VALUE_CODE / select(sumExp, 1.0, SPANS);
  let outAt = outAtRow(work, row, kvHead, workgroup.z) + slice * 16u + half * 8u;
  if (half == 0u && slice == 0u) {
    storeRow(work, row, kvHead, outAt, maxScore, sumExp);
  }
  // each P 0..7 if PIECES > P
  storePiece(&sum{P}, own, own + mine + half * 2u, outAt + {16 * P}u, inverse);
  // end
}
