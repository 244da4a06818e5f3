// attendDecode: one token's queries over a 4-bit cache, by integer dot products; attendMerge joins the spans.
// A workgroup does one span of positions for HEADS query heads of one KV head, so that keys and values are read once for
// all of them. Tile by tile: scores, one thread a token, int8 queries against 4-bit codes; softmax weights, one thread 16
// tokens of a head, quantized to 8 bits with the tokens' value scales folded in; sums of values, integer dots along tokens.
// A value is scale * (code - 7.5) + middle, and so is a key: codes are centred, so that rounding of weights meets the
// values' spread and not their offset; middles are summed in f32 with exact weights. rq4 has neither zeros nor middles.
// Keys by channel (CHANNEL) have a scale and a zero for each dim of a page. Scales go to the query, which is quantized anew for
// each page of a tile, and zeros into a number for each page and head: tokens have neither.
// Loads of the next step are written before the arithmetic of this one.
// lib: step, batch, spans, decodeWork, decodeQueries, decodeLoads, decodeWeights, decodePartials, decodeTurned, turnedCodes, dots, lanes, softcap, planes
// lib: channels
// <values>
// Query heads of a KV head, and how many of them one workgroup has.
const GROUP: u32 = 2u;
const HEADS: u32 = 2u;
const HEAD_DIM: u32 = 64u;
// 0: keys and values are separate. Otherwise one vector is both: the cache holds TURNED rotated dims as keys, HEAD_DIM dims as values.
const TURNED: u32 = 0u;
// include: cacheValues
// Positions that are handled at a time.
const TILE: u32 = 256u;
// Dims per thread when values are summed, all in one group of 32.
const DIMS: u32 = 2u;
// Groups of keys that are loaded before they are needed.
const AHEAD: u32 = 1u;
const MOST_SPANS: u32 = 128u;
// Used by lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
const SUBGROUP: u32 = 32u;
const HAS_SOFTCAP: bool = false;
// </values>

const WORKGROUP: u32 = 128u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
// Weights per token and head: one for each scale of values, which int4 has for each group.
const WEIGHT_GROUPS: u32 = select(GROUPS, 1u, RQ4);
const BLOCKS: u32 = TILE / 32u;
// Queries are quantized once, or once for each page of a tile.
const QUERY_PAGES: u32 = select(1u, BLOCKS, CHANNEL);
const EACH: u32 = TILE / WORKGROUP;
// Threads per head when scores become weights, each with 16 tokens: half a block.
const LANES: u32 = TILE / 16u;
// Threads that share a block of values, and blocks that are handled at a time.
const VALUE_LANES: u32 = GROUPS * 32u / DIMS;
const BLOCK_ROWS: u32 = WORKGROUP / VALUE_LANES;
// Heads in fours, as in `tile`: scores [token][4 heads] with a gap every 16 tokens, to avoid bank conflicts; then weights
// [head][group][16 tokens], again with gaps; at the end sums [row][dim][4 heads].
const FOURS: u32 = (HEADS + 3u) / 4u;
const WEIGHT_STRIDE: u32 = LANES + 1u;
const TILE_WORDS: u32 =
  max(max(max(TILE * FOURS + LANES, HEADS * WEIGHT_GROUPS * WEIGHT_STRIDE), STAGED * TILE), max(BLOCK_ROWS * GROUPS * 32u, HEADS * GROUPS * 8u));
const MASKED_SCORE: f32 = -1e30;

// include: decodeBindings
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

