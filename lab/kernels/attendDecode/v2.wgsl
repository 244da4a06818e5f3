// attendDecode: one token's queries over an int4 cache, by integer dot products; attendMerge joins the spans.
// A workgroup does one span of positions for HEADS query heads of one KV head, so that keys and values are read once for
// all of them. Tile by tile: scores, one thread a token, int8 queries against 4-bit codes; softmax weights, one thread 16
// tokens of a head, quantized to 8 bits with the tokens' value scales folded in; sums of values, integer dots along tokens.
// A value is scale * (code - 7.5) + middle, and so is a key: codes are centred, so that rounding of weights meets the
// values' spread and not their offset; middles are summed in f32 with exact weights.
// Loads of the next step are written before the arithmetic of this one.
// lib: step, spans, lanes, softcap
// <values>
const KV_HEADS: u32 = 2u;
// Query heads of a KV head, and how many of them one workgroup serves.
const GROUP: u32 = 2u;
const HEADS: u32 = 2u;
const HEAD_DIM: u32 = 64u;
const INT4: bool = true;
const BLOCK_WORDS: u32 = 80u;
const SCALES_AT: u32 = 64u;
// Positions at a time.
const TILE: u32 = 256u;
// Dims of one thread while values are summed; all of one group of 32.
const DIMS: u32 = 2u;
const MOST_SPANS: u32 = 128u;
const SUBGROUP: u32 = 32u;
const HAS_SOFTCAP: bool = false;
// </values>

const WORKGROUP: u32 = 128u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const SETS: u32 = (GROUP + HEADS - 1u) / HEADS;
const BLOCKS: u32 = TILE / 32u;
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
  max(max(TILE * FOURS + LANES, HEADS * GROUPS * WEIGHT_STRIDE), BLOCK_ROWS * GROUPS * 32u);
const HIDDEN_SCORE: f32 = -1e30;
const LOW: u32 = 0x0f0f0f0fu;
// A dot product with it sums four codes.
const ONES: u32 = 0x01010101u;

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
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;

