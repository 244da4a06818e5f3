// attendDecode with f16 subgroup matrices: one token's queries over a 4-bit cache. A subgroup does a block of 32 tokens at a
// time for all query heads of one KV head, the heads being the columns of its matrices: S' = K Q', online softmax with a lane
// for each token, O' += V' W. Codes become f16 in workgroup memory, which a subgroup shares with nobody, so that the only
// traffic is the cache itself and many subgroups hide each other's waits. Large heads are split between SPLIT subgroups.
// As in attendPromptMatrix, O stays in matrix registers and is scaled down only when a maximum has grown 2^8 times; weights
// carry the values' scales of rq4, so it is the products of both that f16 must hold.
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
// Subgroups that share a block, each with a slice of the head's dims, at most 128.
const SPLIT: u32 = 1u;
// Dims of a slice that are expanded at a time.
const STAGE: u32 = 64u;
const MOST_SPANS: u32 = 128u;
const HAS_SOFTCAP: bool = false;
// Query heads of one workgroup.
const COLUMNS: u32 = 8u;
// </values>

const SUBGROUP: u32 = 32u;
const WORKGROUP: u32 = SPLIT * SUBGROUP;
const SETS: u32 = (GROUP + COLUMNS - 1u) / COLUMNS;
const FOURS: u32 = COLUMNS / 4u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
// Groups of 32 dims of a subgroup, and at a time; 16 x 16 pieces of its slice.
const OWN_GROUPS: u32 = GROUPS / SPLIT;
const STAGE_GROUPS: u32 = STAGE / 32u;
const PIECES: u32 = OWN_GROUPS * 2u;
const STAGE_PIECES: u32 = STAGE / 16u;
const TWO_STAGES: bool = STAGE_GROUPS < OWN_GROUPS;
// Rows of workgroup memory in words of 16 bytes, odd against bank conflicts: keys [token][dim], values [dim][token], scores
// [token][head]; weights [token][head].
const KEY_STRIDE: u32 = STAGE / 8u + 1u;
const VALUE_STRIDE: u32 = 5u;
const STAGE_WORDS: u32 = max(max(32u * KEY_STRIDE, STAGE * VALUE_STRIDE), COLUMNS * KEY_STRIDE);
const SCORE_STRIDE: u32 = FOURS + 1u;
const SCORE_WORDS: u32 = 32u * SCORE_STRIDE;
const WEIGHT_STRIDE: u32 = COLUMNS / 8u;
const WEIGHT_WORDS: u32 = 32u * WEIGHT_STRIDE;
const RANGE_WORDS: u32 = select(1u, OWN_GROUPS * 8u, INT4);
// Of partials: a head's sums, then maximum and total.
const STRIDE: u32 = HEAD_DIM / 4u + 1u;
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
// [KV_HEADS][SETS * COLUMNS][MOST_SPANS] of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(5) var<storage, read_write> partials: array<vec4<f32>>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, COLUMNS, 16>;
alias Result = subgroup_matrix_result<f32, COLUMNS, 16>;

// Of each subgroup: queries at first; then keys and values.
var<workgroup> stage: array<vec4<u32>, SPLIT * STAGE_WORDS>;
var<workgroup> scores: array<vec4<f32>, SPLIT * SCORE_WORDS>;
var<workgroup> weights: array<vec4<u32>, SPLIT * WEIGHT_WORDS>;
// int4: of a subgroup's groups, for each four words of codes scales and zeros of values in the order of unpacking.
var<workgroup> ranges: array<vec4<u32>, SPLIT * RANGE_WORDS>;
var<workgroup> grown: array<u32, SPLIT>;

