// attendPrompt: a chunk's queries over the cache of any format, in f32 arithmetic without matrices; of a packed cache
// over one of its parts. The rows of a
// workgroup are the query heads of one KV head, token by token, so that they share what is read. For each block of 32
// tokens: keys expanded 32 dims at a time into workgroup memory and multiplied, online softmax by rows, values likewise.
// lib: step, batch, tiles, spans, softcap, kvCodes, planes, channels, narrow, sinks
// <values>
const KV_HEADS: u32 = 2u;
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 64u;
const INT4: bool = true;
const RQ4: bool = false;
// Keys by channel: a scale and a zero for each dim of a page.
const CHANNEL: bool = false;
const KEY_BITS: u32 = 4u;
const VALUE_BITS: u32 = 4u;
const KEY_WORDS: u32 = 80u;
const KEY_SCALES_AT: u32 = 64u;
const VALUE_WORDS: u32 = 80u;
const VALUE_SCALES_AT: u32 = 64u;
// Queries of a workgroup: 16, 32 or 64, so that a thread's sums, ROWS / 8 * groups of 32 dims, stay within 32.
const ROWS: u32 = 64u;
const HAS_SOFTCAP: bool = false;
const HAS_SINKS: bool = false;
// f16 for subgroup matrices; else f32. No sum of values is beyond what a cache holds: the rows' factors are 1.
const OUT_F16: bool = false;
// Over a span of the positions each, z counts them, into partials that attendMerge joins; TILE and MOST_SPANS are attendDecode's.
const SPANS: bool = false;
const TILE: u32 = 32u;
const MOST_SPANS: u32 = 128u;
// Of lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
// </values>

const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
// Rows of one thread, of 16 x 16 threads; the other axis has two tokens or dims a thread.
const MINE: u32 = ROWS / 16u;
const STRIDE: u32 = 33u;
// Threads that share a row of scores.
const SHARE: u32 = 256u / ROWS;
// Of rotated codes.
const MIDDLE: f32 = f32((1u << VALUE_BITS) - 1u) / 2.0;
const HIDDEN_SCORE: f32 = -1e30;

struct Params {
  // Where the pool's tables begin in `batch`.
  table: u32,
  // 0: all positions.
  window: u32,
  // With log2(e), since powers are of 2; with a soft cap instead scale / cap, and cap * log2(e).
  scale: f32,
  cap: f32,
  // f16: the word of `out` where the rows' factors begin.
  factorsAt: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [tokens][heads][HEAD_DIM]
@group(0) @binding(2) var<storage, read> queries: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
// [tokens][heads][HEAD_DIM]; SPANS: [spanned][heads][spans] of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(5) var<storage, read_write> out: array<u32>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;
// [heads]
@group(0) @binding(7) var<storage, read> sinks: array<f32>;

// 32 dims of the queries, or the scores and weights of a block: [row][dim or token].
var<workgroup> left: array<f32, ROWS * STRIDE>;
// 32 dims of 32 tokens: [token][dim].
var<workgroup> right: array<f32, 32u * STRIDE>;
var<workgroup> shares: array<f32, 256>;
var<workgroup> most: array<f32, ROWS>;
var<workgroup> totals: array<f32, ROWS>;
var<workgroup> shrinks: array<f32, ROWS>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let kvHead = workgroup.y;
  let tile = tileOf(workgroup.x, ROWS, GROUP);
  let table = tableOf(params.table, tile.token);
  let gap = gapOf(tile.packed);
  // Rows are query heads, counted from the run's first token.
  let firstRow = tile.firstRow;
  let rows = tile.tokens * GROUP;
  let x = local % 16u;
  let y = local / 16u;
  if (local < ROWS) {
    most[local] = HIDDEN_SCORE;
    totals[local] = 0.0;
  }
  var sums = array<f32, GROUPS * MINE * 2u>();