var<workgroup> tile: array<vec4<u32>, TILE_WORDS>;
// int8 codes of [head][group][page]: dims 0..15, dims 16..31. Those for values begin at VALUE_CODES, [head][group].
var<workgroup> queryCodes: array<vec4<u32>, VALUE_CODES + select(0u, HEADS * GROUPS * 2u, TURNED > 0u)>;
// [head][group]: scale; the correction for centred keys' codes; sum. Those for values begin at VALUE_SCALES.
var<workgroup> queryScales: array<vec4<f32>, max(1u, VALUE_SCALES + select(0u, HEADS * GROUPS, TURNED > 0u))>;
// CHANNEL, [head][group][page]: scale, and offset.
var<workgroup> pageScales: array<vec2<f32>, select(1u, HEADS * KEY_GROUPS * QUERY_PAGES, CHANNEL)>;
// [head][group][16 tokens]: scales of the tile's weights, and sums of middles over the span. Before that, for queries: largest values
// and sums of four dims.
var<workgroup> weightScales: array<f32, HEADS * GROUPS * max(8u, LANES)>;
// For each head: 2^(old maximum - new maximum).
var<workgroup> rescales: array<f32, HEADS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let work = workOf(workgroup, params.kvHeads, params.table, params.window, HEADS, TILE);
  if (work.isNone) {
    return;
  }
  let table = work.table;
  let kvHead = work.kvHead;
  // Heads past the last one of the KV head repeat it and are never written.
  let firstHead = work.firstHead;
  var nextKeys = loadKeys(table, kvHead, work.start, 0u, local);
  let groupHead = (work.row * params.kvHeads + kvHead) * GROUP;
  if (!CHANNEL || TURNED > 0u) {
    quantizeQueries(groupHead, firstHead, local);
  }

  let head = local / LANES;
  let lane = local % LANES;
  let weighs = head < HEADS;
  let blockRow = local / VALUE_LANES;
  let dimGroup = local % VALUE_LANES / (32u / DIMS);
  let firstDim = dimGroup * 32u + local % (32u / DIMS);

  var maxScore = MASKED_SCORE;
  var sumExp = 0.0;
  var middles = array<f32, WEIGHT_GROUPS>();
  // [4 heads][dims]
  var sums = array<vec4<f32>, FOURS * DIMS>();

  for (var first = work.start; first < work.end; first += TILE) {
    if (CHANNEL) {
      foldQueries(table, kvHead, first, groupHead, firstHead, local);
    }
    // S = Q K': scores of this thread's tokens, for all heads.
    var scores = array<f32, HEADS * EACH>();
    for (var begin = 0u; begin < KEY_GROUPS; begin += AHEAD) {
      let words = nextKeys;
      if (begin + AHEAD < KEY_GROUPS) {
        nextKeys = loadKeys(table, kvHead, first, begin + AHEAD, local);
      }
      for (var j = 0u; j < min(AHEAD, KEY_GROUPS - begin); j++) {
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
          let at = h * KEY_GROUPS + group;
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
    if (TURNED > 0u) {
      addValueScores(&scores, table, kvHead, first, local);
    }
    // After this barrier, no thread reads the last tile's weights.
    workgroupBarrier();
    for (var i = 0u; i < EACH; i++) {
      let token = local + i * WORKGROUP;
      let position = first + token;
      let visible = position >= work.oldest && position < work.lastEnd;
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
        tile[token * FOURS + token / 16u + four] = bitcast<vec4<u32>>(select(vec4<f32>(MASKED_SCORE), s, visible));
      }
    }
    workgroupBarrier();
    var codes = loadValues(table, kvHead, first, min(blockRow, BLOCKS - 1u), firstDim);
    let ranges = blockOf(table, (first + lane * 16u) / 32u, params.kvHeads, kvHead) * VALUE_WORDS + VALUE_SCALES_AT
      + lane % 2u * select(4u, 2u, RQ4);
    var nextRanges = loadRanges(ranges, 0u);

    // Online softmax.
    var weights = array<vec4<f32>, 4>();
    var highest = MASKED_SCORE;
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
    let nextMax = max(maxScore, lanesMax(highest, local));
    let rescale = exp2(maxScore - nextMax);
    maxScore = nextMax;
    var added = 0.0;
    for (var i = 0u; i < 4u; i++) {
      weights[i] = exp2(weights[i] - nextMax);
      added += dot(weights[i], vec4<f32>(1.0));
    }
    sumExp = sumExp * rescale + added;
    if (weighs && lane == 0u) {
      rescales[head] = rescale;
    }
    // All scores have been read; weights are stored in their memory.
    workgroupBarrier();
    if (weighs) {
      for (var group = 0u; group < WEIGHT_GROUPS; group++) {
        let loaded = nextRanges;
        nextRanges = loadRanges(ranges, min(group + 1u, WEIGHT_GROUPS - 1u));
        let quantized = quantizeWeights(weights, loaded);
        tile[(head * WEIGHT_GROUPS + group) * WEIGHT_STRIDE + lane] = quantized.codes;
        weightScales[(head * WEIGHT_GROUPS + group) * LANES + lane] = quantized.scale;
        middles[group] = middles[group] * rescale + quantized.middle;
      }
    }
    workgroupBarrier();
    nextKeys = loadKeys(table, kvHead, first + TILE, 0u, local);

    // O += P V.
    if (blockRow < BLOCK_ROWS) {
      for (var h = 0u; h < HEADS; h++) {
        for (var i = 0u; i < DIMS; i++) {
          sums[h / 4u * DIMS + i][h % 4u] *= rescales[h];
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
  let places = work.places;
  let span = work.partial * stride;
  let all = lanesSum(sumExp, local);
  if (weighs && lane == 0u && firstHead + head < GROUP) {
    partials[span + head * places * stride + HEAD_DIM] = maxScore;
    partials[span + head * places * stride + HEAD_DIM + 1u] = all;
  }
  for (var group = 0u; group < WEIGHT_GROUPS; group++) {
    let middle = lanesSum(middles[group], local);
    if (weighs && lane == 0u) {
      weightScales[head * WEIGHT_GROUPS + group] = middle;
    }
  }
  // Written out: compilers do not unroll loops with barriers, and sums indexed at run time would be in local memory.
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
