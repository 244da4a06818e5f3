// attendDecode with f16 subgroup matrices: one token's queries over a 4-bit cache. A subgroup does a block of 32 tokens at a
// time for 8 query heads of one KV head, the heads being the columns of its matrices: S' = K Q', online softmax with a lane
// for each token, O' += V' W. Codes become f16 in workgroup memory. ROWS blocks are under way in a workgroup; large heads are
// split between SPLIT subgroups. The rows' sums are joined in the end, so that a span is one row of partials.
// As in attendPromptMatrix, O stays in matrix registers and is scaled down only when a maximum has grown 2^8 times; weights
// carry the values' scales of rq4, so it is the products of both that f16 must hold.
// What a lane holds has names, written out wherever it is used: indexed in loops that a compiler does not unroll, it would
// live in local memory. What lies past the head's dims is never touched and costs nothing.
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
// Blocks of a tile; subgroups that share one, each with a slice of the head's dims, at most 128.
const ROWS: u32 = 4u;
const SPLIT: u32 = 1u;
// Dims of a slice that are expanded at a time.
const STAGE: u32 = 64u;
const MOST_SPANS: u32 = 128u;
const HAS_SOFTCAP: bool = false;
// </values>

const SUBGROUP: u32 = 32u;
const SUBGROUPS: u32 = ROWS * SPLIT;
const WORKGROUP: u32 = SUBGROUPS * SUBGROUP;
const COLUMNS: u32 = 8u;
const SETS: u32 = (GROUP + COLUMNS - 1u) / COLUMNS;
const TILE: u32 = ROWS * 32u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
// Groups of 32 dims of a subgroup, and at a time; 16 x 8 pieces of its slice of O'.
const OWN_GROUPS: u32 = GROUPS / SPLIT;
const STAGE_GROUPS: u32 = STAGE / 32u;
const PIECES: u32 = OWN_GROUPS * 2u;
const TWO_STAGES: bool = STAGE_GROUPS < OWN_GROUPS;
// Pieces that are there, at a time and in all: at most 4 in two stages.
const FIRST_PIECES: u32 = STAGE / 16u;
// Rows of workgroup memory in words of 16 bytes, odd against bank conflicts: keys [token][dim], values [dim][token], scores
// [token][head]; weights [token][head].
const KEY_STRIDE: u32 = STAGE / 8u + 1u;
const VALUE_STRIDE: u32 = 5u;
const STAGE_WORDS: u32 = max(max(32u * KEY_STRIDE, STAGE * VALUE_STRIDE), COLUMNS * KEY_STRIDE);
const SCORE_STRIDE: u32 = 3u;
const SCORE_WORDS: u32 = 32u * SCORE_STRIDE;
const RANGE_WORDS: u32 = select(1u, OWN_GROUPS * 8u, INT4);
// Of partials: a head's sums, then maximum and total.
const FOURS: u32 = HEAD_DIM / 4u;
const STRIDE: u32 = FOURS + 1u;
const ALL_WORDS: u32 = max(SUBGROUPS * STAGE_WORDS, ROWS * COLUMNS * FOURS);
const HIDDEN_SCORE: f32 = -1e30;
const HEADROOM: f32 = 8.0;

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

