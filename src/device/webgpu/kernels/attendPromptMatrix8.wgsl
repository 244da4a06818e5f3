// attendPrompt by 8x8x8 subgroup matrices of float32, which Metal has: a chunk's queries over the cache of any format; of a packed
// cache over one of its parts. The rows of a workgroup are the query heads of one KV head, token by token; a subgroup has 16 of
// them and at most 64 of the head's dims, so that q and O stay in registers and a matrix of keys or values serves two products.
// 16 tokens at a time: keys become floats in workgroup memory, once for all rows, S = Q K', online softmax with two lanes a row,
// values take the keys' place, O += W V. O is scaled down only when a maximum has grown 2^20 times. What a lane holds has a name
// each, since indexed it would live in memory.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, tiles, spans, promptWork, softcap, kvCodes, planes, channels, floatCodes, promptEights, narrow, sinks
// <values>
const KV_HEADS: u32 = 2u;
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 64u;
// include: cacheValues
// Subgroups that share 16 rows, each with a slice of the head's dims: 1, 2 or 4.
const SPLIT: u32 = 1u;
const HAS_SOFTCAP: bool = false;
const HAS_SINKS: bool = false;
// Attends to one span of the positions, number z, and writes partials for attendMerge. TILE and MOST_SPANS are attendDecode's.
const SPANS: bool = false;
const TILE: u32 = 32u;
const MOST_SPANS: u32 = 128u;
// Used by lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
// </values>

const SUBGROUPS: u32 = 4u;
const WORKGROUP: u32 = 32u * SUBGROUPS;
const ROWS: u32 = 16u * SUBGROUPS / SPLIT;
const TOKENS: u32 = 16u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const KEY_GROUPS: u32 = GROUPS;
// Pieces of 8 dims per subgroup.
const PIECES: u32 = HEAD_DIM / 8u / SPLIT;
// The cache holds 4-bit codes; otherwise f16.
const CODED: bool = INT4 || RQ4;
// For rotated codes.
const MIDDLE: f32 = f32((1u << VALUE_BITS) - 1u) / 2.0;
const MASKED_SCORE: f32 = -1e30;
/// How far a score, as an exponent of 2, may exceed its maximum before the maximum is raised.
const HEADROOM: f32 = 20.0;

// Lengths of rows in vec4s, with a gap to avoid bank conflicts: a token's dims for keys (and f16 values), a dim's tokens for values, a
// row's tokens for scores.
const KEY_STRIDE: u32 = HEAD_DIM / 4u + 1u;
const VALUE_STRIDE: u32 = TOKENS / 4u + 1u;
const SCORE_STRIDE: u32 = TOKENS / 4u + 1u;
const SCORE_FOURS: u32 = 16u * SCORE_STRIDE;
const TILE_FOURS: u32 = max(TOKENS * KEY_STRIDE, select(0u, HEAD_DIM * VALUE_STRIDE, CODED));

