// attendDecode with f16 subgroup matrices: one token's queries over a 4-bit cache. A workgroup is one subgroup; it does a block
// of 32 tokens at a time for 8 query heads of one KV head, the heads being the columns of its matrices: S' = K Q', online
// softmax with a lane for each token, O' += V' W. Codes become f16 in workgroup memory, which is small, so that many
// workgroups hide each other's waits.
// As in attendPromptMatrix, O stays in matrix registers and is scaled down only when a maximum has grown 2^8 times; weights
// carry the values' scales of rq4, so it is the products of both that f16 must hold.
// What a lane holds has names, written out wherever it is used: indexed in loops that a compiler does not unroll, it would
// live in local memory. What lies past the head's dims is never touched and costs nothing. Offsets of matrices in workgroup
// memory are constants: Dawn puts every other load into an `if`.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, spans, softcap, nibbles
// <values>
const KV_HEADS: u32 = 2u;
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 64u;
const INT4: bool = true;
const RQ4: bool = false;
const BLOCK_WORDS: u32 = 80u;
const SCALES_AT: u32 = 64u;
const MOST_SPANS: u32 = 128u;
const HAS_SOFTCAP: bool = false;
// </values>

const SUBGROUP: u32 = 32u;
const COLUMNS: u32 = 8u;
const SETS: u32 = (GROUP + COLUMNS - 1u) / COLUMNS;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
// Dims that are expanded at a time: larger heads are done in two stages.
const STAGE: u32 = 64u;
const STAGE_GROUPS: u32 = STAGE / 32u;
// 16 x 8 pieces of O'.
const PIECES: u32 = GROUPS * 2u;
const TWO_STAGES: bool = GROUPS > STAGE_GROUPS;
// Rows of workgroup memory in words of 16 bytes, odd against bank conflicts: keys [token][dim], values [dim][token], scores
// [token][head]; weights [token][head].
const KEY_STRIDE: u32 = STAGE / 8u + 1u;
const VALUE_STRIDE: u32 = 5u;
const STAGE_WORDS: u32 = max(max(32u * KEY_STRIDE, STAGE * VALUE_STRIDE), COLUMNS * KEY_STRIDE);
const SCORE_STRIDE: u32 = 3u;
const SCORE_WORDS: u32 = 32u * SCORE_STRIDE;
const RANGE_WORDS: u32 = select(1u, GROUPS * 8u, INT4);
// Of partials: a head's sums, then maximum and total.
const FOURS: u32 = HEAD_DIM / 4u;
const STRIDE: u32 = FOURS + 1u;
const ALL_WORDS: u32 = max(max(STAGE_WORDS, SCORE_WORDS), COLUMNS * FOURS);
const HIDDEN_SCORE: f32 = -1e30;
const HEADROOM: f32 = 8.0;
// Of queries and weights that meet high codes.
const HIGH: f32 = select(1.0, 0.125, RQ4);

struct Params {
  capacity: u32,
  // 0: all positions.
  window: u32,
  // With log2(e), since powers are of 2; with a soft cap instead scale / cap, and cap * log2(e).
  scale: f32,
  cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [heads][HEAD_DIM]
@group(0) @binding(2) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
// [heads][MOST_SPANS] of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 8, 16>;
alias Result = subgroup_matrix_result<f32, 8, 16>;

// Queries at first; then keys, scores and values by turns; in the end the sums, [head][dim].
var<workgroup> stage: array<vec4<u32>, ALL_WORDS>;
var<workgroup> weights: array<vec4<u32>, 32>;
// int4: of each group, for each four words of codes scales and zeros of values in the order of unpacking.
var<workgroup> ranges: array<vec4<u32>, RANGE_WORDS>;
var<workgroup> grown: u32;

// What a lane has loaded of its next block: words of codes of a token of each group, of a dim of each group; scales.
var<private> key0: vec4<u32>;
var<private> key1: vec4<u32>;
var<private> key2: vec4<u32>;
var<private> key3: vec4<u32>;
var<private> keyRanges: vec4<u32>;
var<private> value0: vec4<u32>;
var<private> value1: vec4<u32>;
var<private> value2: vec4<u32>;
var<private> value3: vec4<u32>;
var<private> valueScale: u32;
var<private> lowRanges: vec4<u32>;
var<private> highRanges: vec4<u32>;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let spans = spansOf(step.position, params.window, 32u, MOST_SPANS);
  let kvHead = workgroup.y / SETS;
  let firstHead = workgroup.y % SETS * COLUMNS;
  let start = spans.first + workgroup.x * spans.tokens;
  let end = min(start + spans.tokens, step.position + 1u);
  let blocks = params.capacity / 32u;
  var slot = start / 32u % blocks;
  loadKeys((kvHead * blocks + slot) * BLOCK_WORDS, lane);
  loadValues((kvHead * blocks + slot) * BLOCK_WORDS, lane);