// Of each subgroup: queries at first; then keys and values; in the end the rows' sums, [row][head][dim].
var<workgroup> stage: array<vec4<u32>, ALL_WORDS>;
var<workgroup> scores: array<vec4<f32>, SUBGROUPS * SCORE_WORDS>;
var<workgroup> weights: array<vec4<u32>, SUBGROUPS * 32u>;
// int4: of a subgroup's groups, for each four words of codes scales and zeros of values in the order of unpacking.
var<workgroup> ranges: array<vec4<u32>, SUBGROUPS * RANGE_WORDS>;
var<workgroup> grown: array<u32, SUBGROUPS>;
// Maxima and totals of each row's 8 heads.
var<workgroup> rowMost: array<f32, ROWS * COLUMNS>;
var<workgroup> rowTotals: array<f32, ROWS * COLUMNS>;

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

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let spans = spansOf(step.position, params.window, TILE, MOST_SPANS);
  let kvHead = workgroup.y / SETS;
  let firstHead = workgroup.y % SETS * COLUMNS;
  let subgroup = local / SUBGROUP;
  let row = subgroup / SPLIT;
  let part = subgroup % SPLIT;
  let lane = local % SUBGROUP;
  let firstGroup = part * OWN_GROUPS;
  let own = subgroup * STAGE_WORDS;
  let ownScores = subgroup * SCORE_WORDS;
  let ownWeights = subgroup * 32u;
  let ownRanges = subgroup * RANGE_WORDS;
  let start = spans.first + workgroup.x * spans.tokens;
  let end = min(start + spans.tokens, step.position + 1u);
  let blocks = params.capacity / 32u;
  var slot = (start / 32u + row) % blocks;
  loadKeys((kvHead * blocks + slot) * BLOCK_WORDS, firstGroup, lane);
  loadValues((kvHead * blocks + slot) * BLOCK_WORDS, firstGroup, lane);

  var q0: Right;
  var q1: Right;
  var q2: Right;
  var q3: Right;
  var q4: Right;
  var q5: Right;
  var q6: Right;
  var q7: Right;
  storeQueries(kvHead * GROUP, firstHead, firstGroup, own, lane);
  workgroupBarrier();
  q0 = queryPiece(own);
  q1 = queryPiece(own + 2u);
  if (FIRST_PIECES > 2u) { q2 = queryPiece(own + 4u); q3 = queryPiece(own + 6u); }
  if (FIRST_PIECES > 4u) { q4 = queryPiece(own + 8u); q5 = queryPiece(own + 10u); }
  if (FIRST_PIECES > 6u) { q6 = queryPiece(own + 12u); q7 = queryPiece(own + 14u); }
  if (TWO_STAGES) {
    workgroupBarrier();
    storeQueries(kvHead * GROUP, firstHead, firstGroup + STAGE_GROUPS, own, lane);
    workgroupBarrier();
    q4 = queryPiece(own);
    q5 = queryPiece(own + 2u);
    q6 = queryPiece(own + 4u);
    q7 = queryPiece(own + 6u);
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

  for (var first = start; first < end; first += TILE) {
    // Codes of rq4 are expanded to 2 code - 15.
    let keyScale = 0.5 * unpack2x16float(keyRanges.x >> (lane % 2u * 16u)).x;
    let scale = 0.5 * unpack2x16float(valueScale >> (lane % 2u * 16u)).x;
    slot = select(slot + ROWS, slot + ROWS - blocks, slot + ROWS >= blocks);
    let next = (kvHead * blocks + min(slot, blocks - 1u)) * BLOCK_WORDS;
    workgroupBarrier();
    if (INT4) {
      storeRanges(ownRanges, lane);
    }
    expandKeys(own + lane * KEY_STRIDE, key0, keyRanges.x);
    if (STAGE_GROUPS > 1u) { expandKeys(own + lane * KEY_STRIDE + 4u, key1, keyRanges.y); }
    if (STAGE_GROUPS > 2u) { expandKeys(own + lane * KEY_STRIDE + 8u, key2, keyRanges.z); }
    if (STAGE_GROUPS > 3u) { expandKeys(own + lane * KEY_STRIDE + 12u, key3, keyRanges.w); }
    workgroupBarrier();
    var low = Result();
    var high = Result();
    addKeys(&low, &high, q0, own);
    addKeys(&low, &high, q1, own + 2u);
    if (FIRST_PIECES > 2u) { addKeys(&low, &high, q2, own + 4u); addKeys(&low, &high, q3, own + 6u); }
    if (FIRST_PIECES > 4u) { addKeys(&low, &high, q4, own + 8u); addKeys(&low, &high, q5, own + 10u); }
    if (FIRST_PIECES > 6u) { addKeys(&low, &high, q6, own + 12u); addKeys(&low, &high, q7, own + 14u); }
    if (TWO_STAGES) {
      workgroupBarrier();
      expandKeys(own + lane * KEY_STRIDE, key2, keyRanges.z);
      expandKeys(own + lane * KEY_STRIDE + 4u, key3, keyRanges.w);
      workgroupBarrier();
      addKeys(&low, &high, q4, own);
      addKeys(&low, &high, q5, own + 2u);
      addKeys(&low, &high, q6, own + 4u);
      addKeys(&low, &high, q7, own + 6u);
    }
    subgroupMatrixStore<row_major>(&scores, ownScores, low, SCORE_STRIDE);
    subgroupMatrixStore<row_major>(&scores, ownScores + 16u * SCORE_STRIDE, high, SCORE_STRIDE);
    loadKeys(next, firstGroup, lane);
    workgroupBarrier();

    // A value's scale takes part in the maximum: 2^exponent is what f16 has to hold.
    let factor = max(scale, 2.98e-8);
    let lift = select(0.0, log2(factor), RQ4);
    let position = first + row * 32u + lane;
    let visible = position >= spans.oldest && position <= step.position;
    let lowExponents = select(vec4<f32>(HIDDEN_SCORE), exponents(row, lane, 0u, keyScale) + lift, visible);
    let highExponents = select(vec4<f32>(HIDDEN_SCORE), exponents(row, lane, 1u, keyScale) + lift, visible);
    let exceeds = any(lowExponents > lowMost + HEADROOM) || any(highExponents > highMost + HEADROOM);
    let grows = subgroupAny(exceeds);
    if (lane == 0u) {
      grown[subgroup] = u32(grows);
    }
    expandValues(own + lane * VALUE_STRIDE, value0, ownRanges);
    if (STAGE_GROUPS > 1u) { expandValues(own + (32u + lane) * VALUE_STRIDE, value1, ownRanges + 8u); }
    if (STAGE_GROUPS > 2u) { expandValues(own + (64u + lane) * VALUE_STRIDE, value2, ownRanges + 16u); }
    if (STAGE_GROUPS > 3u) { expandValues(own + (96u + lane) * VALUE_STRIDE, value3, ownRanges + 24u); }
    let flags = workgroupUniformLoad(&grown);
    var raised = 0u;
    for (var i = 0u; i < SUBGROUPS; i++) {
      raised |= flags[i];
    }
    if (raised != 0u) {
      let lowTop = max(lowMost, subgroupMax(lowExponents));
      let highTop = max(highMost, subgroupMax(highExponents));
      let lowShrink = exp2(lowMost - lowTop);
      let highShrink = exp2(highMost - highTop);
      lowMost = lowTop;
      highMost = highTop;
      lowTotals *= lowShrink;
      highTotals *= highShrink;
      if (first != start) {
        shrinkPiece(&sum0, lowShrink, highShrink, ownScores, lane);
        shrinkPiece(&sum1, lowShrink, highShrink, ownScores, lane);
        if (PIECES > 2u) { shrinkPiece(&sum2, lowShrink, highShrink, ownScores, lane); }
        if (PIECES > 3u) { shrinkPiece(&sum3, lowShrink, highShrink, ownScores, lane); }
        if (PIECES > 4u) { shrinkPiece(&sum4, lowShrink, highShrink, ownScores, lane); }
        if (PIECES > 5u) { shrinkPiece(&sum5, lowShrink, highShrink, ownScores, lane); }
        if (PIECES > 6u) { shrinkPiece(&sum6, lowShrink, highShrink, ownScores, lane); }
        if (PIECES > 7u) { shrinkPiece(&sum7, lowShrink, highShrink, ownScores, lane); }
      }
    }
    // Weights lie in the order in which codes of values unpack.
    let place = ownWeights + lane % 16u / 4u * 8u + lane / 16u * 4u + swapMiddle(lane % 4u);
    let a = select(vec4<f32>(0.0), exp2(lowExponents - lowMost), visible);
    let b = select(vec4<f32>(0.0), exp2(highExponents - highMost), visible);
    if (RQ4) {
      lowTotals += a / factor;
      highTotals += b / factor;
      let live = select(1.0, 0.0, scale == 0.0);
      weights[place] = halves(a * live, b * live);
    } else {
      lowTotals += a;
      highTotals += b;
      weights[place] = halves(a, b);
    }
    workgroupBarrier();
    let lowWeights = subgroupMatrixLoad<Right, row_major>(&weights, ownWeights, 1u);
    let highWeights = subgroupMatrixLoad<Right, row_major>(&weights, ownWeights + 16u, 1u);
    addValues(&sum0, lowWeights, highWeights, own);
    addValues(&sum1, lowWeights, highWeights, own + 16u * VALUE_STRIDE);
    if (FIRST_PIECES > 2u) { addValues(&sum2, lowWeights, highWeights, own + 32u * VALUE_STRIDE); }
    if (FIRST_PIECES > 3u) { addValues(&sum3, lowWeights, highWeights, own + 48u * VALUE_STRIDE); }
    if (FIRST_PIECES > 4u) { addValues(&sum4, lowWeights, highWeights, own + 64u * VALUE_STRIDE); }
    if (FIRST_PIECES > 5u) { addValues(&sum5, lowWeights, highWeights, own + 80u * VALUE_STRIDE); }
    if (FIRST_PIECES > 6u) { addValues(&sum6, lowWeights, highWeights, own + 96u * VALUE_STRIDE); }
    if (FIRST_PIECES > 7u) { addValues(&sum7, lowWeights, highWeights, own + 112u * VALUE_STRIDE); }
    if (TWO_STAGES) {
      workgroupBarrier();
      expandValues(own + lane * VALUE_STRIDE, value2, ownRanges + 16u);
      expandValues(own + (32u + lane) * VALUE_STRIDE, value3, ownRanges + 24u);
      workgroupBarrier();
      addValues(&sum4, lowWeights, highWeights, own);
      addValues(&sum5, lowWeights, highWeights, own + 16u * VALUE_STRIDE);
      addValues(&sum6, lowWeights, highWeights, own + 32u * VALUE_STRIDE);
      addValues(&sum7, lowWeights, highWeights, own + 48u * VALUE_STRIDE);
    }
    loadValues(next, firstGroup, lane);
  }

  // Join the rows: sums through workgroup memory, each with its own maximum.
  let lowAll = subgroupAdd(lowTotals);
  let highAll = subgroupAdd(highTotals);
  if (lane < COLUMNS && part == 0u) {
    rowMost[row * COLUMNS + lane] = select(highMost[lane % 4u], lowMost[lane % 4u], lane < 4u);
    rowTotals[row * COLUMNS + lane] = select(highAll[lane % 4u], lowAll[lane % 4u], lane < 4u);
  }
  workgroupBarrier();
  let sums = row * COLUMNS * FOURS + part * PIECES * 4u;
  storePiece(sum0, 0u, part, sums);
  storePiece(sum1, 1u, part, sums);
  if (PIECES > 2u) { storePiece(sum2, 2u, part, sums); }
  if (PIECES > 3u) { storePiece(sum3, 3u, part, sums); }
  if (PIECES > 4u) { storePiece(sum4, 4u, part, sums); }
  if (PIECES > 5u) { storePiece(sum5, 5u, part, sums); }
  if (PIECES > 6u) { storePiece(sum6, 6u, part, sums); }
  if (PIECES > 7u) { storePiece(sum7, 7u, part, sums); }
  workgroupBarrier();
  let span = ((kvHead * GROUP + firstHead) * MOST_SPANS + workgroup.x) * STRIDE;
  for (var item = local; item < min(COLUMNS, GROUP - firstHead) * FOURS; item += WORKGROUP) {
    let head = item / FOURS;
    let most = mostOf(head);
    var sum = vec4<f32>(0.0);
    var total = 0.0;
    for (var r = 0u; r < ROWS; r++) {
      let shrink = exp2(rowMost[r * COLUMNS + head] - most);
      sum += shrink * bitcast<vec4<f32>>(stage[r * COLUMNS * FOURS + item]);
      total += shrink * rowTotals[r * COLUMNS + head];
    }
    let at = span + head * MOST_SPANS * STRIDE;
    partials[at + item % FOURS] = sum;
    if (item % FOURS == 0u) {
      partials[at + FOURS] = vec4<f32>(most, total, 0.0, 0.0);
    }
  }
}

