// attendDecode over an f16 cache, in f32 arithmetic; attendMerge joins the spans. Cut into workgroups as attendDecode.wgsl is:
// one span of positions for HEADS query heads of one KV head. Tile by tile: scores, one thread a token; softmax weights, 32
// lanes a head; sums of values, one thread eight dims.
// lib: step, spans, lanes, softcap
// <values>
const KV_HEADS: u32 = 2u;
// Query heads of a KV head, and how many of them one workgroup serves.
const GROUP: u32 = 2u;
const HEADS: u32 = 2u;
const HEAD_DIM: u32 = 64u;
const INT4: bool = false;
const BLOCK_WORDS: u32 = 256u;
const SCALES_AT: u32 = 0u;
const WORKGROUP: u32 = 256u;
// Positions at a time.
const TILE: u32 = 256u;
const MOST_SPANS: u32 = 128u;
const SUBGROUP: u32 = 32u;
const HAS_SOFTCAP: bool = false;
// </values>

const SETS: u32 = (GROUP + HEADS - 1u) / HEADS;
const CHUNKS: u32 = HEAD_DIM / 8u;
// Rows of 32 lanes, and heads that each of them takes in turn.
const ROWS: u32 = WORKGROUP / 32u;
const PASSES: u32 = (HEADS + ROWS - 1u) / ROWS;
// Tokens at a time while values are summed.
const TOKEN_ROWS: u32 = WORKGROUP / CHUNKS;
const TILE_WORDS: u32 = max(HEADS * TILE, TOKEN_ROWS * HEAD_DIM);
const HIDDEN_SCORE: f32 = -1e30;

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

// Scores, then weights [head][token]; at last sums [row][dim].
var<workgroup> tile: array<f32, TILE_WORDS>;
// Scaled queries [head][dims in fours].
var<workgroup> scaled: array<vec4<f32>, HEADS * CHUNKS * 2u>;
// By head: 2^(old maximum - new maximum).
var<workgroup> shrinks: array<f32, HEADS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let spans = spansOf(step.position, params.window, TILE, MOST_SPANS);
  let kvHead = workgroup.y / SETS;
  // Heads past the group's end are done like its last one and never written.
  let firstHead = workgroup.y % SETS * HEADS;
  let cacheHead = kvHead * (params.capacity / 32u);
  for (var i = local; i < HEADS * CHUNKS * 2u; i += WORKGROUP) {
    let head = kvHead * GROUP + min(firstHead + i / (CHUNKS * 2u), GROUP - 1u);
    let at = head * HEAD_DIM + i % (CHUNKS * 2u) * 4u;
    scaled[i] = vec4<f32>(queries[at], queries[at + 1u], queries[at + 2u], queries[at + 3u]) * params.scale;
  }

  let row = local / 32u;
  let lane = local % 32u;
  let tokenRow = local / CHUNKS;
  let chunk = local % CHUNKS;

  var most = array<f32, PASSES>();
  var totals = array<f32, PASSES>();
  for (var i = 0u; i < PASSES; i++) {
    most[i] = HIDDEN_SCORE;
  }
  var sums = array<vec4<f32>, HEADS * 2u>();

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
      var highest = HIDDEN_SCORE;
      for (var token = lane; token < TILE; token += 32u) {
        highest = max(highest, tile[head * TILE + token]);
      }
      let top = max(most[turn], lanesMax(highest, local));
      let shrink = exp2(most[turn] - top);
      most[turn] = top;
      if (writes) {
        var total = 0.0;
        for (var token = lane; token < TILE; token += 32u) {
          let weight = exp2(tile[head * TILE + token] - top);
          total += weight;
          tile[head * TILE + token] = weight;
        }
        totals[turn] = totals[turn] * shrink + total;
        if (lane == 0u) {
          shrinks[head] = shrink;
        }
      }
    }
    workgroupBarrier();
    if (tokenRow < TOKEN_ROWS) {
      for (var head = 0u; head < HEADS; head++) {
        sums[head * 2u] *= shrinks[head];
        sums[head * 2u + 1u] *= shrinks[head];
      }
      for (var token = tokenRow; token < min(TILE, end - first); token += TOKEN_ROWS) {
        let slot = (first + token) % params.capacity;
        let eight = values[(cacheHead + slot / 32u) * BLOCK_WORDS + slot % 32u * CHUNKS + chunk];
        let low = vec4<f32>(unpack2x16float(eight.x), unpack2x16float(eight.y));
        let high = vec4<f32>(unpack2x16float(eight.z), unpack2x16float(eight.w));
        for (var head = 0u; head < HEADS; head++) {
          let weight = tile[head * TILE + token];
          sums[head * 2u] += weight * low;
          sums[head * 2u + 1u] += weight * high;
        }
      }
    }
  }

  workgroupBarrier();
  for (var turn = 0u; turn < PASSES; turn++) {
    let head = turn * ROWS + row;
    let total = lanesSum(totals[turn], local);
    if (head < HEADS && firstHead + head < GROUP && lane == 0u) {
      let at = ((kvHead * GROUP + firstHead + head) * MOST_SPANS + workgroup.x) * (HEAD_DIM + 2u) + HEAD_DIM;
      partials[at] = most[turn];
      partials[at + 1u] = total;
    }
  }
  for (var head = 0u; head < HEADS; head++) {
    workgroupBarrier();
    if (tokenRow < TOKEN_ROWS) {
      for (var i = 0u; i < 4u; i++) {
        tile[tokenRow * HEAD_DIM + chunk * 8u + i] = sums[head * 2u][i];
        tile[tokenRow * HEAD_DIM + chunk * 8u + 4u + i] = sums[head * 2u + 1u][i];
      }
    }
    workgroupBarrier();
    if (firstHead + head < GROUP) {
      let at = ((kvHead * GROUP + firstHead + head) * MOST_SPANS + workgroup.x) * (HEAD_DIM + 2u);
      for (var d = local; d < HEAD_DIM; d += WORKGROUP) {
        var sum = 0.0;
        for (var i = 0u; i < TOKEN_ROWS; i++) {
          sum += tile[i * HEAD_DIM + d];
        }
        partials[at + d] = sum;
      }
    }
  }
}

fn score(position: u32, token: u32, cacheHead: u32, oldest: u32) {
  let slot = position % params.capacity;
  let block = (cacheHead + slot / 32u) * BLOCK_WORDS + slot % 32u;
  var scores = array<f32, HEADS>();
  for (var c = 0u; c < CHUNKS; c++) {
    let eight = keys[block + c * 32u];
    let low = vec4<f32>(unpack2x16float(eight.x), unpack2x16float(eight.y));
    let high = vec4<f32>(unpack2x16float(eight.z), unpack2x16float(eight.w));
    for (var head = 0u; head < HEADS; head++) {
      let at = (head * CHUNKS + c) * 2u;
      scores[head] += dot(scaled[at], low) + dot(scaled[at + 1u], high);
    }
  }
  let visible = position >= oldest && position <= step.position;
  for (var head = 0u; head < HEADS; head++) {
    var s = scores[head];
    if (HAS_SOFTCAP) {
      s = params.cap * boundedTanh(s);
    }
    tile[head * TILE + token] = select(HIDDEN_SCORE, s, visible);
  }
}