  var q0: Right;
  var q1: Right;
  var q2: Right;
  var q3: Right;
  var q4: Right;
  var q5: Right;
  var q6: Right;
  var q7: Right;
  storeQueries(kvHead * GROUP, firstHead, 0u, lane);
  workgroupBarrier();
  q0 = subgroupMatrixLoad<Right, col_major>(&stage, 0u, KEY_STRIDE);
  q1 = subgroupMatrixLoad<Right, col_major>(&stage, 2u, KEY_STRIDE);
  if (GROUPS > 1u) {
    q2 = subgroupMatrixLoad<Right, col_major>(&stage, 4u, KEY_STRIDE);
    q3 = subgroupMatrixLoad<Right, col_major>(&stage, 6u, KEY_STRIDE);
  }
  if (TWO_STAGES) {
    workgroupBarrier();
    storeQueries(kvHead * GROUP, firstHead, STAGE_GROUPS, lane);
    workgroupBarrier();
    q4 = subgroupMatrixLoad<Right, col_major>(&stage, 0u, KEY_STRIDE);
    q5 = subgroupMatrixLoad<Right, col_major>(&stage, 2u, KEY_STRIDE);
    if (GROUPS > 3u) {
      q6 = subgroupMatrixLoad<Right, col_major>(&stage, 4u, KEY_STRIDE);
      q7 = subgroupMatrixLoad<Right, col_major>(&stage, 6u, KEY_STRIDE);
    }
  }
  var sum0: Result;
  var sum1: Result;
  var sum2: Result;
  var sum3: Result;
  var sum4: Result;
  var sum5: Result;
  var sum6: Result;
  var sum7: Result;
  // Of heads 0..3 and 4..7, the same in every lane; totals are a lane's own.
  var lowMost = vec4<f32>(HIDDEN_SCORE);
  var highMost = vec4<f32>(HIDDEN_SCORE);
  var lowTotals = vec4<f32>(0.0);
  var highTotals = vec4<f32>(0.0);