fn mostOf(head: u32) -> f32 {
  var most = rowMost[head];
  for (var r = 1u; r < ROWS; r++) {
    most = max(most, rowMost[r * COLUMNS + head]);
  }
  return most;
}

// Columns of O' by a factor each: through memory, since elements of matrices cannot be reached.
fn shrinkPiece(sum: ptr<function, Result>, lowShrink: vec4<f32>, highShrink: vec4<f32>, at: u32, lane: u32) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores, at, *sum, SCORE_STRIDE);
  workgroupBarrier();
  if (lane < 16u) {
    scores[at + lane * SCORE_STRIDE] *= lowShrink;
    scores[at + lane * SCORE_STRIDE + 1u] *= highShrink;
  }
  workgroupBarrier();
  *sum = subgroupMatrixLoad<Result, row_major>(&scores, at, SCORE_STRIDE);
  workgroupBarrier();
}

// The last group's second half may lie past the head's dims.
fn storePiece(sum: Result, i: u32, part: u32, at: u32) {
  if ((part * PIECES + i) * 16u < HEAD_DIM) {
    subgroupMatrixStore<col_major>(&stage, at + i * 4u, sum, FOURS);
  }
}

fn queryPiece(at: u32) -> Right {
  return subgroupMatrixLoad<Right, col_major>(&stage, at, KEY_STRIDE);
}

