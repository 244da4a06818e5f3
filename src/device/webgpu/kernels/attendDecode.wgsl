// attendDecode: one token's queries over a 4-bit cache, by integer dot products; attendMerge joins the spans.
// A workgroup does one span of positions for HEADS query heads of one KV head, so that keys and values are read once for
// all of them. Tile by tile: scores, one thread a token, int8 queries against 4-bit codes; softmax weights, one thread 16
// tokens of a head, quantized to 8 bits with the tokens' value scales folded in; sums of values, integer dots along tokens.
// A value is scale * (code - 7.5) + middle, and so is a key: codes are centred, so that rounding of weights meets the
// values' spread and not their offset; middles are summed in f32 with exact weights. rq4 has neither zeros nor middles.
// Keys by channel (CHANNEL) have a scale and a zero for each dim of a page. Scales go to the query, which is quantized anew for
// each page of a tile, and zeros into a number for each page and head: tokens have neither.
// Loads of the next step are written before the arithmetic of this one.
// lib: step, batch, spans, lanes, softcap, planes, channels
// <values>
// Query heads of a KV head, and how many of them one workgroup serves.
const GROUP: u32 = 2u;
const HEADS: u32 = 2u;
const HEAD_DIM: u32 = 64u;
const INT4: bool = true;
const RQ4: bool = false;
const CHANNEL: bool = false;
const KEY_BITS: u32 = 4u;
const VALUE_BITS: u32 = 4u;
const KEY_WORDS: u32 = 80u;
const KEY_SCALES_AT: u32 = 64u;
const VALUE_WORDS: u32 = 80u;
const VALUE_SCALES_AT: u32 = 64u;
// Positions at a time.
const TILE: u32 = 256u;
// Dims of one thread while values are summed; all of one group of 32.
const DIMS: u32 = 2u;
// Groups of keys that are loaded before they are needed.
const AHEAD: u32 = 1u;
const MOST_SPANS: u32 = 128u;
// Of lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
const SUBGROUP: u32 = 32u;
const HAS_SOFTCAP: bool = false;
// </values>

const WORKGROUP: u32 = 128u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
// Weights of a token and head: values have a scale for each group, or one.
const WEIGHT_GROUPS: u32 = select(GROUPS, 1u, RQ4);
const SETS: u32 = (GROUP + HEADS - 1u) / HEADS;
const BLOCKS: u32 = TILE / 32u;
// Queries are quantized once, or for each page of a tile.
const QUERY_PAGES: u32 = select(1u, BLOCKS, CHANNEL);
const EACH: u32 = TILE / WORKGROUP;
// Threads of a head while scores become weights, each with 16 tokens: half a block.
const LANES: u32 = TILE / 16u;
// Threads that share a block of values, and blocks at a time.
const VALUE_LANES: u32 = GROUPS * 32u / DIMS;
const BLOCK_ROWS: u32 = WORKGROUP / VALUE_LANES;
// Heads in fours, as `tile` holds them: scores [token][4 heads] with a gap every 16 tokens, against bank conflicts; then
// weights [head][group][16 tokens], again with gaps; at last sums [row][dim][4 heads].
const FOURS: u32 = (HEADS + 3u) / 4u;
const WEIGHT_STRIDE: u32 = LANES + 1u;
const TILE_WORDS: u32 =
  max(max(TILE * FOURS + LANES, HEADS * WEIGHT_GROUPS * WEIGHT_STRIDE), max(BLOCK_ROWS * GROUPS * 32u, HEADS * GROUPS * 8u));
// Fours of query dims, and how many a thread quantizes.
const ITEMS: u32 = HEADS * GROUPS * 8u;
const TURNS: u32 = (ITEMS + WORKGROUP - 1u) / WORKGROUP;
const HIDDEN_SCORE: f32 = -1e30;
// What codes are centred by.
const KEY_MIDDLE: f32 = f32((1u << KEY_BITS) - 1u) / 2.0;
const VALUE_MIDDLE: f32 = f32((1u << VALUE_BITS) - 1u) / 2.0;
// A dot product with it sums four codes.
const ONES: u32 = 0x01010101u;