  for (var first = start; first < end; first += 32u) {
    // Codes of rq4 are expanded to 2 code - 15.
    let keyScale = 0.5 * unpack2x16float(keyRanges.x >> (lane % 2u * 16u)).x;
    let scale = 0.5 * unpack2x16float(valueScale >> (lane % 2u * 16u)).x;
    slot = select(slot + 1u, 0u, slot + 1u == blocks);
    let next = (kvHead * blocks + slot) * BLOCK_WORDS;
    workgroupBarrier();
    if (INT4) {
      storeRanges(lane);
    }
    stage[lane * KEY_STRIDE] = key(key0.x, keyRanges.x);
    stage[lane * KEY_STRIDE + 1u] = key(key0.y, keyRanges.x);
    stage[lane * KEY_STRIDE + 2u] = key(key0.z, keyRanges.x);
    stage[lane * KEY_STRIDE + 3u] = key(key0.w, keyRanges.x);
    if (GROUPS > 1u) {
      stage[lane * KEY_STRIDE + 4u] = key(key1.x, keyRanges.y);
      stage[lane * KEY_STRIDE + 5u] = key(key1.y, keyRanges.y);
      stage[lane * KEY_STRIDE + 6u] = key(key1.z, keyRanges.y);
      stage[lane * KEY_STRIDE + 7u] = key(key1.w, keyRanges.y);
    }
    if (!TWO_STAGES) {
      loadKeys(next, lane);
    }
    workgroupBarrier();
    var low = Result();
    var high = Result();
    low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, KEY_STRIDE), q0, low);
    high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * KEY_STRIDE, KEY_STRIDE), q0, high);
    low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, KEY_STRIDE), q1, low);
    high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * KEY_STRIDE + 2u, KEY_STRIDE), q1, high);
    if (GROUPS > 1u) {
      low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 4u, KEY_STRIDE), q2, low);
      high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * KEY_STRIDE + 4u, KEY_STRIDE), q2, high);
      low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 6u, KEY_STRIDE), q3, low);
      high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * KEY_STRIDE + 6u, KEY_STRIDE), q3, high);
    }
    if (TWO_STAGES) {
      workgroupBarrier();
      stage[lane * KEY_STRIDE] = key(key2.x, keyRanges.z);
      stage[lane * KEY_STRIDE + 1u] = key(key2.y, keyRanges.z);
      stage[lane * KEY_STRIDE + 2u] = key(key2.z, keyRanges.z);
      stage[lane * KEY_STRIDE + 3u] = key(key2.w, keyRanges.z);
      if (GROUPS > 3u) {
        stage[lane * KEY_STRIDE + 4u] = key(key3.x, keyRanges.w);
        stage[lane * KEY_STRIDE + 5u] = key(key3.y, keyRanges.w);
        stage[lane * KEY_STRIDE + 6u] = key(key3.z, keyRanges.w);
        stage[lane * KEY_STRIDE + 7u] = key(key3.w, keyRanges.w);
      }
      loadKeys(next, lane);
      workgroupBarrier();
      low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, KEY_STRIDE), q4, low);
      high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * KEY_STRIDE, KEY_STRIDE), q4, high);
      low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, KEY_STRIDE), q5, low);
      high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * KEY_STRIDE + 2u, KEY_STRIDE), q5, high);
      if (GROUPS > 3u) {
        low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 4u, KEY_STRIDE), q6, low);
        high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * KEY_STRIDE + 4u, KEY_STRIDE), q6, high);
        low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 6u, KEY_STRIDE), q7, low);
        high = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * KEY_STRIDE + 6u, KEY_STRIDE), q7, high);
      }
    }
    workgroupBarrier();
    subgroupMatrixStore<row_major>(&stage, 0u, low, SCORE_STRIDE);
    subgroupMatrixStore<row_major>(&stage, 16u * SCORE_STRIDE, high, SCORE_STRIDE);
    workgroupBarrier();

    // A value's scale takes part in the maximum: 2^exponent is what f16 has to hold.
    let factor = max(scale, 2.98e-8);
    let lift = select(0.0, log2(factor), RQ4);
    let position = first + lane;
    let visible = position >= spans.oldest && position <= step.position;
    let lowExponents = select(vec4<f32>(HIDDEN_SCORE), exponents(stage[lane * SCORE_STRIDE], keyScale, lift), visible);
    let highExponents = select(vec4<f32>(HIDDEN_SCORE), exponents(stage[lane * SCORE_STRIDE + 1u], keyScale, lift), visible);
    let grows = subgroupAny(any(lowExponents > lowMost + HEADROOM) || any(highExponents > highMost + HEADROOM));
    if (lane == 0u) {
      grown = u32(grows);
    }
    if (workgroupUniformLoad(&grown) != 0u) {
      let lowTop = max(lowMost, subgroupMax(lowExponents));
      let highTop = max(highMost, subgroupMax(highExponents));
      let lowShrink = exp2(lowMost - lowTop);
      let highShrink = exp2(highMost - highTop);
      lowMost = lowTop;
      highMost = highTop;
      lowTotals *= lowShrink;
      highTotals *= highShrink;
      if (first != start) {
        shrinkPiece(&sum0, lowShrink, highShrink, lane);
        shrinkPiece(&sum1, lowShrink, highShrink, lane);
        if (PIECES > 2u) { shrinkPiece(&sum2, lowShrink, highShrink, lane); }
        if (PIECES > 3u) { shrinkPiece(&sum3, lowShrink, highShrink, lane); }
        if (PIECES > 4u) { shrinkPiece(&sum4, lowShrink, highShrink, lane); }
        if (PIECES > 5u) { shrinkPiece(&sum5, lowShrink, highShrink, lane); }
        if (PIECES > 6u) { shrinkPiece(&sum6, lowShrink, highShrink, lane); }
        if (PIECES > 7u) { shrinkPiece(&sum7, lowShrink, highShrink, lane); }
      }
    }
    stage[lane * VALUE_STRIDE] = value(value0.x, 0u);
    stage[lane * VALUE_STRIDE + 1u] = value(value0.y, 2u);
    stage[lane * VALUE_STRIDE + 2u] = value(value0.z, 4u);
    stage[lane * VALUE_STRIDE + 3u] = value(value0.w, 6u);
    if (GROUPS > 1u) {
      stage[lane * VALUE_STRIDE + 32u * VALUE_STRIDE] = value(value1.x, 8u);
      stage[lane * VALUE_STRIDE + 32u * VALUE_STRIDE + 1u] = value(value1.y, 10u);
      stage[lane * VALUE_STRIDE + 32u * VALUE_STRIDE + 2u] = value(value1.z, 12u);
      stage[lane * VALUE_STRIDE + 32u * VALUE_STRIDE + 3u] = value(value1.w, 14u);
    }
    if (!TWO_STAGES) {
      loadValues(next, lane);
    }
    // Weights lie in the order in which codes of values unpack.
    let place = lane % 16u / 4u * 8u + lane / 16u * 4u + swapMiddle(lane % 4u);
    let a = exp2(lowExponents - lowMost);
    let b = exp2(highExponents - highMost);
    if (RQ4) {
      let back = 1.0 / factor;
      lowTotals += a * back;
      highTotals += b * back;
      let live = select(select(1.0, HIGH, lane >= 16u), 0.0, scale == 0.0);
      weights[place] = halves(a * live, b * live);
    } else {
      lowTotals += a;
      highTotals += b;
      weights[place] = halves(a, b);
    }
    workgroupBarrier();
    let lowWeights = subgroupMatrixLoad<Right, row_major>(&weights, 0u, 1u);
    let highWeights = subgroupMatrixLoad<Right, row_major>(&weights, 16u, 1u);
    sum0 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, VALUE_STRIDE), lowWeights, sum0);
    sum0 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, VALUE_STRIDE), highWeights, sum0);
    sum1 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * VALUE_STRIDE, VALUE_STRIDE), lowWeights, sum1);
    sum1 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * VALUE_STRIDE + 2u, VALUE_STRIDE), highWeights, sum1);
    if (GROUPS > 1u) {
      sum2 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 32u * VALUE_STRIDE, VALUE_STRIDE), lowWeights, sum2);
      sum2 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 32u * VALUE_STRIDE + 2u, VALUE_STRIDE), highWeights, sum2);
      sum3 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 48u * VALUE_STRIDE, VALUE_STRIDE), lowWeights, sum3);
      sum3 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 48u * VALUE_STRIDE + 2u, VALUE_STRIDE), highWeights, sum3);
    }
    if (TWO_STAGES) {
      workgroupBarrier();
      stage[lane * VALUE_STRIDE] = value(value2.x, 16u);
      stage[lane * VALUE_STRIDE + 1u] = value(value2.y, 18u);
      stage[lane * VALUE_STRIDE + 2u] = value(value2.z, 20u);
      stage[lane * VALUE_STRIDE + 3u] = value(value2.w, 22u);
      if (GROUPS > 3u) {
        stage[lane * VALUE_STRIDE + 32u * VALUE_STRIDE] = value(value3.x, 24u);
        stage[lane * VALUE_STRIDE + 32u * VALUE_STRIDE + 1u] = value(value3.y, 26u);
        stage[lane * VALUE_STRIDE + 32u * VALUE_STRIDE + 2u] = value(value3.z, 28u);
        stage[lane * VALUE_STRIDE + 32u * VALUE_STRIDE + 3u] = value(value3.w, 30u);
      }
      loadValues(next, lane);
      workgroupBarrier();
      sum4 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 0u, VALUE_STRIDE), lowWeights, sum4);
      sum4 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 2u, VALUE_STRIDE), highWeights, sum4);
      sum5 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * VALUE_STRIDE, VALUE_STRIDE), lowWeights, sum5);
      sum5 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 16u * VALUE_STRIDE + 2u, VALUE_STRIDE), highWeights, sum5);
      if (GROUPS > 3u) {
        sum6 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 32u * VALUE_STRIDE, VALUE_STRIDE), lowWeights, sum6);
        sum6 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 32u * VALUE_STRIDE + 2u, VALUE_STRIDE), highWeights, sum6);
        sum7 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 48u * VALUE_STRIDE, VALUE_STRIDE), lowWeights, sum7);
        sum7 = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, 48u * VALUE_STRIDE + 2u, VALUE_STRIDE), highWeights, sum7);
      }
    }
  }

  let lowAll = subgroupAdd(lowTotals);
  let highAll = subgroupAdd(highTotals);
  workgroupBarrier();
  subgroupMatrixStore<col_major>(&stage, 0u, sum0, FOURS);
  subgroupMatrixStore<col_major>(&stage, 4u, sum1, FOURS);
  if (HEAD_DIM > 32u) { subgroupMatrixStore<col_major>(&stage, 8u, sum2, FOURS); }
  if (HEAD_DIM > 48u) { subgroupMatrixStore<col_major>(&stage, 12u, sum3, FOURS); }
  if (HEAD_DIM > 64u) { subgroupMatrixStore<col_major>(&stage, 16u, sum4, FOURS); }
  if (HEAD_DIM > 80u) { subgroupMatrixStore<col_major>(&stage, 20u, sum5, FOURS); }
  if (HEAD_DIM > 96u) { subgroupMatrixStore<col_major>(&stage, 24u, sum6, FOURS); }
  if (HEAD_DIM > 112u) { subgroupMatrixStore<col_major>(&stage, 28u, sum7, FOURS); }
  workgroupBarrier();
  let span = ((kvHead * GROUP + firstHead) * MOST_SPANS + workgroup.x) * STRIDE;
  let heads = min(COLUMNS, GROUP - firstHead);
  for (var item = lane; item < heads * FOURS; item += SUBGROUP) {
    partials[span + item / FOURS * MOST_SPANS * STRIDE + item % FOURS] = bitcast<vec4<f32>>(stage[item]);
  }
  if (lane < heads) {
    let most = select(highMost[lane % 4u], lowMost[lane % 4u], lane < 4u);
    let all = select(highAll[lane % 4u], lowAll[lane % 4u], lane < 4u);
    partials[span + lane * MOST_SPANS * STRIDE + FOURS] = vec4<f32>(most, all, 0.0, 0.0);
  }
}