// 16 dims of 32 tokens' keys, and of values.
fn addKeys(low: ptr<function, Result>, high: ptr<function, Result>, query: Right, at: u32) {
  *low = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, at, KEY_STRIDE), query, *low);
  let left = subgroupMatrixLoad<Left, row_major>(&stage, at + 16u * KEY_STRIDE, KEY_STRIDE);
  *high = subgroupMatrixMultiplyAccumulate(left, query, *high);
}

fn addValues(sum: ptr<function, Result>, lowWeights: Right, highWeights: Right, at: u32) {
  *sum = subgroupMatrixMultiplyAccumulate(subgroupMatrixLoad<Left, row_major>(&stage, at, VALUE_STRIDE), lowWeights, *sum);
  let left = subgroupMatrixLoad<Left, row_major>(&stage, at + 2u, VALUE_STRIDE);
  *sum = subgroupMatrixMultiplyAccumulate(left, highWeights, *sum);
}

// Four heads' scores of a lane's token, from all parts of its row.
fn exponents(row: u32, lane: u32, four: u32, keyScale: f32) -> vec4<f32> {
  var sum = scores[row * SPLIT * SCORE_WORDS + lane * SCORE_STRIDE + four];
  for (var p = 1u; p < SPLIT; p++) {
    sum += scores[(row * SPLIT + p) * SCORE_WORDS + lane * SCORE_STRIDE + four];
  }
  if (RQ4) {
    sum *= keyScale;
  }
  if (HAS_SOFTCAP) {
    sum = params.cap * vec4<f32>(boundedTanh(sum.x), boundedTanh(sum.y), boundedTanh(sum.z), boundedTanh(sum.w));
  }
  return sum;
}