var<workgroup> tile: array<vec4<u32>, TILE_WORDS>;
// int8 codes of [head][group][4 dims].
var<workgroup> queryCodes: array<u32, HEADS * GROUPS * 8u>;
// [head][group]: scale; what centring the keys' codes leaves; sum.
var<workgroup> queryScales: array<vec4<f32>, HEADS * GROUPS>;
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
  let spans = spansOf(step.position, params.window, TILE, MOST_SPANS);
  let kvHead = workgroup.y / SETS;
  // Heads past the group's end are done like its last one and never written.
  let firstHead = workgroup.y % SETS * HEADS;
  let cacheHead = kvHead * (params.capacity / 32u);
  let start = spans.first + workgroup.x * spans.tokens;
  let end = min(start + spans.tokens, step.position + 1u);
  var nextKeys = loadKeys(cacheHead, start, 0u, local);
  quantizeQueries(kvHead * GROUP, firstHead, local);

  let head = local / LANES;
  let lane = local % LANES;
  let weighs = head < HEADS;
  let blockRow = local / VALUE_LANES;
  let dimGroup = local % VALUE_LANES / (32u / DIMS);
  let firstDim = dimGroup * 32u + local % (32u / DIMS);

  var most = HIDDEN_SCORE;
  var total = 0.0;
  var middles = array<f32, GROUPS>();
  var sums = array<f32, HEADS * DIMS>();

  for (var first = start; first < end; first += TILE) {
    // Scores of this thread's tokens, all heads.
    var scores = array<f32, HEADS * EACH>();
    for (var group = 0u; group < GROUPS; group++) {
      let words = nextKeys;
      if (group + 1u < GROUPS) {
        nextKeys = loadKeys(cacheHead, first, group + 1u, local);
      }
      var low = array<vec4<u32>, EACH>();
      var high = array<vec4<u32>, EACH>();
      var ranges = array<vec2<f32>, EACH>();
      for (var i = 0u; i < EACH; i++) {
        low[i] = words[i].codes & vec4<u32>(LOW);
        high[i] = (words[i].codes >> vec4<u32>(4u)) & vec4<u32>(LOW);
        ranges[i] = unpack2x16float(words[i].range);
      }
      for (var h = 0u; h < HEADS; h++) {
        let at = h * GROUPS + group;
        let scales = queryScales[at];
        let q = array<u32, 8>(
          queryCodes[at * 8u], queryCodes[at * 8u + 1u], queryCodes[at * 8u + 2u], queryCodes[at * 8u + 3u],
          queryCodes[at * 8u + 4u], queryCodes[at * 8u + 5u], queryCodes[at * 8u + 6u], queryCodes[at * 8u + 7u]);
        for (var i = 0u; i < EACH; i++) {
          let dots = dot4I8Packed(q[0], low[i].x) + dot4I8Packed(q[1], low[i].y)
            + dot4I8Packed(q[2], low[i].z) + dot4I8Packed(q[3], low[i].w)
            + dot4I8Packed(q[4], high[i].x) + dot4I8Packed(q[5], high[i].y)
            + dot4I8Packed(q[6], high[i].z) + dot4I8Packed(q[7], high[i].w);
          scores[h * EACH + i] += ranges[i].x * (scales.x * f32(dots) + scales.y) + ranges[i].y * scales.z;
        }
      }
    }
    // Whoever still reads weights must be done.
    workgroupBarrier();
    for (var i = 0u; i < EACH; i++) {
      let token = local + i * WORKGROUP;
      let position = first + token;
      let visible = position >= spans.oldest && position <= step.position;
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
    var codes = loadValues(cacheHead, first, min(blockRow, BLOCKS - 1u), firstDim);

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
      let block = cacheHead + (first + lane * 16u) % params.capacity / 32u;
      let ranges = block * BLOCK_WORDS + SCALES_AT + lane % 2u * 4u;
      for (var group = 0u; group < GROUPS; group++) {
        var scaled = array<vec4<f32>, 4>();
        var middle = 0.0;
        var largest = 0.0;
        for (var i = 0u; i < 4u; i++) {
          let packed = values[ranges + group * 8u + i];
          let a = unpack2x16float(packed.x);
          let b = unpack2x16float(packed.y);
          let c = unpack2x16float(packed.z);
          let d = unpack2x16float(packed.w);
          let scale = vec4<f32>(a.x, b.x, c.x, d.x);
          middle += dot(weights[i], vec4<f32>(a.y, b.y, c.y, d.y) + 7.5 * scale);
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
        tile[(head * GROUPS + group) * WEIGHT_STRIDE + lane] = words;
        weightScales[(head * GROUPS + group) * LANES + lane] = unit;
        middles[group] = middles[group] * shrink + middle - 7.5 * unit * count;
      }
    }
    workgroupBarrier();
    nextKeys = loadKeys(cacheHead, first + TILE, 0u, local);
    if (blockRow < BLOCK_ROWS) {
      for (var i = 0u; i < HEADS * DIMS; i++) {
        sums[i] *= shrinks[i / DIMS];
      }
      for (var b = blockRow; b < BLOCKS; b += BLOCK_ROWS) {
        var low = array<vec4<u32>, DIMS>();
        var high = array<vec4<u32>, DIMS>();
        for (var i = 0u; i < DIMS; i++) {
          low[i] = codes[i] & vec4<u32>(LOW);
          high[i] = (codes[i] >> vec4<u32>(4u)) & vec4<u32>(LOW);
        }
        if (b + BLOCK_ROWS < BLOCKS) {
          codes = loadValues(cacheHead, first, b + BLOCK_ROWS, firstDim);
        }
        for (var h = 0u; h < HEADS; h++) {
          let at = h * GROUPS + dimGroup;
          let lowWeights = tile[at * WEIGHT_STRIDE + b * 2u];
          let highWeights = tile[at * WEIGHT_STRIDE + b * 2u + 1u];
          let lowScale = weightScales[at * LANES + b * 2u];
          let highScale = weightScales[at * LANES + b * 2u + 1u];
          for (var i = 0u; i < DIMS; i++) {
            sums[h * DIMS + i] += lowScale * f32(dotCodes(low[i], lowWeights)) + highScale * f32(dotCodes(high[i], highWeights));
          }
        }
      }
    }
  }

  workgroupBarrier();
  let stride = HEAD_DIM + 4u;
  let span = ((kvHead * GROUP + firstHead) * MOST_SPANS + workgroup.x) * stride;
  let all = lanesSum(total, local);
  if (weighs && lane == 0u && firstHead + head < GROUP) {
    partials[span + head * MOST_SPANS * stride + HEAD_DIM] = most;
    partials[span + head * MOST_SPANS * stride + HEAD_DIM + 1u] = all;
  }
  for (var group = 0u; group < GROUPS; group++) {
    let middle = lanesSum(middles[group], local);
    if (weighs && lane == 0u) {
      weightScales[head * GROUPS + group] = middle;
    }
  }
  for (var four = 0u; four < FOURS; four++) {
    workgroupBarrier();
    if (blockRow < BLOCK_ROWS) {
      for (var i = 0u; i < DIMS; i++) {
        var s = vec4<f32>(0.0);
        for (var c = 0u; c < 4u; c++) {
          if (four * 4u + c < HEADS) {
            s[c] = sums[(four * 4u + c) * DIMS + i];
          }
        }
        tile[blockRow * GROUPS * 32u + firstDim + i * (32u / DIMS)] = bitcast<vec4<u32>>(s);
      }
    }
    workgroupBarrier();
    for (var d = local; d < HEAD_DIM; d += WORKGROUP) {
      var s = vec4<f32>(0.0);
      for (var i = 0u; i < BLOCK_ROWS; i++) {
        s += bitcast<vec4<f32>>(tile[i * GROUPS * 32u + d]);
      }
      for (var c = 0u; c < 4u; c++) {
        let h = four * 4u + c;
        if (h < HEADS && firstHead + h < GROUP) {
          partials[span + h * MOST_SPANS * stride + d] = s[c] + weightScales[h * GROUPS + d / 32u];
        }
      }
    }
  }
}

