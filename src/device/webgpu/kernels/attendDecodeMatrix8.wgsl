// attendDecode by 8x8x8 subgroup matrices of float32, which Metal has: one token's queries over a cache of 4 or 3 bits. A workgroup
// is one subgroup of 32; it takes a block of 32 tokens at a time for 8 query heads of one KV head, the rows of its matrices:
// S = Q K', online softmax with a lane for each token, O += W V. Codes become floats in workgroup memory, 32 dims at a time, a
// lane's token or dim in a row, which is the transposed order that loads take. O stays in matrix registers and is scaled down
// only when a maximum has grown 2^20 times. What a lane holds has a name each, since indexed it would live in memory.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, spans, decodeWork, softcap, planes, channels, floatCodes, eights
// <values>
// Query heads of a KV head.
const GROUP: u32 = 2u;
// 128 at most.
const HEAD_DIM: u32 = 64u;
// include: cacheValues
const MOST_SPANS: u32 = 128u;
// Used by lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
const HAS_SOFTCAP: bool = false;
// </values>

// Query heads per workgroup.
const ROWS: u32 = 8u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const KEY_GROUPS: u32 = GROUPS;
// Rows of 32 floats, in vec4s, with a gap to avoid bank conflicts.
const STRIDE: u32 = 9u;
const KEY_MIDDLE: f32 = select(7.5, 0.0, INT4);
const VALUE_MIDDLE: f32 = f32((1u << VALUE_BITS) - 1u) / 2.0;
// Words of partials per head: its sums, then the maximum and the sum of weights.
const FOURS: u32 = HEAD_DIM / 4u;
const SPAN_STRIDE: u32 = FOURS + 1u;

// include: decodeBindings
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

alias Left = subgroup_matrix_left<f32, 8, 8>;
alias Right = subgroup_matrix_right<f32, 8, 8>;
alias Result = subgroup_matrix_result<f32, 8, 8>;