struct Params {
  // Where the pool's tables begin in `batch`.
  table: u32,
  // 0: all positions.
  window: u32,
  // Includes log2(e), since powers are of 2. With a soft cap: scale / cap, and cap * log2(e).
  scale: f32,
  cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [tokens][heads][HEAD_DIM]
@group(0) @binding(2) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
// [tokens][heads][HEAD_DIM]; SPANS: [spanned][heads][spans], each of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;
// [heads]
@group(0) @binding(7) var<storage, read> sinks: array<f32>;

alias Left = subgroup_matrix_left<f32, 8, 8>;
alias Right = subgroup_matrix_right<f32, 8, 8>;
alias Result = subgroup_matrix_result<f32, 8, 8>;

// Keys [token][dim], then values [dim][token], or [token][dim] if they are f16.
var<workgroup> tile: array<vec4<f32>, TILE_FOURS>;
// For each subgroup: scores from its dims, then weights, [row][token]; in between 8 dims of queries or of O, [row][dim].
var<workgroup> scores: array<vec4<f32>, SUBGROUPS * SCORE_FOURS>;
// For each group of dims of values: the scales of 16 tokens, then their offsets.
var<workgroup> ranges: array<vec4<f32>, select(1u, select(GROUPS, 1u, RQ4) * 8u, CODED)>;
// For each four dims of keys: scales, and offsets.
var<workgroup> channels: array<vec4<f32>, select(1u, GROUPS * 16u, CHANNEL)>;
var<workgroup> growths: vec4<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let work = promptWorkOf(workgroup, params.table, params.window, ROWS);
  if (work.isNone) {
    return;
  }
  let kvHead = workgroup.y;
  let subgroup = local / 32u;
  let rowBlock = subgroup / SPLIT;
  // The first piece of this subgroup's dims.
  let slice = subgroup % SPLIT * PIECES;
  let own = subgroup * SCORE_FOURS;
  // Two lanes per row, each with eight tokens or half of a piece. Rows past the end repeat the last one.
  let line = local % 32u / 2u;
  let half = local % 2u;
  let mine = line * SCORE_STRIDE;
  let row = min(work.run.firstRow + rowBlock * 16u + line, work.rows - 1u);
  let query = work.run.position + row / GROUP;
  let head = kvHead * GROUP + row % GROUP;
  let rowAt = (work.run.token + row / GROUP) * KV_HEADS * GROUP + head;

  // For rows 0..7 and 8..15.
  // each P 0..7
  var q{P}: Left;
  var r{P}: Left;
  var sum{P}: Result;
  var more{P}: Result;
  // end
  // each P 0..7 if PIECES > P
  workgroupBarrier();
  scores[own + mine + half] = queries[rowAt * (HEAD_DIM / 4u) + (slice + {P}u) * 2u + half] * params.scale;
  workgroupBarrier();
  q{P} = subgroupMatrixLoad<Left, row_major>(&scores, own, SCORE_STRIDE);
  r{P} = subgroupMatrixLoad<Left, row_major>(&scores, own + 8u * SCORE_STRIDE, SCORE_STRIDE);
  // end
  // Both lanes of a row have the same maximum; each has its own sum.
  var maxScore = MASKED_SCORE;
  var sumExp = 0.0;