// What a lane has loaded of the next block.
var<private> keyWords: array<vec4<u32>, OWN_GROUPS>;
var<private> keyScales: array<u32, OWN_GROUPS>;
var<private> valueWords: array<vec4<u32>, OWN_GROUPS>;
var<private> valueScale: u32;
var<private> lowRanges: vec4<u32>;
var<private> highRanges: vec4<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let spans = spansOf(step.position, params.window, 32u, MOST_SPANS);
  let kvHead = workgroup.y / SETS;
  let firstHead = workgroup.y % SETS * COLUMNS;
  let part = local / SUBGROUP;
  let lane = local % SUBGROUP;
  let firstGroup = part * OWN_GROUPS;
  let ownStage = part * STAGE_WORDS;
  let ownScores = part * SCORE_WORDS;
  let ownWeights = part * WEIGHT_WORDS;
  let ownRanges = part * RANGE_WORDS;
  let start = spans.first + workgroup.x * spans.tokens;
  let end = min(start + spans.tokens, step.position + 1u);
  let blocks = params.capacity / 32u;
  var slotBlock = start / 32u % blocks;
  loadKeys((kvHead * blocks + slotBlock) * BLOCK_WORDS, firstGroup, lane);
  loadValues((kvHead * blocks + slotBlock) * BLOCK_WORDS, firstGroup, lane);

  // Pieces have names, written out wherever they are used: indexed in loops that a compiler does not unroll, they would live in
  // local memory. Those past PIECES are never touched and cost nothing.
  var q0: Right;
  var q1: Right;
  var q2: Right;
  var q3: Right;
  var q4: Right;
  var q5: Right;
  var q6: Right;
  var q7: Right;
  let heads = kvHead * GROUP;
  storeQueries(heads, firstHead, firstGroup, ownStage, lane);
  workgroupBarrier();
  q0 = queryPiece(ownStage);
  if (STAGE_PIECES > 1u) { q1 = queryPiece(ownStage + 2u); }
  if (STAGE_PIECES > 2u) { q2 = queryPiece(ownStage + 4u); }
  if (STAGE_PIECES > 3u) { q3 = queryPiece(ownStage + 6u); }
  if (STAGE_PIECES > 4u) { q4 = queryPiece(ownStage + 8u); }
  if (STAGE_PIECES > 5u) { q5 = queryPiece(ownStage + 10u); }
  if (STAGE_PIECES > 6u) { q6 = queryPiece(ownStage + 12u); }
  if (STAGE_PIECES > 7u) { q7 = queryPiece(ownStage + 14u); }
  if (TWO_STAGES) {
    workgroupBarrier();
    storeQueries(heads, firstHead, firstGroup + STAGE_GROUPS, ownStage, lane);
    workgroupBarrier();
    q4 = queryPiece(ownStage);
    q5 = queryPiece(ownStage + 2u);
    q6 = queryPiece(ownStage + 4u);
    q7 = queryPiece(ownStage + 6u);
  }
  var sum0: Result;
  var sum1: Result;
  var sum2: Result;
  var sum3: Result;
  var sum4: Result;
  var sum5: Result;
  var sum6: Result;
  var sum7: Result;
  // Of each head, in every lane; totals are a lane's own.
  var most = array<vec4<f32>, FOURS>();
  var totals = array<vec4<f32>, FOURS>();
  for (var i = 0u; i < FOURS; i++) {
    most[i] = vec4<f32>(HIDDEN_SCORE);
  }

  for (var first = start; first < end; first += 32u) {
    let keyScale = 0.5 * unpack2x16float(keyScales[0] >> (lane % 2u * 16u)).x;
    let scale = 0.5 * unpack2x16float(valueScale >> (lane % 2u * 16u)).x;
    slotBlock = select(slotBlock + 1u, 0u, slotBlock + 1u == blocks);
    let next = (kvHead * blocks + slotBlock) * BLOCK_WORDS;
    workgroupBarrier();
    expandKeys(0u, ownStage, lane);
    if (INT4) {
      storeRanges(ownRanges, lane);
    }
    workgroupBarrier();
    var low = Result();
    var high = Result();
    addKeys(&low, &high, q0, ownStage);
    if (STAGE_PIECES > 1u) { addKeys(&low, &high, q1, ownStage + 2u); }
    if (STAGE_PIECES > 2u) { addKeys(&low, &high, q2, ownStage + 4u); }
    if (STAGE_PIECES > 3u) { addKeys(&low, &high, q3, ownStage + 6u); }
    if (STAGE_PIECES > 4u) { addKeys(&low, &high, q4, ownStage + 8u); }
    if (STAGE_PIECES > 5u) { addKeys(&low, &high, q5, ownStage + 10u); }
    if (STAGE_PIECES > 6u) { addKeys(&low, &high, q6, ownStage + 12u); }
    if (STAGE_PIECES > 7u) { addKeys(&low, &high, q7, ownStage + 14u); }
    if (TWO_STAGES) {
      workgroupBarrier();
      expandKeys(STAGE_GROUPS, ownStage, lane);
      workgroupBarrier();
      addKeys(&low, &high, q4, ownStage);
      addKeys(&low, &high, q5, ownStage + 2u);
      addKeys(&low, &high, q6, ownStage + 4u);
      addKeys(&low, &high, q7, ownStage + 6u);
    }
    subgroupMatrixStore<row_major>(&scores, ownScores, low, SCORE_STRIDE);
    subgroupMatrixStore<row_major>(&scores, ownScores + 16u * SCORE_STRIDE, high, SCORE_STRIDE);
    loadKeys(next, firstGroup, lane);
    workgroupBarrier();

    // A value's scale takes part in the maximum: 2^exponent is what f16 has to hold.
    let factor = max(scale, 2.98e-8);
    let lift = select(0.0, log2(factor), RQ4);
    let position = first + lane;
    let visible = position >= spans.oldest && position <= step.position;
    var exponents = array<vec4<f32>, FOURS>();
    var exceeds = false;
    for (var i = 0u; i < FOURS; i++) {
      var four = vec4<f32>(0.0);
      for (var p = 0u; p < SPLIT; p++) {
        four += scores[p * SCORE_WORDS + lane * SCORE_STRIDE + i];
      }
      if (RQ4) {
        four *= keyScale;
      }
      if (HAS_SOFTCAP) {
        four = params.cap * vec4<f32>(boundedTanh(four.x), boundedTanh(four.y), boundedTanh(four.z), boundedTanh(four.w));
      }
      exponents[i] = select(vec4<f32>(HIDDEN_SCORE), four + lift, visible);
      exceeds = exceeds || any(exponents[i] > most[i] + HEADROOM);
    }
    let grows = subgroupAny(exceeds);
    if (lane == 0u) {
      grown[part] = u32(grows);
    }
    expandValues(0u, ownStage, ownRanges, lane);
    if (workgroupUniformLoad(&grown[0]) != 0u) {
      var shrink = array<vec4<f32>, FOURS>();
      for (var i = 0u; i < FOURS; i++) {
        let top = max(most[i], subgroupMax(exponents[i]));
        shrink[i] = exp2(most[i] - top);
        most[i] = top;
        totals[i] *= shrink[i];
      }
      if (first != start) {
        shrinkPiece(&sum0, shrink, ownScores, lane);
        if (PIECES > 1u) { shrinkPiece(&sum1, shrink, ownScores, lane); }
        if (PIECES > 2u) { shrinkPiece(&sum2, shrink, ownScores, lane); }
        if (PIECES > 3u) { shrinkPiece(&sum3, shrink, ownScores, lane); }
        if (PIECES > 4u) { shrinkPiece(&sum4, shrink, ownScores, lane); }
        if (PIECES > 5u) { shrinkPiece(&sum5, shrink, ownScores, lane); }
        if (PIECES > 6u) { shrinkPiece(&sum6, shrink, ownScores, lane); }
        if (PIECES > 7u) { shrinkPiece(&sum7, shrink, ownScores, lane); }
      }
    }
    // Weights lie in the order in which codes of values unpack.
    let row = lane % 16u / 4u * 8u + lane / 16u * 4u + swapMiddle(lane % 4u);
    let back = select(1.0, 1.0 / factor, RQ4);
    let live = select(1.0, 0.0, RQ4 && scale == 0.0);
    for (var i = 0u; i < FOURS; i += 2u) {
      let a = exp2(exponents[i] - most[i]);
      let b = exp2(exponents[i + 1u] - most[i + 1u]);
      totals[i] += a * back;
      totals[i + 1u] += b * back;
      let c = a * live;
      let d = b * live;
      weights[ownWeights + row * WEIGHT_STRIDE + i / 2u] = vec4<u32>(
        bitcast<u32>(vec2<f16>(c.xy)), bitcast<u32>(vec2<f16>(c.zw)), bitcast<u32>(vec2<f16>(d.xy)), bitcast<u32>(vec2<f16>(d.zw)));
    }
    workgroupBarrier();
    let lowWeights = subgroupMatrixLoad<Right, row_major>(&weights, ownWeights, WEIGHT_STRIDE);
    let highWeights = subgroupMatrixLoad<Right, row_major>(&weights, ownWeights + 16u * WEIGHT_STRIDE, WEIGHT_STRIDE);
    addValues(&sum0, lowWeights, highWeights, ownStage);
    if (STAGE_PIECES > 1u) { addValues(&sum1, lowWeights, highWeights, ownStage + 16u * VALUE_STRIDE); }
    if (STAGE_PIECES > 2u) { addValues(&sum2, lowWeights, highWeights, ownStage + 32u * VALUE_STRIDE); }
    if (STAGE_PIECES > 3u) { addValues(&sum3, lowWeights, highWeights, ownStage + 48u * VALUE_STRIDE); }
    if (STAGE_PIECES > 4u) { addValues(&sum4, lowWeights, highWeights, ownStage + 64u * VALUE_STRIDE); }
    if (STAGE_PIECES > 5u) { addValues(&sum5, lowWeights, highWeights, ownStage + 80u * VALUE_STRIDE); }
    if (STAGE_PIECES > 6u) { addValues(&sum6, lowWeights, highWeights, ownStage + 96u * VALUE_STRIDE); }
    if (STAGE_PIECES > 7u) { addValues(&sum7, lowWeights, highWeights, ownStage + 112u * VALUE_STRIDE); }
    if (TWO_STAGES) {
      workgroupBarrier();
      expandValues(STAGE_GROUPS, ownStage, ownRanges, lane);
      workgroupBarrier();
      addValues(&sum4, lowWeights, highWeights, ownStage);
      addValues(&sum5, lowWeights, highWeights, ownStage + 16u * VALUE_STRIDE);
      addValues(&sum6, lowWeights, highWeights, ownStage + 32u * VALUE_STRIDE);
      addValues(&sum7, lowWeights, highWeights, ownStage + 48u * VALUE_STRIDE);
    }
    loadValues(next, firstGroup, lane);
  }

  let span = (((kvHead * SETS + workgroup.y % SETS) * COLUMNS) * MOST_SPANS + workgroup.x) * STRIDE;
  let piece = span + part * PIECES * 4u;
  storePiece(sum0, 0u, part, piece);
  if (PIECES > 1u) { storePiece(sum1, 1u, part, piece); }
  if (PIECES > 2u) { storePiece(sum2, 2u, part, piece); }
  if (PIECES > 3u) { storePiece(sum3, 3u, part, piece); }
  if (PIECES > 4u) { storePiece(sum4, 4u, part, piece); }
  if (PIECES > 5u) { storePiece(sum5, 5u, part, piece); }
  if (PIECES > 6u) { storePiece(sum6, 6u, part, piece); }
  if (PIECES > 7u) { storePiece(sum7, 7u, part, piece); }
  for (var i = 0u; i < FOURS; i++) {
    let all = subgroupAdd(totals[i]);
    if (local == 0u) {
      let at = span + i * 4u * MOST_SPANS * STRIDE + HEAD_DIM / 4u;
      partials[at] = vec4<f32>(most[i].x, all.x, 0.0, 0.0);
      partials[at + MOST_SPANS * STRIDE] = vec4<f32>(most[i].y, all.y, 0.0, 0.0);
      partials[at + 2u * MOST_SPANS * STRIDE] = vec4<f32>(most[i].z, all.z, 0.0, 0.0);
      partials[at + 3u * MOST_SPANS * STRIDE] = vec4<f32>(most[i].w, all.w, 0.0, 0.0);
    }
  }
}