fn halves(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(
    bitcast<u32>(vec2<f16>(a.xy)), bitcast<u32>(vec2<f16>(a.zw)), bitcast<u32>(vec2<f16>(b.xy)), bitcast<u32>(vec2<f16>(b.zw)));
}

// STAGE dims of the workgroup's query heads as f16, scaled, in the order of unpacked codes. Heads past the group's end are
// done like its last one; nobody reads their sums.
fn storeQueries(heads: u32, firstHead: u32, firstGroup: u32, own: u32, lane: u32) {
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
    stage[own + h * KEY_STRIDE + chunk] = halves(a.xzyw, b.xzyw);
  }
}

// Keys: a lane has a token. Values: a lane has a dim of each group.
fn loadKeys(block: u32, firstGroup: u32, lane: u32) {
  let at = block + firstGroup * 32u + lane;
  key0 = keys[at];
  if (OWN_GROUPS > 1u) { key1 = keys[at + 32u]; }
  if (OWN_GROUPS > 2u) { key2 = keys[at + 64u]; }
  if (OWN_GROUPS > 3u) { key3 = keys[at + 96u]; }
  if (INT4) {
    let scales = block + SCALES_AT + firstGroup * 8u + lane / 4u;
    keyRanges.x = keys[scales][lane % 4u];
    if (OWN_GROUPS > 1u) { keyRanges.y = keys[scales + 8u][lane % 4u]; }
    if (OWN_GROUPS > 2u) { keyRanges.z = keys[scales + 16u][lane % 4u]; }
    if (OWN_GROUPS > 3u) { keyRanges.w = keys[scales + 24u][lane % 4u]; }
  } else {
    keyRanges.x = keys[block + SCALES_AT + lane / 8u][lane % 8u / 2u];
  }
}

