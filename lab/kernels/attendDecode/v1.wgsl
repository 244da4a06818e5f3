// attendDecode: one token's queries over an int4 cache, by integer dot products; attendMerge joins the spans.
// A workgroup does one span of positions for HEADS query heads of one KV head, so that keys and values are read once for
// all of them. Tile by tile: scores, one thread a token, int8 queries against 4-bit codes; softmax weights, 32 lanes a
// head, quantized to 8 bits with the tokens' value scales folded in; sums of values, integer dots along 32 tokens of a dim.
// A value is scale * (code - 7.5) + middle, and so is a key: codes are centred, so that rounding of weights meets the
// values' spread and not their offset; middles are summed in f32 with exact weights.
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
const WORKGROUP: u32 = 256u;
// Positions at a time.
const TILE: u32 = 256u;
// Dims of one thread while values are summed; all of one group of 32.
const DIMS: u32 = 2u;
const MOST_SPANS: u32 = 128u;
const SUBGROUP: u32 = 32u;
const HAS_SOFTCAP: bool = false;
// </values>

const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const SETS: u32 = (GROUP + HEADS - 1u) / HEADS;
const BLOCKS: u32 = TILE / 32u;
// Rows of 32 lanes, and heads that each of them takes in turn.
const ROWS: u32 = WORKGROUP / 32u;
const PASSES: u32 = (HEADS + ROWS - 1u) / ROWS;
// Four tokens of a tile that a lane weighs at a time.
const QUADS: u32 = (TILE / 4u + 31u) / 32u;
// Threads that share a block of values, and blocks at a time.
const LANES: u32 = GROUPS * 32u / DIMS;
const BLOCK_ROWS: u32 = WORKGROUP / LANES;
// Words of a head in `tile`: a score of each token, then weights [group][4 tokens a word]; at last sums [row][dim].
const HEAD_WORDS: u32 = TILE / 4u * max(4u, GROUPS);
const TILE_WORDS: u32 = max(HEADS * HEAD_WORDS, BLOCK_ROWS * GROUPS * 32u);
const HIDDEN_SCORE: f32 = -1e30;
const LOW: u32 = 0x0f0f0f0fu;

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
@group(0) @binding(2) var<storage, read> queries: array<f32>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
// [heads][MOST_SPANS] of HEAD_DIM sums, maximum, total.
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;