// Columns of O' by a factor each: through memory, since elements of matrices cannot be reached.
fn shrinkPiece(sum: ptr<function, Result>, shrink: array<vec4<f32>, FOURS>, own: u32, lane: u32) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores, own, *sum, SCORE_STRIDE);
  workgroupBarrier();
  for (var i = 0u; i < FOURS; i++) {
    if (lane < 16u) {
      scores[own + lane * SCORE_STRIDE + i] *= shrink[i];
    }
  }
  workgroupBarrier();
  *sum = subgroupMatrixLoad<Result, row_major>(&scores, own, SCORE_STRIDE);
  workgroupBarrier();
}

// The last group's second half may lie past the head's dims.
fn storePiece(sum: Result, i: u32, part: u32, at: u32) {
  if ((part * PIECES + i) * 16u < HEAD_DIM) {
    subgroupMatrixStore<col_major>(&partials, at + i * 4u, sum, MOST_SPANS * STRIDE);
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

// STAGE dims of the workgroup's query heads as f16, scaled, in the order of unpacked codes. Heads past the group's end are
// done like its last one; nobody reads their sums.
fn storeQueries(heads: u32, firstHead: u32, firstGroup: u32, own: u32, lane: u32) {
  for (var item = lane; item < COLUMNS * STAGE / 8u; item += SUBGROUP) {
    let h = item / (STAGE / 8u);
    let chunk = item % (STAGE / 8u);
    let d = (firstGroup + chunk / 4u) * 32u + chunk % 4u * 4u;
    let at = (heads + min(firstHead + h, GROUP - 1u)) * HEAD_DIM;
    let a = (queries[(at + d) / 4u] * params.scale).xzyw;
    var b = vec4<f32>(0.0);
    if (d + 16u < HEAD_DIM) {
      b = (queries[(at + d + 16u) / 4u] * params.scale).xzyw;
    }
    stage[own + h * KEY_STRIDE + chunk] = vec4<u32>(
      bitcast<u32>(vec2<f16>(a.xy)), bitcast<u32>(vec2<f16>(a.zw)), bitcast<u32>(vec2<f16>(b.xy)), bitcast<u32>(vec2<f16>(b.zw)));
  }
}

// Keys: a lane has a token. Values: a lane has a dim of each group.
fn loadKeys(block: u32, firstGroup: u32, lane: u32) {
  for (var g = 0u; g < OWN_GROUPS; g++) {
    keyWords[g] = keys[block + (firstGroup + g) * 32u + lane];
  }
  if (INT4) {
    for (var g = 0u; g < OWN_GROUPS; g++) {
      keyScales[g] = keys[block + SCALES_AT + (firstGroup + g) * 8u + lane / 4u][lane % 4u];
    }
  } else {
    keyScales[0] = keys[block + SCALES_AT + lane / 8u][lane % 8u / 2u];
  }
}

fn loadValues(block: u32, firstGroup: u32, lane: u32) {
  for (var g = 0u; g < OWN_GROUPS; g++) {
    valueWords[g] = values[block + (firstGroup + g) * 32u + lane];
  }
  if (INT4) {
    // Scales and zeros of eight tokens of a group: those of one word of codes.
    let at = block + SCALES_AT + (firstGroup + min(lane / 4u, OWN_GROUPS - 1u)) * 8u + lane % 4u;
    lowRanges = values[at];
    highRanges = values[at + 4u];
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

fn expandKeys(firstGroup: u32, own: u32, lane: u32) {
  for (var g = 0u; g < STAGE_GROUPS; g++) {
    let words = keyWords[firstGroup + g];
    let range = bitcast<vec2<f16>>(keyScales[select(0u, firstGroup + g, INT4)]);
    let scale = vec4<u32>(bitcast<u32>(range.xx));
    let zero = vec4<u32>(bitcast<u32>(range.yy));
    for (var c = 0u; c < 4u; c++) {
      stage[own + lane * KEY_STRIDE + g * 4u + c] = eight(words[c], scale, zero);
    }
  }
}

fn expandValues(firstGroup: u32, own: u32, ownRanges: u32, lane: u32) {
  for (var g = 0u; g < STAGE_GROUPS; g++) {
    let words = valueWords[firstGroup + g];
    for (var c = 0u; c < 4u; c++) {
      var scale = vec4<u32>();
      var zero = vec4<u32>();
      if (INT4) {
        let at = ownRanges + ((firstGroup + g) * 4u + c) * 2u;
        scale = ranges[at];
        zero = ranges[at + 1u];
      }
      stage[own + (g * 32u + lane) * VALUE_STRIDE + c] = eight(words[c], scale, zero);
    }
  }
}