fn loadValues(block: u32, firstGroup: u32, lane: u32) {
  let at = block + firstGroup * 32u + lane;
  value0 = values[at];
  if (OWN_GROUPS > 1u) { value1 = values[at + 32u]; }
  if (OWN_GROUPS > 2u) { value2 = values[at + 64u]; }
  if (OWN_GROUPS > 3u) { value3 = values[at + 96u]; }
  if (INT4) {
    // Scales and zeros of eight tokens of a group: those of one word of codes.
    let scales = block + SCALES_AT + (firstGroup + min(lane / 4u, OWN_GROUPS - 1u)) * 8u + lane % 4u;
    lowRanges = values[scales];
    highRanges = values[scales + 4u];
  } else {
    valueScale = values[block + SCALES_AT + lane / 8u][lane % 8u / 2u];
  }
}

fn storeRanges(own: u32, lane: u32) {
  if (lane < OWN_GROUPS * 4u) {
    let low = lowRanges;
    let high = highRanges;
    ranges[own + lane * 2u] = vec4<u32>(
      bitcast<u32>(lowHalves(low.x, low.z)), bitcast<u32>(lowHalves(low.y, low.w)),
      bitcast<u32>(lowHalves(high.x, high.z)), bitcast<u32>(lowHalves(high.y, high.w)));
    ranges[own + lane * 2u + 1u] = vec4<u32>(
      bitcast<u32>(highHalves(low.x, low.z)), bitcast<u32>(highHalves(low.y, low.w)),
      bitcast<u32>(highHalves(high.x, high.z)), bitcast<u32>(highHalves(high.y, high.w)));
  }
}

// A word's eight codes in the order 0, 2, 1, 3 of its low halves, then of its high ones.
fn eight(word: u32, scale: vec4<u32>, zero: vec4<u32>) -> vec4<u32> {
  if (RQ4) {
    return vec4<u32>(
      bitcast<u32>(centre(word << 1u)), bitcast<u32>(centre(word >> 7u)),
      bitcast<u32>(centre(word >> 3u)), bitcast<u32>(centre(word >> 11u)));
  }
  return vec4<u32>(
    expand(word, bitcast<vec2<f16>>(scale.x), bitcast<vec2<f16>>(zero.x)),
    expand(word >> 8u, bitcast<vec2<f16>>(scale.y), bitcast<vec2<f16>>(zero.y)),
    expand(word >> 4u, bitcast<vec2<f16>>(scale.z), bitcast<vec2<f16>>(zero.z)),
    expand(word >> 12u, bitcast<vec2<f16>>(scale.w), bitcast<vec2<f16>>(zero.w)));
}

// 32 dims of a token, under one scale and zero.
fn expandKeys(at: u32, words: vec4<u32>, range: u32) {
  let both = bitcast<vec2<f16>>(range);
  let scale = vec4<u32>(bitcast<u32>(both.xx));
  let zero = vec4<u32>(bitcast<u32>(both.yy));
  stage[at] = eight(words.x, scale, zero);
  stage[at + 1u] = eight(words.y, scale, zero);
  stage[at + 2u] = eight(words.z, scale, zero);
  stage[at + 3u] = eight(words.w, scale, zero);
}

// 32 tokens of a dim.
fn expandValues(at: u32, words: vec4<u32>, own: u32) {
  if (RQ4) {
    let none = vec4<u32>();
    stage[at] = eight(words.x, none, none);
    stage[at + 1u] = eight(words.y, none, none);
    stage[at + 2u] = eight(words.z, none, none);
    stage[at + 3u] = eight(words.w, none, none);
  } else {
    stage[at] = eight(words.x, ranges[own], ranges[own + 1u]);
    stage[at + 1u] = eight(words.y, ranges[own + 2u], ranges[own + 3u]);
    stage[at + 2u] = eight(words.z, ranges[own + 4u], ranges[own + 5u]);
    stage[at + 3u] = eight(words.w, ranges[own + 6u], ranges[own + 7u]);
  }
}