struct Params {
  kvHeads: u32,
  // Where the pool's tables begin in `batch`.
  table: u32,
  // 0: all positions.
  window: u32,
  // With log2(e), since powers are of 2; with a soft cap instead scale / cap, and cap * log2(e).
  scale: f32,
  cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [tokens][heads][HEAD_DIM]
@group(0) @binding(2) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
// [spanned][heads][spans] of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

var<workgroup> tile: array<vec4<u32>, TILE_WORDS>;
// int8 codes of [head][group][page]: dims 0..15, dims 16..31.
var<workgroup> queryCodes: array<vec4<u32>, HEADS * GROUPS * QUERY_PAGES * 2u>;
// [head][group]: scale; what centring the keys' codes leaves; sum.
var<workgroup> queryScales: array<vec4<f32>, select(HEADS * GROUPS, 1u, CHANNEL)>;
// CHANNEL, [head][group][page]: scale; what is added to it.
var<workgroup> pageScales: array<vec2<f32>, select(1u, HEADS * GROUPS * QUERY_PAGES, CHANNEL)>;
// [head][group][16 tokens]: scales of the tile's weights; of the span, sums of middles. Of queries: largest values and sums of four dims.
var<workgroup> weightScales: array<f32, HEADS * GROUPS * max(8u, LANES)>;
// By head: 2^(old maximum - new maximum).
var<workgroup> shrinks: array<f32, HEADS>;

struct KeyWord {
  codes: vec4<u32>,
  // Scale and zero.
  range: u32,
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let single = spannedOf(workgroup.z);
  let row = single.row;
  let last = single.lastPosition;
  let table = params.table + single.table;
  let places = placesOf(MOST_SPANS);
  let spans = spansOf(last, last, single.packed, PART, params.window, TILE, places);
  if (workgroup.x >= spans.count) {
    // Another row of the step has more.
    return;
  }
  let kvHead = workgroup.y / SETS;
  // Heads past the group's end are done like its last one and never written.
  let firstHead = workgroup.y % SETS * HEADS;
  let start = spans.first + workgroup.x * spans.tokens;
  let end = min(start + spans.tokens, spans.end);
  var nextKeys = loadKeys(table, kvHead, start, 0u, local);
  let groupHead = (row * params.kvHeads + kvHead) * GROUP;
  if (!CHANNEL) {
    quantizeQueries(groupHead, firstHead, local);
  }

  let head = local / LANES;
  let lane = local % LANES;
  let weighs = head < HEADS;
  let blockRow = local / VALUE_LANES;
  let dimGroup = local % VALUE_LANES / (32u / DIMS);
  let firstDim = dimGroup * 32u + local % (32u / DIMS);

  var most = HIDDEN_SCORE;
  var total = 0.0;
  var middles = array<f32, WEIGHT_GROUPS>();
  // [4 heads][dims]
  var sums = array<vec4<f32>, FOURS * DIMS>();