  for (var first = work.start; first < work.end; first += TOKENS) {
    let position = positionAt(work.gap, first);
    // The number of the block's tokens that any row sees.
    let seen = max(work.lastQuery + 1u, position / 32u * 32u) - position / 32u * 32u;
    let block = blockOf(work.table, position / 32u, KV_HEADS, kvHead);
    // 0: the block's first 16 tokens; 1: the others.
    let side = position % 32u / TOKENS;
    if (CHANNEL && side == 0u) {
      stageChannels(block * KEY_WORDS + KEY_SCALES_AT, local);
    }
    workgroupBarrier();
    stageKeys(block * KEY_WORDS, side, local);
    if (CODED) {
      stageRanges(block * VALUE_WORDS + VALUE_SCALES_AT, side, seen, local);
    }
    workgroupBarrier();

    // S = Q K', for this subgroup's dims.
    // each T 0..1
    var s{T} = Result();
    var t{T} = Result();
    // end
    // each P 0..7 if PIECES > P
    // each T 0..1
    let key{T}P{P} = subgroupMatrixLoad<Right, col_major>(&tile, {8 * T}u * KEY_STRIDE + (slice + {P}u) * 2u, KEY_STRIDE);
    s{T} = subgroupMatrixMultiplyAccumulate(q{P}, key{T}P{P}, s{T});
    t{T} = subgroupMatrixMultiplyAccumulate(r{P}, key{T}P{P}, t{T});
    // end
    // end
    // each T 0..1
    subgroupMatrixStore<row_major>(&scores, own + {2 * T}u, s{T}, SCORE_STRIDE);
    subgroupMatrixStore<row_major>(&scores, own + 8u * SCORE_STRIDE + {2 * T}u, t{T}, SCORE_STRIDE);
    // end
    workgroupBarrier();

    // Online softmax.
    let at = rowBlock * SPLIT * SCORE_FOURS + mine + half * 2u;
    let low = fourScores(at, query, position + half * 8u);
    let high = fourScores(at + 1u, query, position + half * 8u + 4u);
    let four = max(low, high);
    let own8 = max(max(four.x, four.y), max(four.z, four.w));
    let highest = max(own8, subgroupShuffleXor(own8, 1u));
    noteGrowth(highest > maxScore + HEADROOM, subgroup, local % 32u);
    // All products with keys are done, so values may take their memory.
    stageValues(block * VALUE_WORDS, side, seen, local);
    // After this call, all threads have read the scores.
    if (anyGrowth()) {
      let next = max(maxScore, highest);
      let rescale = exp2(maxScore - next);
      maxScore = next;
      sumExp *= rescale;
      if (first != work.start) {
        // each P 0..7 if PIECES > P
        rescalePiece(&sum{P}, &more{P}, own, mine + half, rescale);
        // end
      }
    }
    // Masked scores have the weight 0, whatever the maximum.
    let lowWeights = select(vec4<f32>(), exp2(low - maxScore), low > vec4<f32>(MASKED_SCORE));
    let highWeights = select(vec4<f32>(), exp2(high - maxScore), high > vec4<f32>(MASKED_SCORE));
    sumExp += dot(lowWeights + highWeights, vec4<f32>(1.0));
    scores[own + mine + half * 2u] = lowWeights;
    scores[own + mine + half * 2u + 1u] = highWeights;
    workgroupBarrier();

    // O += W V.
    // each T 0..1
    let w{T} = subgroupMatrixLoad<Left, row_major>(&scores, own + {2 * T}u, SCORE_STRIDE);
    let x{T} = subgroupMatrixLoad<Left, row_major>(&scores, own + 8u * SCORE_STRIDE + {2 * T}u, SCORE_STRIDE);
    // end
    // each P 0..7 if PIECES > P
    // each T 0..1
    let value{T}P{P} = valuePiece({T}u, slice + {P}u);
    sum{P} = subgroupMatrixMultiplyAccumulate(w{T}, value{T}P{P}, sum{P});
    more{P} = subgroupMatrixMultiplyAccumulate(x{T}, value{T}P{P}, more{P});
    // end
    // end
  }

  // Write the rows to the output, or to the span's partials.
  sumExp += subgroupShuffleXor(sumExp, 1u);
  if (HAS_SINKS) {
    sumExp += sinkWeight(sinks[head], maxScore);
  }
  var factor = 1.0 / sumExp;
  var outAt = rowAt * (HEAD_DIM / 4u);
  if (SPANS) {
    factor = 1.0;
    outAt = (((work.run.spanned + row / GROUP) * KV_HEADS * GROUP + head) * work.places + workgroup.z) * (HEAD_DIM / 4u + 1u);
    if (half == 0u && slice == 0u) {
      out[outAt + HEAD_DIM / 4u] = vec4<f32>(maxScore, sumExp, 0.0, 0.0);
    }
  }
  // each P 0..7 if PIECES > P
  storePiece(&sum{P}, &more{P}, own);
  // Rows past the end repeat the last one and write the same.
  out[outAt + (slice + {P}u) * 2u + half] = scores[own + mine + half] * factor;
  // end
}

// Scores of four tokens from `at` on, for one row: the sum over all slices of its dims.
fn fourScores(at: u32, query: u32, position: u32) -> vec4<f32> {
  var four = scores[at];
  if (SPLIT > 1u) {
    four += scores[at + SCORE_FOURS];
  }
  if (SPLIT > 2u) {
    four += scores[at + 2u * SCORE_FOURS] + scores[at + 3u * SCORE_FOURS];
  }
  if (HAS_SOFTCAP) {
    four = params.cap * vec4<f32>(boundedTanh(four.x), boundedTanh(four.y), boundedTanh(four.z), boundedTanh(four.w));
  }
  let seen = vec4<bool>(
    sees(query, position, params.window), sees(query, position + 1u, params.window),
    sees(query, position + 2u, params.window), sees(query, position + 3u, params.window));
  return select(vec4<f32>(MASKED_SCORE), four, seen);
}