// Columns of O' by a factor each: through memory, since elements of matrices cannot be reached.
fn shrinkPiece(sum: ptr<function, Result>, lowShrink: vec4<f32>, highShrink: vec4<f32>, lane: u32) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&stage, 0u, *sum, SCORE_STRIDE);
  workgroupBarrier();
  if (lane < 16u) {
    let low = bitcast<vec4<f32>>(stage[lane * SCORE_STRIDE]) * lowShrink;
    let high = bitcast<vec4<f32>>(stage[lane * SCORE_STRIDE + 1u]) * highShrink;
    stage[lane * SCORE_STRIDE] = bitcast<vec4<u32>>(low);
    stage[lane * SCORE_STRIDE + 1u] = bitcast<vec4<u32>>(high);
  }
  workgroupBarrier();
  *sum = subgroupMatrixLoad<Result, row_major>(&stage, 0u, SCORE_STRIDE);
  workgroupBarrier();
}

fn exponents(products: vec4<u32>, keyScale: f32, lift: f32) -> vec4<f32> {
  var four = bitcast<vec4<f32>>(products);
  if (RQ4) {
    four *= keyScale;
  }
  if (HAS_SOFTCAP) {
    four = params.cap * vec4<f32>(boundedTanh(four.x), boundedTanh(four.y), boundedTanh(four.z), boundedTanh(four.w));
  }
  return four + lift;
}