  for (var first = start; first < end; first += TILE) {
    if (CHANNEL) {
      foldQueries(table, kvHead, first, groupHead, firstHead, local);
    }
    // Scores of this thread's tokens, all heads.
    var scores = array<f32, HEADS * EACH>();
    for (var begin = 0u; begin < GROUPS; begin += AHEAD) {
      let words = nextKeys;
      if (begin + AHEAD < GROUPS) {
        nextKeys = loadKeys(table, kvHead, first, begin + AHEAD, local);
      }
      for (var j = 0u; j < min(AHEAD, GROUPS - begin); j++) {
        let group = begin + j;
        var low = array<vec4<u32>, EACH>();
        var high = array<vec4<u32>, EACH>();
        var ranges = array<vec2<f32>, EACH>();
        for (var i = 0u; i < EACH; i++) {
          let apart = codesApart(words[j * EACH + i].codes, KEY_BITS);
          low[i] = apart[0];
          high[i] = apart[1];
          ranges[i] = unpack2x16float(words[j * EACH + i].range);
          if (RQ4) {
            ranges[i] = ranges[i].x * vec2<f32>(1.0, -7.5);
          }
        }
        for (var h = 0u; h < HEADS; h++) {
          let at = h * GROUPS + group;
          if (CHANNEL) {
            for (var i = 0u; i < EACH; i++) {
              let page = at * QUERY_PAGES + (local + i * WORKGROUP) / 32u;
              let scales = pageScales[page];
              let dots = dotSigned(queryCodes[page * 2u], low[i]) + dotSigned(queryCodes[page * 2u + 1u], high[i]);
              scores[h * EACH + i] += scales.x * f32(dots) + scales.y;
            }
            continue;
          }
          let scales = queryScales[at];
          let lowQuery = queryCodes[at * 2u];
          let highQuery = queryCodes[at * 2u + 1u];
          for (var i = 0u; i < EACH; i++) {
            let dots = dotSigned(lowQuery, low[i]) + dotSigned(highQuery, high[i]);
            scores[h * EACH + i] += ranges[i].x * (scales.x * f32(dots) + scales.y) + ranges[i].y * scales.z;
          }
        }
      }
    }
    // Whoever still reads weights must be done.
    workgroupBarrier();
    for (var i = 0u; i < EACH; i++) {
      let token = local + i * WORKGROUP;
      let position = first + token;
      let visible = position >= spans.oldest && position < spans.end;
      for (var four = 0u; four < FOURS; four++) {
        var s = vec4<f32>(0.0);
        for (var c = 0u; c < 4u; c++) {
          if (four * 4u + c < HEADS) {
            s[c] = scores[(four * 4u + c) * EACH + i];
            if (HAS_SOFTCAP) {
              s[c] = params.cap * boundedTanh(s[c]);
            }
          }
        }
        tile[token * FOURS + token / 16u + four] = bitcast<vec4<u32>>(select(vec4<f32>(HIDDEN_SCORE), s, visible));
      }
    }
    workgroupBarrier();
    var codes = loadValues(table, kvHead, first, min(blockRow, BLOCKS - 1u), firstDim);
    let ranges = blockOf(table, (first + lane * 16u) / 32u, params.kvHeads, kvHead) * VALUE_WORDS + VALUE_SCALES_AT
      + lane % 2u * select(4u, 2u, RQ4);
    var nextRanges = loadRanges(ranges, 0u);

    var weights = array<vec4<f32>, 4>();
    var highest = HIDDEN_SCORE;
    if (weighs) {
      for (var i = 0u; i < 4u; i++) {
        for (var c = 0u; c < 4u; c++) {
          let token = lane * 16u + i * 4u + c;
          weights[i][c] = bitcast<f32>(tile[token * FOURS + lane + head / 4u][head % 4u]);
        }
        let two = max(weights[i].xy, weights[i].zw);
        highest = max(highest, max(two.x, two.y));
      }
    }
    let top = max(most, lanesMax(highest, local));
    let shrink = exp2(most - top);
    most = top;
    var added = 0.0;
    for (var i = 0u; i < 4u; i++) {
      weights[i] = exp2(weights[i] - top);
      added += dot(weights[i], vec4<f32>(1.0));
    }
    total = total * shrink + added;
    if (weighs && lane == 0u) {
      shrinks[head] = shrink;
    }
    // The scores are read by now: weights take their place.
    workgroupBarrier();
    if (weighs) {
      for (var group = 0u; group < WEIGHT_GROUPS; group++) {
        let loaded = nextRanges;
        nextRanges = loadRanges(ranges, min(group + 1u, WEIGHT_GROUPS - 1u));
        var scaled = array<vec4<f32>, 4>();
        var middle = 0.0;
        var largest = 0.0;
        for (var i = 0u; i < 4u; i++) {
          let packed = loaded[i];
          let a = unpack2x16float(packed.x);
          let b = unpack2x16float(packed.y);
          let c = unpack2x16float(packed.z);
          let d = unpack2x16float(packed.w);
          let scale = vec4<f32>(a.x, b.x, c.x, d.x);
          if (INT4) {
            middle += dot(weights[i], vec4<f32>(a.y, b.y, c.y, d.y) + 7.5 * scale);
          }
          scaled[i] = weights[i] * scale;
          let two = max(scaled[i].xy, scaled[i].zw);
          largest = max(largest, max(two.x, two.y));
        }
        let inverse = select(0.0, 255.0 / largest, largest > 1e-30);
        let unit = largest / 255.0;
        var count = 0.0;
        var words = vec4<u32>();
        for (var i = 0u; i < 4u; i++) {
          let rounded = floor(scaled[i] * inverse + 0.5);
          count += dot(rounded, vec4<f32>(1.0));
          words[i] = pack4xU8(vec4<u32>(rounded));
        }
        tile[(head * WEIGHT_GROUPS + group) * WEIGHT_STRIDE + lane] = words;
        weightScales[(head * WEIGHT_GROUPS + group) * LANES + lane] = unit;
        middles[group] = middles[group] * shrink + middle - VALUE_MIDDLE * unit * count;
      }
    }
    workgroupBarrier();
    nextKeys = loadKeys(table, kvHead, first + TILE, 0u, local);
    if (blockRow < BLOCK_ROWS) {
      for (var h = 0u; h < HEADS; h++) {
        for (var i = 0u; i < DIMS; i++) {
          sums[h / 4u * DIMS + i][h % 4u] *= shrinks[h];
        }
      }
      for (var b = blockRow; b < BLOCKS; b += BLOCK_ROWS) {
        var low = array<vec4<u32>, DIMS>();
        var high = array<vec4<u32>, DIMS>();
        for (var i = 0u; i < DIMS; i++) {
          let apart = codesApart(codes[i], VALUE_BITS);
          low[i] = apart[0];
          high[i] = apart[1];
        }
        if (b + BLOCK_ROWS < BLOCKS) {
          codes = loadValues(table, kvHead, first, b + BLOCK_ROWS, firstDim);
        }
        for (var h = 0u; h < HEADS; h++) {
          let at = h * WEIGHT_GROUPS + select(dimGroup, 0u, RQ4);
          let lowWeights = tile[at * WEIGHT_STRIDE + b * 2u];
          let highWeights = tile[at * WEIGHT_STRIDE + b * 2u + 1u];
          let lowScale = weightScales[at * LANES + b * 2u];
          let highScale = weightScales[at * LANES + b * 2u + 1u];
          for (var i = 0u; i < DIMS; i++) {
            sums[h / 4u * DIMS + i][h % 4u] += lowScale * f32(dotCodes(low[i], lowWeights)) + highScale * f32(dotCodes(high[i], highWeights));
          }
        }
      }
    }
  }

