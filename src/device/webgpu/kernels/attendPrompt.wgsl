// attendPrompt: the queries of a chunk attend to a cache of any format, or to one part of a packed cache; f32 arithmetic, no matrices.
// The rows of a workgroup are the query heads of one KV head, token by token, so that they share what is read. For each block of 32
// tokens, keys are expanded into workgroup memory, 32 dims at a time, and multiplied; then online softmax by rows; then values, like
// keys.
// lib: step, batch, tiles, spans, promptWork, softcap, kvCodes, planes, channels, promptDims, narrow, sinks
// <values>
const KV_HEADS: u32 = 2u;
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 64u;
// 0: keys and values are separate. Otherwise one vector is both: the cache holds TURNED rotated dims as keys, HEAD_DIM dims as values.
const TURNED: u32 = 0u;
// include: cacheValues
// Queries of a workgroup: 16, 32 or 64, chosen so that a thread has at most 32 sums: ROWS / 8 for each group of 32 dims.
const ROWS: u32 = 64u;
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

const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
// Dims that the cache holds of a key.
const KEY_DIM: u32 = select(HEAD_DIM, TURNED, TURNED > 0u);
const KEY_GROUPS: u32 = (KEY_DIM + 31u) / 32u;
const QUERY_DIM: u32 = TURNED + HEAD_DIM;
// Rows of each of 16 x 16 threads; along the other axis a thread has two tokens or dims.
const MINE: u32 = ROWS / 16u;
const STRIDE: u32 = 33u;
// Threads that share a row of scores.
const SHARE: u32 = 256u / ROWS;
// For rotated codes.
const MIDDLE: f32 = f32((1u << VALUE_BITS) - 1u) / 2.0;
const MASKED_SCORE: f32 = -1e30;

// include: promptParams
// [tokens][heads][QUERY_DIM]
@group(0) @binding(2) var<storage, read> queries: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
// [tokens][heads][HEAD_DIM]; SPANS: [spanned][heads][spans], each of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(5) var<storage, read_write> out: array<u32>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;
// [heads]
@group(0) @binding(7) var<storage, read> sinks: array<f32>;