fn halves(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(
    bitcast<u32>(vec2<f16>(a.xy)), bitcast<u32>(vec2<f16>(a.zw)), bitcast<u32>(vec2<f16>(b.xy)), bitcast<u32>(vec2<f16>(b.zw)));
}

// STAGE dims of the workgroup's query heads as f16, scaled, in the order of unpacked codes. Heads past the group's end are
// done like its last one; nobody reads their sums.
fn storeQueries(heads: u32, firstHead: u32, firstGroup: u32, lane: u32) {
  for (var item = lane; item < COLUMNS * STAGE / 8u; item += SUBGROUP) {
    let h = item / (STAGE / 8u);
    let chunk = item % (STAGE / 8u);
    let d = (firstGroup + chunk / 4u) * 32u + chunk % 4u * 4u;
    let at = (heads + min(firstHead + h, GROUP - 1u)) * HEAD_DIM;
    let a = queries[(at + d) / 4u] * params.scale;
    var b = vec4<f32>(0.0);
    if (d + 16u < HEAD_DIM) {
      b = queries[(at + d + 16u) / 4u] * params.scale;
    }
    stage[h * KEY_STRIDE + chunk] = halves(a.xzyw, b.xzyw * HIGH);
  }
}

// Keys: a lane has a token. Values: a lane has a dim of each group.
fn loadKeys(block: u32, lane: u32) {
  let at = block + lane;
  key0 = keys[at];
  if (GROUPS > 1u) { key1 = keys[at + 32u]; }
  if (GROUPS > 2u) { key2 = keys[at + 64u]; }
  if (GROUPS > 3u) { key3 = keys[at + 96u]; }
  if (INT4) {
    let scales = block + SCALES_AT + lane / 4u;
    keyRanges.x = keys[scales][lane % 4u];
    if (GROUPS > 1u) { keyRanges.y = keys[scales + 8u][lane % 4u]; }
    if (GROUPS > 2u) { keyRanges.z = keys[scales + 16u][lane % 4u]; }
    if (GROUPS > 3u) { keyRanges.w = keys[scales + 24u][lane % 4u]; }
  } else {
    keyRanges.x = keys[block + SCALES_AT + lane / 8u][lane % 8u / 2u];
  }
}