  workgroupBarrier();
  let stride = HEAD_DIM + 4u;
  let firstSpan = ((workgroup.z * params.kvHeads + kvHead) * GROUP + firstHead) * places + workgroup.x;
  let span = firstSpan * stride;
  let all = lanesSum(total, local);
  if (weighs && lane == 0u && firstHead + head < GROUP) {
    partials[span + head * places * stride + HEAD_DIM] = most;
    partials[span + head * places * stride + HEAD_DIM + 1u] = all;
  }
  for (var group = 0u; group < WEIGHT_GROUPS; group++) {
    let middle = lanesSum(middles[group], local);
    if (weighs && lane == 0u) {
      weightScales[head * WEIGHT_GROUPS + group] = middle;
    }
  }
  // Written out: compilers do not unroll loops with barriers, and sums indexed at run time would live in local memory.
  workgroupBarrier();
  for (var i = 0u; i < DIMS; i++) {
    storeSum(blockRow, firstDim + i * (32u / DIMS), sums[i]);
  }
  storePartials(span, places, 0u, firstHead, local);
  if (FOURS > 1u) {
    workgroupBarrier();
    for (var i = 0u; i < DIMS; i++) {
      storeSum(blockRow, firstDim + i * (32u / DIMS), sums[(FOURS - 1u) * DIMS + i]);
    }
    storePartials(span, places, 4u, firstHead, local);
  }
}

fn storeSum(blockRow: u32, d: u32, sum: vec4<f32>) {
  if (blockRow < BLOCK_ROWS) {
    tile[blockRow * GROUPS * 32u + d] = bitcast<vec4<u32>>(sum);
  }
}

// Four heads' sums of all rows, with their middles.
fn storePartials(span: u32, places: u32, first: u32, firstHead: u32, local: u32) {
  workgroupBarrier();
  for (var d = local; d < HEAD_DIM; d += WORKGROUP) {
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < BLOCK_ROWS; i++) {
      sum += bitcast<vec4<f32>>(tile[i * GROUPS * 32u + d]);
    }
    for (var c = 0u; c < 4u; c++) {
      let h = first + c;
      if (h < HEADS && firstHead + h < GROUP) {
        partials[span + h * places * (HEAD_DIM + 4u) + d] = sum[c] + weightScales[h * WEIGHT_GROUPS + select(d / 32u, 0u, RQ4)];
      }
    }
  }
}