// First 32 dims of queries [head][dim]; then in turn keys [token][dim], scores [head][token], values [dim][token]; at the end sums
// [head][dim].
var<workgroup> stage: array<vec4<f32>, 32u * STRIDE>;
// [head][token]
var<workgroup> weights: array<vec4<f32>, ROWS * STRIDE>;
// For each four dims of keys: scales, and offsets.
var<workgroup> channels: array<vec4<f32>, select(1u, GROUPS * 16u, CHANNEL)>;
// For each head.
var<workgroup> factors: array<f32, ROWS>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let work = workOf(workgroup, params.kvHeads, params.table, params.window, ROWS, 32u);
  if (work.isNone) {
    return;
  }
  let firstQuery = (work.row * params.kvHeads + work.kvHead) * GROUP;
  // each M 0..15
  var q{M}: Left;
  var sum{M}: Result;
  // end
  // each G 0..3 if GROUPS > G
  workgroupBarrier();
  stageQueries(firstQuery, work.firstHead, {G}u, lane);
  workgroupBarrier();
  // each K 0..3
  q{4 * G + K} = subgroupMatrixLoad<Left, row_major>(&stage, {2 * K}u, STRIDE);
  // end
  // end
  // Maxima are the same in every lane; each lane has its own sums. zeros: for int4, weights times the values' zeros for each group of
  // dims.
  var maxScore = MASKED;
  var sumExp = EightHeads();
  // each G 0..3
  var zeros{G}: EightHeads;
  // end

  for (var first = work.start; first < work.end; first += 32u) {
    let block = blockOf(work.table, first / 32u, params.kvHeads, work.kvHead);
    let keyBlock = block * KEY_WORDS;
    let valueBlock = block * VALUE_WORDS;
    workgroupBarrier();
    if (CHANNEL && lane < GROUPS * 8u) {
      let ranges = channelRanges(keyBlock + KEY_SCALES_AT, lane * 4u);
      channels[lane * 2u] = ranges[0];
      channels[lane * 2u + 1u] = ranges[1];
    }
    // S = Q K', for eight tokens each.
    // each T 0..3
    var s{T} = Result();
    // end
    // each G 0..3 if GROUPS > G
    workgroupBarrier();
    stageKeys(keyBlock, {G}u, lane);
    workgroupBarrier();
    // each T 0..3
    // each K 0..3
    s{T} = subgroupMatrixMultiplyAccumulate(q{4 * G + K}, subgroupMatrixLoad<Right, col_major>(&stage, {8 * T}u * STRIDE + {2 * K}u, STRIDE), s{T});
    // end
    // end
    // end
    workgroupBarrier();
    // each T 0..3
    subgroupMatrixStore<row_major>(&stage, {2 * T}u, s{T}, STRIDE);
    // end
    workgroupBarrier();

    // Online softmax.
    let visible = first + lane >= work.oldest && first + lane <= work.position && first + lane < work.lastEnd;
    let scores = scoresOf(lane, tokenScale(keyBlock, lane), visible);
    if (outgrows(scores, maxScore, lane)) {
      let next = EightHeads(max(maxScore.low, subgroupMax(scores.low)), max(maxScore.high, subgroupMax(scores.high)));
      let rescale = weightsOf(maxScore, next);
      maxScore = next;
      sumExp = timesEach(sumExp, rescale);
      if (first != work.start) {
        storeFactors(rescale, lane);
        // each G 0..3 if GROUPS > G
        zeros{G} = timesEach(zeros{G}, rescale);
        rescaleSum(&sum{4 * G}, lane);
        rescaleSum(&sum{4 * G + 1}, lane);
        rescaleSum(&sum{4 * G + 2}, lane);
        rescaleSum(&sum{4 * G + 3}, lane);
        // end
      }
    }
    let weight = weightsOf(scores, maxScore);
    sumExp = EightHeads(sumExp.low + weight.low, sumExp.high + weight.high);

    // O += W V.
    // each T 0..3
    var w{T}: Left;
    // end
    // each G 0..3 if GROUPS > G
    workgroupBarrier();
    if (INT4 || {G}u == 0u) {
      // Slots that the query does not see may hold anything, NaN too.
      let range = select(vec2<f32>(0.0), valueRange(valueBlock, {G}u, lane), visible);
      stageWeights(weight, range.x, lane);
      zeros{G} = EightHeads(zeros{G}.low + weight.low * range.y, zeros{G}.high + weight.high * range.y);
    }
    stageValues(valueBlock, {G}u, lane);
    workgroupBarrier();
    if (INT4 || {G}u == 0u) {
      // each T 0..3
      w{T} = subgroupMatrixLoad<Left, row_major>(&weights, {2 * T}u, STRIDE);
      // end
    }
    // each D 0..3
    // each T 0..3
    sum{4 * G + D} = subgroupMatrixMultiplyAccumulate(w{T}, subgroupMatrixLoad<Right, col_major>(&stage, {8 * D}u * STRIDE + {2 * T}u, STRIDE), sum{4 * G + D});
    // end
    // end
    // end
  }

  // Write the span's maxima, sums and O to its partials.
  let allSums = EightHeads(subgroupAdd(sumExp.low), subgroupAdd(sumExp.high));
  let span = work.partial * SPAN_STRIDE;
  let heads = min(ROWS, GROUP - work.firstHead);
  if (lane < heads) {
    partials[span + lane * work.places * SPAN_STRIDE + FOURS] = vec4<f32>(headOf(maxScore, lane), headOf(allSums, lane), 0.0, 0.0);
  }
  // each G 0..3 if GROUPS > G
  workgroupBarrier();
  // each D 0..3
  subgroupMatrixStore<row_major>(&stage, {2 * D}u, sum{4 * G + D}, STRIDE);
  // end
  workgroupBarrier();
  let allZeros{G} = EightHeads(subgroupAdd(zeros{G}.low), subgroupAdd(zeros{G}.high));
  storeSums(span, work.places, {G}u, heads, allZeros{G}, lane);
  // end
}