var<workgroup> tile: array<u32, TILE_WORDS>;
// int8 codes of [head][group]: dims 0..15, dims 16..31.
var<workgroup> queryCodes: array<vec4<u32>, HEADS * GROUPS * 2u>;
// [head][group]: scale; what centring the keys' codes leaves; sum.
var<workgroup> queryScales: array<vec4<f32>, HEADS * GROUPS>;
// [head][group]: scale of the tile's weights; of the span, sums of middles.
var<workgroup> weightScales: array<f32, HEADS * GROUPS>;
// By head: 2^(old maximum - new maximum).
var<workgroup> shrinks: array<f32, HEADS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let spans = spansOf(step.position, params.window, TILE, MOST_SPANS);
  let kvHead = workgroup.y / SETS;
  // Heads past the group's end are done like its last one and never written.
  let firstHead = workgroup.y % SETS * HEADS;
  let cacheHead = kvHead * (params.capacity / 32u);
  quantizeQueries(kvHead * GROUP, firstHead, local);

  let row = local / 32u;
  let lane = local % 32u;
  let blockRow = local / LANES;
  let blockLane = local % LANES;
  let dimGroup = blockLane / (32u / DIMS);
  let firstDim = dimGroup * 32u + blockLane % (32u / DIMS);

  var most = array<f32, PASSES>();
  var totals = array<f32, PASSES>();
  var middles = array<f32, PASSES * GROUPS>();
  for (var i = 0u; i < PASSES; i++) {
    most[i] = HIDDEN_SCORE;
  }
  var sums = array<f32, HEADS * DIMS>();

  let start = spans.first + workgroup.x * spans.tokens;
  let end = min(start + spans.tokens, step.position + 1u);
  for (var first = start; first < end; first += TILE) {
    workgroupBarrier();
    for (var token = local; token < TILE; token += WORKGROUP) {
      score(first + token, token, cacheHead, spans.oldest);
    }
    workgroupBarrier();
    for (var turn = 0u; turn < PASSES; turn++) {
      let head = min(turn * ROWS + row, HEADS - 1u);
      let writes = turn * ROWS + row < HEADS;
      var weights = array<vec4<f32>, QUADS>();
      var highest = HIDDEN_SCORE;
      for (var i = 0u; i < QUADS; i++) {
        let quad = lane + 32u * i;
        weights[i] = vec4<f32>(HIDDEN_SCORE);
        if (quad < TILE / 4u) {
          let at = head * HEAD_WORDS + quad * 4u;
          weights[i] = bitcast<vec4<f32>>(vec4<u32>(tile[at], tile[at + 1u], tile[at + 2u], tile[at + 3u]));
        }
        let two = max(weights[i].xy, weights[i].zw);
        highest = max(highest, max(two.x, two.y));
      }
      let top = max(most[turn], lanesMax(highest, local));
      let shrink = exp2(most[turn] - top);
      most[turn] = top;
      var total = 0.0;
      for (var i = 0u; i < QUADS; i++) {
        weights[i] = exp2(weights[i] - top);
        total += dot(weights[i], vec4<f32>(1.0));
      }
      totals[turn] = totals[turn] * shrink + total;
      if (writes && lane == 0u) {
        shrinks[head] = shrink;
      }
      // The scores are read by now: weights take their place.
      workgroupBarrier();
      for (var group = 0u; group < GROUPS; group++) {
        var scaled = array<vec4<f32>, QUADS>();
        var middle = 0.0;
        var largest = 0.0;
        for (var i = 0u; i < QUADS; i++) {
          let quad = lane + 32u * i;
          if (quad < TILE / 4u) {
            let block = cacheHead + (first + quad * 4u) % params.capacity / 32u;
            let packed = values[block * BLOCK_WORDS + SCALES_AT + group * 8u + quad % 8u];
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
        }
        largest = lanesMax(largest, local);
        let inverse = select(0.0, 255.0 / largest, largest > 1e-30);
        let step = largest / 255.0;
        var count = 0.0;
        for (var i = 0u; i < QUADS; i++) {
          let quad = lane + 32u * i;
          let rounded = round(scaled[i] * inverse);
          count += dot(rounded, vec4<f32>(1.0));
          if (quad < TILE / 4u && writes) {
            tile[head * HEAD_WORDS + group * (TILE / 4u) + quad] = pack4xU8(vec4<u32>(rounded));
          }
        }
        if (writes && lane == 0u) {
          weightScales[head * GROUPS + group] = step;
        }
        middles[turn * GROUPS + group] = middles[turn * GROUPS + group] * shrink + middle - 7.5 * step * count;
      }
    }
    workgroupBarrier();
    if (blockRow < BLOCK_ROWS) {
      for (var i = 0u; i < HEADS * DIMS; i++) {
        sums[i] *= shrinks[i / DIMS];
      }
      for (var b = blockRow; b < BLOCKS; b += BLOCK_ROWS) {
        if (first + b * 32u < end) {
          let block = (cacheHead + (first + b * 32u) % params.capacity / 32u) * BLOCK_WORDS;
          var low = array<vec4<u32>, DIMS>();
          var high = array<vec4<u32>, DIMS>();
          for (var i = 0u; i < DIMS; i++) {
            let codes = values[block + firstDim + i * (32u / DIMS)];
            low[i] = codes & vec4<u32>(LOW);
            high[i] = (codes >> vec4<u32>(4u)) & vec4<u32>(LOW);
          }
          for (var head = 0u; head < HEADS; head++) {
            let at = head * HEAD_WORDS + dimGroup * (TILE / 4u) + b * 8u;
            let lowWeights = vec4<u32>(tile[at], tile[at + 1u], tile[at + 2u], tile[at + 3u]);
            let highWeights = vec4<u32>(tile[at + 4u], tile[at + 5u], tile[at + 6u], tile[at + 7u]);
            let scale = weightScales[head * GROUPS + dimGroup];
            for (var i = 0u; i < DIMS; i++) {
              let sum = dotCodes(low[i], lowWeights) + dotCodes(high[i], highWeights);
              sums[head * DIMS + i] += scale * f32(sum);
            }
          }
        }
      }
    }
  }

  workgroupBarrier();
  for (var turn = 0u; turn < PASSES; turn++) {
    let head = turn * ROWS + row;
    let total = lanesSum(totals[turn], local);
    let writes = head < HEADS && firstHead + head < GROUP;
    let at = ((kvHead * GROUP + firstHead + head) * MOST_SPANS + workgroup.x) * (HEAD_DIM + 2u) + HEAD_DIM;
    if (writes && lane == 0u) {
      partials[at] = most[turn];
      partials[at + 1u] = total;
    }
    for (var group = 0u; group < GROUPS; group++) {
      let middle = lanesSum(middles[turn * GROUPS + group], local);
      if (writes && lane == 0u) {
        weightScales[head * GROUPS + group] = middle;
      }
    }
  }
  for (var head = 0u; head < HEADS; head++) {
    workgroupBarrier();
    if (blockRow < BLOCK_ROWS) {
      for (var i = 0u; i < DIMS; i++) {
        tile[blockRow * GROUPS * 32u + firstDim + i * (32u / DIMS)] = bitcast<u32>(sums[head * DIMS + i]);
      }
    }
    workgroupBarrier();
    if (firstHead + head < GROUP) {
      let at = ((kvHead * GROUP + firstHead + head) * MOST_SPANS + workgroup.x) * (HEAD_DIM + 2u);
      for (var d = local; d < HEAD_DIM; d += WORKGROUP) {
        var sum = weightScales[head * GROUPS + d / 32u];
        for (var i = 0u; i < BLOCK_ROWS; i++) {
          sum += bitcast<f32>(tile[i * GROUPS * 32u + d]);
        }
        partials[at + d] = sum;
      }
    }
  }
}