fn loadValues(block: u32, lane: u32) {
  let at = block + lane;
  value0 = values[at];
  if (GROUPS > 1u) { value1 = values[at + 32u]; }
  if (GROUPS > 2u) { value2 = values[at + 64u]; }
  if (GROUPS > 3u) { value3 = values[at + 96u]; }
  if (INT4) {
    // Scales and zeros of eight tokens of a group: those of one word of codes.
    let scales = block + SCALES_AT + min(lane / 4u, GROUPS - 1u) * 8u + lane % 4u;
    lowRanges = values[scales];
    highRanges = values[scales + 4u];
  } else {
    valueScale = values[block + SCALES_AT + lane / 8u][lane % 8u / 2u];
  }
}

fn storeRanges(lane: u32) {
  if (lane < GROUPS * 4u) {
    let low = lowRanges;
    let high = highRanges;
    ranges[lane * 2u] = vec4<u32>(
      bitcast<u32>(lowHalves(low.x, low.z)), bitcast<u32>(lowHalves(low.y, low.w)),
      bitcast<u32>(lowHalves(high.x, high.z)), bitcast<u32>(lowHalves(high.y, high.w)));
    ranges[lane * 2u + 1u] = vec4<u32>(
      bitcast<u32>(highHalves(low.x, low.z)), bitcast<u32>(highHalves(low.y, low.w)),
      bitcast<u32>(highHalves(high.x, high.z)), bitcast<u32>(highHalves(high.y, high.w)));
  }
}

// A word's eight codes in the order 0, 2, 1, 3 of its low halves, as 2 code - 15, then of its high ones, 8 times as large:
// they need no shift. Queries and weights of the high ones are an eighth.
fn centred(word: u32) -> vec4<u32> {
  return vec4<u32>(centre(word << 1u), centre(word >> 7u), centreHigh(word), centreHigh(word >> 8u));
}

// Of a token's dims, under one scale and zero.
fn key(word: u32, range: u32) -> vec4<u32> {
  if (RQ4) {
    return centred(word);
  }
  let both = bitcast<vec2<f16>>(range);
  return vec4<u32>(
    expand(word, both.xx, both.yy), expand(word >> 8u, both.xx, both.yy),
    expandHigh(word, both.xx, both.yy), expandHigh(word >> 8u, both.xx, both.yy));
}

// Of a dim's tokens.
fn value(word: u32, at: u32) -> vec4<u32> {
  if (RQ4) {
    return centred(word);
  }
  let scales = ranges[at];
  let zeros = ranges[at + 1u];
  return vec4<u32>(
    expand(word, bitcast<vec2<f16>>(scales.x), bitcast<vec2<f16>>(zeros.x)),
    expand(word >> 8u, bitcast<vec2<f16>>(scales.y), bitcast<vec2<f16>>(zeros.y)),
    expandHigh(word, bitcast<vec2<f16>>(scales.z), bitcast<vec2<f16>>(zeros.z)),
    expandHigh(word >> 8u, bitcast<vec2<f16>>(scales.w), bitcast<vec2<f16>>(zeros.w)));
}