// 32 dims of the queries, or the scores and weights of a block: [row][dim or token].
var<workgroup> left: array<f32, ROWS * STRIDE>;
// 32 dims of 32 tokens: [token][dim].
var<workgroup> right: array<f32, 32u * STRIDE>;
var<workgroup> shares: array<f32, 256>;
var<workgroup> maxScores: array<f32, ROWS>;
var<workgroup> sumExps: array<f32, ROWS>;
// 2^(old maximum - new maximum).
var<workgroup> rescales: array<f32, ROWS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let work = promptWorkOf(workgroup, params.table, params.window, ROWS);
  if (work.isNone) {
    return;
  }
  let kvHead = workgroup.y;
  let tile = work.run;
  // Rows are query heads, counted from the run's first token.
  let firstRow = tile.firstRow;
  let rows = work.rows;
  let x = local % 16u;
  let y = local / 16u;
  if (local < ROWS) {
    maxScores[local] = MASKED_SCORE;
    sumExps[local] = 0.0;
  }
  var sums = array<f32, GROUPS * MINE * 2u>();

  for (var first = work.start; first < work.end; first += 32u) {
    let page = blockOf(work.table, positionAt(work.gap, first) / 32u, KV_HEADS, kvHead);
    let seen = max(work.lastQuery + 1u, positionAt(work.gap, first)) - positionAt(work.gap, first);
    var scores = array<f32, MINE * 2u>();
    for (var group = 0u; group < KEY_GROUPS + select(0u, GROUPS, TURNED > 0u); group++) {
      // Values that are also the end of keys.
      let isValue = group >= KEY_GROUPS;
      workgroupBarrier();
      for (var i = local; i < ROWS * 32u; i += 256u) {
        let row = min(firstRow + i / 32u, rows - 1u);
        let d = select(group, group - KEY_GROUPS, isValue) * 32u + i % 32u;
        var q = 0.0;
        if (d < select(KEY_DIM, HEAD_DIM, isValue)) {
          let head = kvHead * GROUP + row % GROUP;
          let at = ((tile.token + row / GROUP) * KV_HEADS * GROUP + head) * QUERY_DIM + select(0u, TURNED, isValue);
          q = queries[at + d] * params.scale;
        }
        left[i / 32u * STRIDE + i % 32u] = q;
      }
      if (TURNED > 0u && isValue) {
        expandValues(page * VALUE_WORDS, group - KEY_GROUPS, seen, local);
      } else {
        expandKeys(page * KEY_WORDS, group, local);
      }
      workgroupBarrier();
      for (var d = 0u; d < 32u; d++) {
        let a = right[x * STRIDE + d];
        let b = right[(x + 16u) * STRIDE + d];
        for (var i = 0u; i < MINE; i++) {
          let q = left[(y * MINE + i) * STRIDE + d];
          scores[i * 2u] += q * a;
          scores[i * 2u + 1u] += q * b;
        }
      }
    }
    workgroupBarrier();
    for (var i = 0u; i < MINE * 2u; i++) {
      let row = y * MINE + i / 2u;
      let token = x + i % 2u * 16u;
      let query = tile.position + min(firstRow + row, rows - 1u) / GROUP;
      let position = positionAt(work.gap, first) + token;
      var s = scores[i];
      if (HAS_SOFTCAP) {
        s = params.cap * boundedTanh(s);
      }
      left[row * STRIDE + token] = select(MASKED_SCORE, s, sees(query, position, params.window));
    }
    workgroupBarrier();
    softmax(local);
    for (var i = 0u; i < GROUPS * MINE * 2u; i++) {
      sums[i] *= rescales[y * MINE + i / 2u % MINE];
    }
    for (var group = 0u; group < GROUPS; group++) {
      workgroupBarrier();
      expandValues(page * VALUE_WORDS, group, seen, local);
      workgroupBarrier();
      for (var token = 0u; token < 32u; token++) {
        let a = right[token * STRIDE + x];
        let b = right[token * STRIDE + x + 16u];
        for (var i = 0u; i < MINE; i++) {
          let weight = left[(y * MINE + i) * STRIDE + token];
          sums[(group * MINE + i) * 2u] += weight * a;
          sums[(group * MINE + i) * 2u + 1u] += weight * b;
        }
      }
    }
  }

  if (SPANS) {
    // For a span without blocks.
    workgroupBarrier();
  }
  for (var i = 0u; i < MINE; i++) {
    let row = firstRow + y * MINE + i;
    let head = kvHead * GROUP + row % GROUP;
    var sumExp = sumExps[y * MINE + i];
    if (HAS_SINKS) {
      sumExp += sinkWeight(sinks[head], maxScores[y * MINE + i]);
    }
    var inverse = 1.0 / sumExp;
    var at = ((tile.token + row / GROUP) * KV_HEADS * GROUP + head) * HEAD_DIM;
    if (SPANS) {
      inverse = 1.0;
      at = (((tile.spanned + row / GROUP) * KV_HEADS * GROUP + head) * work.places + workgroup.z) * (HEAD_DIM + 4u);
      if (row < rows && x < 2u) {
        out[at + HEAD_DIM + x] = bitcast<u32>(select(sumExp, maxScores[y * MINE + i], x == 0u));
      }
    }
    if (OUT_F16 && head == 0u && x == 0u && row < rows) {
      out[params.factorsAt + (tile.token + row / GROUP) * 4u] = bitcast<u32>(1.0);
    }
    for (var group = 0u; group < GROUPS; group++) {
      let a = sums[(group * MINE + i) * 2u] * inverse;
      let b = sums[(group * MINE + i) * 2u + 1u] * inverse;
      if (OUT_F16) {
        // A word holds two neighbouring dims, which two threads compute.
        workgroupBarrier();
        left[y * 32u + x] = a;
        left[y * 32u + x + 16u] = b;
        workgroupBarrier();
        let d = group * 32u + x * 2u;
        if (row < rows && d < HEAD_DIM) {
          out[(at + d) / 2u] = halfPair(vec2<f32>(left[y * 32u + x * 2u], left[y * 32u + x * 2u + 1u]));
        }
      } else if (row < rows) {
        let d = group * 32u + x;
        out[at + d] = bitcast<u32>(a);
        if (d + 16u < HEAD_DIM) {
          out[at + d + 16u] = bitcast<u32>(b);
        }
      }
    }
  }
}

// Turns the scores in `left` into weights, and updates each row's running maximum and total.
fn softmax(local: u32) {
  let row = local / SHARE;
  let firstToken = local % SHARE * (32u / SHARE);
  var highest = MASKED_SCORE;
  for (var i = 0u; i < 32u / SHARE; i++) {
    highest = max(highest, left[row * STRIDE + firstToken + i]);
  }
  shares[local] = highest;
  workgroupBarrier();
  var top = maxScores[row];
  for (var i = 0u; i < SHARE; i++) {
    top = max(top, shares[row * SHARE + i]);
  }
  if (local % SHARE == 0u) {
    rescales[row] = top;
  }
  var total = 0.0;
  for (var i = 0u; i < 32u / SHARE; i++) {
    let s = left[row * STRIDE + firstToken + i];
    // A row may see nothing of the first blocks, if another row's window begins earlier: it has no maximum yet.
    let weight = select(0.0, exp2(s - top), s > MASKED_SCORE);
    total += weight;
    left[row * STRIDE + firstToken + i] = weight;
  }
  workgroupBarrier();
  shares[local] = total;
  workgroupBarrier();
  if (local < ROWS) {
    var sum = 0.0;
    for (var i = 0u; i < SHARE; i++) {
      sum += shares[local * SHARE + i];
    }
    let next = rescales[local];
    let rescale = exp2(maxScores[local] - next);
    sumExps[local] = sumExps[local] * rescale + sum;
    maxScores[local] = next;
    rescales[local] = rescale;
  }
  workgroupBarrier();
}