// int8 with one scale for each head's 32 dims; the score's scale is folded in.
fn quantizeQueries(groupHead: u32, firstHead: u32, local: u32) {
  for (var i = local; i < HEADS * GROUPS; i += WORKGROUP) {
    let head = groupHead + min(firstHead + i / GROUPS, GROUP - 1u);
    let group = i % GROUPS;
    let at = head * HEAD_DIM + group * 32u;
    let count = min(32u, HEAD_DIM - group * 32u);
    var largest = 0.0;
    for (var d = 0u; d < count; d++) {
      largest = max(largest, abs(queries[at + d]));
    }
    let inverse = select(0.0, 127.0 / largest, largest > 0.0);
    var exact = 0.0;
    var coded = 0.0;
    var words = array<u32, 8>();
    for (var word = 0u; word < 8u; word++) {
      var four = vec4<f32>(0.0);
      if (word * 4u < count) {
        let begin = at + word * 4u;
        four = vec4<f32>(queries[begin], queries[begin + 1u], queries[begin + 2u], queries[begin + 3u]);
      }
      exact += dot(four, vec4<f32>(1.0));
      let rounded = round(four * inverse);
      coded += dot(rounded, vec4<f32>(1.0));
      words[word] = pack4xI8(vec4<i32>(rounded));
    }
    queryCodes[i * 2u] = vec4<u32>(words[0], words[1], words[2], words[3]);
    queryCodes[i * 2u + 1u] = vec4<u32>(words[4], words[5], words[6], words[7]);
    let unit = largest / 127.0 * params.scale;
    exact *= params.scale;
    queryScales[i] = vec4<f32>(unit, 7.5 * (exact - unit * coded), exact, 0.0);
  }
}

// A key is scale * (code - 7.5) + (zero + 7.5 * scale); the query's sum meets the middle exactly.
fn score(position: u32, token: u32, cacheHead: u32, oldest: u32) {
  let slot = position % params.capacity;
  let block = (cacheHead + slot / 32u) * BLOCK_WORDS;
  let blockToken = slot % 32u;
  var scores = array<f32, HEADS>();
  for (var group = 0u; group < GROUPS; group++) {
    let codes = keys[block + group * 32u + blockToken];
    let range = unpack2x16float(keys[block + SCALES_AT + group * 8u + blockToken / 4u][blockToken % 4u]);
    let low = codes & vec4<u32>(LOW);
    let high = (codes >> vec4<u32>(4u)) & vec4<u32>(LOW);
    for (var head = 0u; head < HEADS; head++) {
      let at = head * GROUPS + group;
      let dots = dotSigned(queryCodes[at * 2u], low) + dotSigned(queryCodes[at * 2u + 1u], high);
      let scales = queryScales[at];
      scores[head] += range.x * (scales.x * f32(dots) + scales.y) + range.y * scales.z;
    }
  }
  let visible = position >= oldest && position <= step.position;
  for (var head = 0u; head < HEADS; head++) {
    var s = scores[head];
    if (HAS_SOFTCAP) {
      s = params.cap * boundedTanh(s);
    }
    tile[head * HEAD_WORDS + token] = bitcast<u32>(select(HIDDEN_SCORE, s, visible));
  }
}

fn dotSigned(queries: vec4<u32>, codes: vec4<u32>) -> i32 {
  return dot4I8Packed(queries.x, codes.x) + dot4I8Packed(queries.y, codes.y)
    + dot4I8Packed(queries.z, codes.z) + dot4I8Packed(queries.w, codes.w);
}

fn dotCodes(codes: vec4<u32>, weights: vec4<u32>) -> u32 {
  return dot4U8Packed(codes.x, weights.x) + dot4U8Packed(codes.y, weights.y)
    + dot4U8Packed(codes.z, weights.z) + dot4U8Packed(codes.w, weights.w);
}