// int8 with one scale for each head's 32 dims; the score's scale is folded in. One thread four dims, then one a group.
fn quantizeQueries(groupHead: u32, firstHead: u32, local: u32) {
  var fours = array<vec4<f32>, TURNS>();
  for (var turn = 0u; turn < TURNS; turn++) {
    let item = local + turn * WORKGROUP;
    let d = item % (GROUPS * 8u) * 4u;
    if (item < ITEMS && d < HEAD_DIM) {
      let h = groupHead + min(firstHead + item / (GROUPS * 8u), GROUP - 1u);
      fours[turn] = queries[(h * HEAD_DIM + d) / 4u];
    }
    if (item < ITEMS) {
      let two = max(abs(fours[turn].xy), abs(fours[turn].zw));
      weightScales[item] = max(two.x, two.y);
    }
  }
  workgroupBarrier();
  var largest = array<f32, TURNS>();
  for (var turn = 0u; turn < TURNS; turn++) {
    let item = min(local + turn * WORKGROUP, ITEMS - 1u);
    for (var i = 0u; i < 8u; i++) {
      largest[turn] = max(largest[turn], weightScales[item / 8u * 8u + i]);
    }
  }
  workgroupBarrier();
  // `tile` is free until the first scores: a word of it for each four.
  for (var turn = 0u; turn < TURNS; turn++) {
    let item = local + turn * WORKGROUP;
    if (item < ITEMS) {
      let inverse = select(0.0, 127.0 / largest[turn], largest[turn] > 1e-30);
      tile[item] = vec4<u32>(pack4xI8(vec4<i32>(round(fours[turn] * inverse))));
      weightScales[item] = dot(fours[turn], vec4<f32>(1.0));
    }
  }
  workgroupBarrier();
  for (var turn = 0u; turn < TURNS; turn++) {
    let item = local + turn * WORKGROUP;
    if (item < ITEMS && item % 8u == 0u) {
      var exact = 0.0;
      for (var i = 0u; i < 8u; i++) {
        exact += weightScales[item + i];
      }
      let low = vec4<u32>(tile[item].x, tile[item + 1u].x, tile[item + 2u].x, tile[item + 3u].x);
      let high = vec4<u32>(tile[item + 4u].x, tile[item + 5u].x, tile[item + 6u].x, tile[item + 7u].x);
      let coded = dotSigned(low, vec4<u32>(ONES)) + dotSigned(high, vec4<u32>(ONES));
      let unit = largest[turn] / 127.0 * params.scale;
      exact *= params.scale;
      queryCodes[item / 4u] = low;
      queryCodes[item / 4u + 1u] = high;
      queryScales[item / 8u] = vec4<f32>(unit, 7.5 * (exact - unit * f32(coded)), exact, 0.0);
    }
  }
  workgroupBarrier();
}