  let firstPosition = tile.position + firstRow / GROUP;
  let lastPosition = tile.position + (min(firstRow + ROWS, rows) - 1u) / GROUP;
  var oldest = 0u;
  if (params.window > 0u && firstPosition + 1u > params.window) {
    oldest = firstPosition + 1u - params.window;
  }
  var start = oldest & ~31u;
  var end = lastPosition + 1u;
  let places = placesOf(MOST_SPANS);
  if (SPANS) {
    let spans = spansOf(tile.position, tile.position + tile.tokens - 1u, tile.packed, PART, params.window, TILE, places);
    if (workgroup.z >= spans.count) {
      return;
    }
    // Of what the run sees; rows of this tile may see nothing of it.
    let begin = spans.first + workgroup.z * spans.tokens;
    start = max(slotOf(gap, start), begin);
    end = min(slotOf(gap, end), begin + spans.tokens);
    if (PART == PACKED) {
      end = min(end, spans.end);
    }
  }
  for (var first = start; first < end; first += 32u) {
    let page = blockOf(table, positionAt(gap, first) / 32u, KV_HEADS, kvHead);
    var scores = array<f32, MINE * 2u>();
    for (var group = 0u; group < GROUPS; group++) {
      workgroupBarrier();
      for (var i = local; i < ROWS * 32u; i += 256u) {
        let row = min(firstRow + i / 32u, rows - 1u);
        let d = group * 32u + i % 32u;
        var q = 0.0;
        if (d < HEAD_DIM) {
          let head = kvHead * GROUP + row % GROUP;
          q = queries[((tile.token + row / GROUP) * KV_HEADS * GROUP + head) * HEAD_DIM + d] * params.scale;
        }
        left[i / 32u * STRIDE + i % 32u] = q;
      }
      expandKeys(page * KEY_WORDS, group, local);
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
      let position = positionAt(gap, first) + token;
      var s = scores[i];
      if (HAS_SOFTCAP) {
        s = params.cap * boundedTanh(s);
      }
      let visible = position <= query && (params.window == 0u || query - position < params.window);
      left[row * STRIDE + token] = select(HIDDEN_SCORE, s, visible);
    }
    workgroupBarrier();
    softmax(local);
    for (var i = 0u; i < GROUPS * MINE * 2u; i++) {
      sums[i] *= shrinks[y * MINE + i / 2u % MINE];
    }
    for (var group = 0u; group < GROUPS; group++) {
      workgroupBarrier();
      expandValues(page * VALUE_WORDS, group, local);
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
    // Of a span without blocks.
    workgroupBarrier();
  }
  for (var i = 0u; i < MINE; i++) {
    let row = firstRow + y * MINE + i;
    let head = kvHead * GROUP + row % GROUP;
    var total = totals[y * MINE + i];
    if (HAS_SINKS) {
      total += sinkWeight(sinks[head], most[y * MINE + i]);
    }
    var inverse = 1.0 / total;
    var at = ((tile.token + row / GROUP) * KV_HEADS * GROUP + head) * HEAD_DIM;
    if (SPANS) {
      inverse = 1.0;
      at = (((tile.spanned + row / GROUP) * KV_HEADS * GROUP + head) * places + workgroup.z) * (HEAD_DIM + 4u);
      if (row < rows && x < 2u) {
        out[at + HEAD_DIM + x] = bitcast<u32>(select(total, most[y * MINE + i], x == 0u));
      }
    }
    if (OUT_F16 && head == 0u && x == 0u && row < rows) {
      out[params.factorsAt + (tile.token + row / GROUP) * 4u] = bitcast<u32>(1.0);
    }
    for (var group = 0u; group < GROUPS; group++) {
      let a = sums[(group * MINE + i) * 2u] * inverse;
      let b = sums[(group * MINE + i) * 2u + 1u] * inverse;
      if (OUT_F16) {
        // A word holds neighbours, which two threads have.
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

// Scores of `left` -> weights, with the running maximum and total of each row.
fn softmax(local: u32) {
  let row = local / SHARE;
  let firstToken = local % SHARE * (32u / SHARE);
  var highest = HIDDEN_SCORE;
  for (var i = 0u; i < 32u / SHARE; i++) {
    highest = max(highest, left[row * STRIDE + firstToken + i]);
  }
  shares[local] = highest;
  workgroupBarrier();
  var top = most[row];
  for (var i = 0u; i < SHARE; i++) {
    top = max(top, shares[row * SHARE + i]);
  }
  if (local % SHARE == 0u) {
    shrinks[row] = top;
  }
  var total = 0.0;
  for (var i = 0u; i < 32u / SHARE; i++) {
    let s = left[row * STRIDE + firstToken + i];
    // A row that sees nothing of its first blocks (another row's window begins earlier) has no maximum yet.
    let weight = select(0.0, exp2(s - top), s > HIDDEN_SCORE);
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
    let next = shrinks[local];
    let shrink = exp2(most[local] - next);
    totals[local] = totals[local] * shrink + sum;
    most[local] = next;
    shrinks[local] = shrink;
  }
  workgroupBarrier();
}

// 32 dims of a block's keys into `right`.
fn expandKeys(block: u32, group: u32, local: u32) {
  if (local >= 128u) {
    return;
  }
  let token = local % 32u;
  let part = local / 32u;
  if (INT4 || RQ4) {
    let codes = codesApart(keyCodes(block, group, token), KEY_BITS);
    let lows = unpack4xU8(codes[0][part]);
    let highs = unpack4xU8(codes[1][part]);
    if (CHANNEL) {
      let low = channelRanges(block + KEY_SCALES_AT, group * 32u + part * 4u);
      let high = channelRanges(block + KEY_SCALES_AT, group * 32u + part * 4u + 16u);
      for (var c = 0u; c < 4u; c++) {
        let d = part * 4u + c;
        right[token * STRIDE + d] = low[0][c] * f32(lows[c]) + low[1][c];
        right[token * STRIDE + d + 16u] = high[0][c] * f32(highs[c]) + high[1][c];
      }
      return;
    }
    let range = rangeOf(keys[block + KEY_SCALES_AT + scaleWord(group, token)][scalePart(token)], token);
    for (var c = 0u; c < 4u; c++) {
      let d = part * 4u + c;
      right[token * STRIDE + d] = range.x * f32(lows[c]) + range.y;
      right[token * STRIDE + d + 16u] = range.x * f32(highs[c]) + range.y;
    }
    return;
  }
  let chunk = group * 4u + part;
  var eight = vec4<u32>(0u);
  if (chunk * 8u < HEAD_DIM) {
    eight = keys[block + chunk * 32u + token];
  }
  spread(eight, token, part);
}

// 32 dims of a block's values into `right`.
fn expandValues(block: u32, group: u32, local: u32) {
  if (local >= 128u) {
    return;
  }
  if (INT4 || RQ4) {
    let d = local % 32u;
    let part = local / 32u;
    let codes = codesApart(valueCodes(block, group * 32u + d), VALUE_BITS);
    let lows = unpack4xU8(codes[0][part]);
    let highs = unpack4xU8(codes[1][part]);
    for (var c = 0u; c < 4u; c++) {
      let token = part * 4u + c;
      let low = rangeOf(values[block + VALUE_SCALES_AT + scaleWord(group, token)][scalePart(token)], token);
      let high = rangeOf(values[block + VALUE_SCALES_AT + scaleWord(group, token + 16u)][scalePart(token)], token);
      right[token * STRIDE + d] = low.x * f32(lows[c]) + low.y;
      right[(token + 16u) * STRIDE + d] = high.x * f32(highs[c]) + high.y;
    }
    return;
  }
  let token = local / 4u;
  let part = local % 4u;
  let chunk = group * 4u + part;
  var eight = vec4<u32>(0u);
  if (chunk * 8u < HEAD_DIM) {
    eight = values[block + token * (HEAD_DIM / 8u) + chunk];
  }
  spread(eight, token, part);
}

// Eight halves of one token.
fn spread(eight: vec4<u32>, token: u32, part: u32) {
  for (var c = 0u; c < 4u; c++) {
    let two = unpack2x16float(eight[c]);
    right[token * STRIDE + part * 8u + c * 2u] = two.x;
    right[token * STRIDE + part * 8u + c * 2u + 1u] = two.y;
  }
}