// int8 with one scale for each head's 32 dims; the score's scale is folded in. One thread four dims.
fn quantizeQueries(groupHead: u32, firstHead: u32, local: u32) {
  const ITEMS = HEADS * GROUPS * 8u;
  const TURNS = (ITEMS + WORKGROUP - 1u) / WORKGROUP;
  var fours = array<vec4<f32>, TURNS>();
  for (var turn = 0u; turn < TURNS; turn++) {
    let item = local + turn * WORKGROUP;
    if (item < ITEMS) {
      let h = groupHead + min(firstHead + item / (GROUPS * 8u), GROUP - 1u);
      let d = item % (GROUPS * 8u) * 4u;
      if (d < HEAD_DIM) {
        fours[turn] = queries[(h * HEAD_DIM + d) / 4u];
      }
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
  for (var turn = 0u; turn < TURNS; turn++) {
    let item = local + turn * WORKGROUP;
    if (item < ITEMS) {
      let inverse = select(0.0, 127.0 / largest[turn], largest[turn] > 0.0);
      let rounded = round(fours[turn] * inverse);
      queryCodes[item] = pack4xI8(vec4<i32>(rounded));
      weightScales[item] = dot(fours[turn], vec4<f32>(1.0));
    }
  }
  workgroupBarrier();
  for (var turn = 0u; turn < TURNS; turn++) {
    let item = local + turn * WORKGROUP;
    if (item < ITEMS && item % 8u == 0u) {
      var exact = 0.0;
      var coded = 0i;
      for (var i = 0u; i < 8u; i++) {
        exact += weightScales[item + i];
        coded += dot4I8Packed(queryCodes[item + i], ONES);
      }
      let unit = largest[turn] / 127.0 * params.scale;
      exact *= params.scale;
      queryScales[item / 8u] = vec4<f32>(unit, 7.5 * (exact - unit * f32(coded)), exact, 0.0);
    }
  }
  workgroupBarrier();
}

fn loadKeys(cacheHead: u32, first: u32, group: u32, local: u32) -> array<KeyWord, EACH> {
  var words = array<KeyWord, EACH>();
  for (var i = 0u; i < EACH; i++) {
    let slot = (first + local + i * WORKGROUP) % params.capacity;
    let block = (cacheHead + slot / 32u) * BLOCK_WORDS + group * 32u;
    words[i].codes = keys[block + slot % 32u];
    words[i].range = keys[block - group * 24u + SCALES_AT + slot % 32u / 4u][slot % 4u];
  }
  return words;
}

fn loadValues(cacheHead: u32, first: u32, b: u32, firstDim: u32) -> array<vec4<u32>, DIMS> {
  var codes = array<vec4<u32>, DIMS>();
  let block = (cacheHead + (first + b * 32u) % params.capacity / 32u) * BLOCK_WORDS + firstDim;
  for (var i = 0u; i < DIMS; i++) {
    codes[i] = values[block + i * (32u / DIMS)];
  }
  return codes;
}

fn dotCodes(codes: vec4<u32>, weights: vec4<u32>) -> u32 {
  return dot4U8Packed(codes.x, weights.x) + dot4U8Packed(codes.y, weights.y)
    + dot4U8Packed(codes.z, weights.z) + dot4U8Packed(codes.w, weights.w);
}