// The queries for each page of a tile, times the scales of the page's channels, as int8 with one scale for each head's 32 dims;
// the score's scale is folded in. A thread does one head's group for one page.
fn foldQueries(table: u32, kvHead: u32, first: u32, groupHead: u32, firstHead: u32, local: u32) {
  // Whoever still reads the last tile's must be done.
  workgroupBarrier();
  for (var item = local; item < HEADS * GROUPS * BLOCKS; item += WORKGROUP) {
    let page = item % BLOCKS;
    let group = item / BLOCKS % GROUPS;
    let h = groupHead + min(firstHead + item / (BLOCKS * GROUPS), GROUP - 1u);
    let at = blockOf(table, first / 32u + page, params.kvHeads, kvHead) * KEY_WORDS + KEY_SCALES_AT;
    var fours = array<vec4<f32>, 8>();
    var most = vec4<f32>(0.0);
    var sums = vec4<f32>(0.0);
    var zeros = vec4<f32>(0.0);
    for (var i = 0u; i < 8u; i++) {
      let d = group * 32u + i * 4u;
      if (d < HEAD_DIM) {
        let four = queries[(h * HEAD_DIM + d) / 4u];
        let ranges = channelRanges(at, d);
        fours[i] = four * ranges[0];
        most = max(most, abs(fours[i]));
        sums += fours[i];
        zeros += four * ranges[1];
      }
    }
    let largest = max(max(most.x, most.y), max(most.z, most.w));
    let inverse = select(0.0, 127.0 / largest, largest > 1e-30);
    var words = array<u32, 8>();
    for (var i = 0u; i < 8u; i++) {
      words[i] = pack4xI8(vec4<i32>(round(fours[i] * inverse)));
    }
    let low = vec4<u32>(words[0], words[1], words[2], words[3]);
    let high = vec4<u32>(words[4], words[5], words[6], words[7]);
    let coded = dotSigned(low, vec4<u32>(ONES)) + dotSigned(high, vec4<u32>(ONES));
    let unit = largest / 127.0;
    let offset = KEY_MIDDLE * (dot(sums, vec4<f32>(1.0)) - unit * f32(coded)) + dot(zeros, vec4<f32>(1.0));
    queryCodes[item * 2u] = low;
    queryCodes[item * 2u + 1u] = high;
    pageScales[item] = vec2<f32>(unit, offset) * params.scale;
  }
  workgroupBarrier();
}

// Of AHEAD groups, this thread's tokens.
fn loadKeys(table: u32, kvHead: u32, first: u32, group: u32, local: u32) -> array<KeyWord, EACH * AHEAD> {
  var words = array<KeyWord, EACH * AHEAD>();
  for (var i = 0u; i < EACH; i++) {
    let slot = first + local + i * WORKGROUP;
    let block = blockOf(table, slot / 32u, params.kvHeads, kvHead) * KEY_WORDS;
    for (var j = 0u; j < AHEAD; j++) {
      let g = min(group + j, GROUPS - 1u);
      words[j * EACH + i].codes = keyCodes(block, g, slot % 32u);
      if (CHANNEL) {
        // No token has a range.
      } else if (RQ4) {
        words[j * EACH + i].range = keys[block + KEY_SCALES_AT + slot % 32u / 8u][slot % 8u / 2u] >> (slot % 2u * 16u);
      } else {
        words[j * EACH + i].range = keys[block + KEY_SCALES_AT + g * 8u + slot % 32u / 4u][slot % 4u];
      }
    }
  }
  return words;
}

// Scales and zeros of 16 tokens; of rq4 scales alone.
fn loadRanges(at: u32, group: u32) -> array<vec4<u32>, 4> {
  if (RQ4) {
    let low = values[at];
    let high = values[at + 1u];
    return array<vec4<u32>, 4>(
      halvesApart(low.xy), halvesApart(low.zw), halvesApart(high.xy), halvesApart(high.zw));
  }
  let first = at + group * 8u;
  return array<vec4<u32>, 4>(values[first], values[first + 1u], values[first + 2u], values[first + 3u]);
}

fn halvesApart(pairs: vec2<u32>) -> vec4<u32> {
  return vec4<u32>(pairs.x & 0xffffu, pairs.x >> 16u, pairs.y & 0xffffu, pairs.y >> 16u);
}

fn loadValues(table: u32, kvHead: u32, first: u32, b: u32, firstDim: u32) -> array<vec4<u32>, DIMS> {
  var codes = array<vec4<u32>, DIMS>();
  let block = blockOf(table, first / 32u + b, params.kvHeads, kvHead) * VALUE_WORDS;
  for (var i = 0u; i < DIMS; i++) {
    codes[i] = valueCodes(block, firstDim + i * (32u / DIMS));
  }
  return codes;
}

fn dotSigned(queries: vec4<u32>, codes: vec4<u32>) -> i32 {
  return dot4I8Packed(queries.x, codes.x) + dot4I8Packed(queries.y, codes.y)
    + dot4I8Packed(queries.z, codes.z) + dot4I8Packed(queries.w, codes.w);
}

fn dotCodes(codes: vec4<u32>, weights: vec4<u32>) -> u32 {
  return dot4U8Packed(codes.x, weights.x) + dot4U8Packed(codes.y, weights.y)
    + dot4U8Packed(codes.z, weights.z) + dot4U8Packed(codes.w, weights.w);
}
