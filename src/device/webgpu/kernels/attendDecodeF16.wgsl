// attendDecode over an f16 cache, in f32 arithmetic; attendMerge joins the spans. Workgroups are those of attendDecode.wgsl: one span
// of positions for HEADS query heads of one KV head. Tile by tile: scores (one thread per token); softmax weights (one thread per 16
// tokens of a head); sums of values (eight dims per thread, four tokens at a time). Loads for the next step are written before the
// arithmetic of this one.
// lib: step, batch, spans, decodeWork, lanes, softcap
// <values>
// Query heads of a KV head, and how many of them one workgroup has.
const GROUP: u32 = 2u;
const HEADS: u32 = 2u;
const HEAD_DIM: u32 = 64u;
// 0: keys and values are separate. Otherwise one vector is both: the cache holds TURNED rotated dims as keys, HEAD_DIM dims as values.
const TURNED: u32 = 0u;
const INT4: bool = false;
const RQ4: bool = false;
const BLOCK_WORDS: u32 = 256u;
const SCALES_AT: u32 = 0u;
// Positions that are handled at a time.
const TILE: u32 = 256u;
// Chunks of keys that are loaded before they are needed.
const BATCH: u32 = 2u;
const MOST_SPANS: u32 = 128u;
// Used by lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
const SUBGROUP: u32 = 32u;
const HAS_SOFTCAP: bool = false;
// </values>

const WORKGROUP: u32 = 128u;
const CHUNKS: u32 = HEAD_DIM / 8u;
// Dims that the cache holds of a key, and dims of a query.
const KEY_CHUNKS: u32 = select(CHUNKS, TURNED / 8u, TURNED > 0u);
const KEY_WORDS: u32 = KEY_CHUNKS * 32u;
const QUERY_CHUNKS: u32 = CHUNKS + TURNED / 8u;
const EACH: u32 = TILE / WORKGROUP;
// Threads per head when scores become weights, each with 16 tokens.
const LANES: u32 = TILE / 16u;
// Groups of four tokens that are handled at a time when values are summed.
const TOKEN_ROWS: u32 = WORKGROUP / CHUNKS;
// Heads in fours, as in `tile`: scores [token][4 heads] with a gap every 16 tokens, to avoid bank conflicts; then weights [head][4
// tokens]; at the end sums [row][4 dims] of one head.
const FOURS: u32 = (HEADS + 3u) / 4u;
const WEIGHT_STRIDE: u32 = TILE / 4u + 1u;
const TILE_WORDS: u32 = max(max(TILE * FOURS + LANES, HEADS * WEIGHT_STRIDE), TOKEN_ROWS * CHUNKS * 2u);
const LAST_SUM: u32 = HEADS * 2u - 1u;
const MASKED_SCORE: f32 = -1e30;

// include: decodeBindings
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

var<workgroup> tile: array<vec4<f32>, TILE_WORDS>;
// Scaled queries [head][4 dims].
var<workgroup> scaled: array<vec4<f32>, HEADS * QUERY_CHUNKS * 2u>;
// For each head: 2^(old maximum - new maximum).
var<workgroup> rescales: array<f32, HEADS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let work = workOf(workgroup, params.kvHeads, params.table, params.window, HEADS, TILE);
  if (work.isNone) {
    return;
  }
  let table = work.table;
  let gap = gapOf(work.packed);
  let kvHead = work.kvHead;
  // Heads past the last one of the KV head repeat it and are never written.
  let firstHead = work.firstHead;
  var nextKeys = loadKeys(table, gap, kvHead, work.start, 0u, local);
  for (var i = local; i < HEADS * QUERY_CHUNKS * 2u; i += WORKGROUP) {
    let h = kvHead * GROUP + min(firstHead + i / (QUERY_CHUNKS * 2u), GROUP - 1u);
    let at = (work.row * params.kvHeads * GROUP + h) * QUERY_CHUNKS * 2u;
    scaled[i] = queries[at + i % (QUERY_CHUNKS * 2u)] * params.scale;
  }
  workgroupBarrier();

  let head = local / LANES;
  let lane = local % LANES;
  let weighs = head < HEADS;
  let tokenRow = local / CHUNKS;
  let chunk = local % CHUNKS;

  var maxScore = MASKED_SCORE;
  var sumExp = 0.0;
  var sums = array<vec4<f32>, HEADS * 2u>();

  for (var first = work.start; first < work.end; first += TILE) {
    // S = Q K': scores of this thread's tokens, for all heads.
    var scores = array<f32, HEADS * EACH>();
    for (var c = 0u; c < QUERY_CHUNKS; c += BATCH) {
      let words = nextKeys;
      if (c + BATCH < QUERY_CHUNKS) {
        nextKeys = loadKeys(table, gap, kvHead, first, c + BATCH, local);
      }
      for (var j = 0u; j < min(BATCH, QUERY_CHUNKS - c); j++) {
        var low = array<vec4<f32>, EACH>();
        var high = array<vec4<f32>, EACH>();
        for (var i = 0u; i < EACH; i++) {
          let eight = words[i * BATCH + j];
          low[i] = vec4<f32>(unpack2x16float(eight.x), unpack2x16float(eight.y));
          high[i] = vec4<f32>(unpack2x16float(eight.z), unpack2x16float(eight.w));
        }
        for (var h = 0u; h < HEADS; h++) {
          let at = (h * QUERY_CHUNKS + c + j) * 2u;
          let a = scaled[at];
          let b = scaled[at + 1u];
          for (var i = 0u; i < EACH; i++) {
            scores[h * EACH + i] += dot(a, low[i]) + dot(b, high[i]);
          }
        }
      }
    }
    // After this barrier, no thread reads the last tile's weights.
    workgroupBarrier();
    for (var i = 0u; i < EACH; i++) {
      let token = local + i * WORKGROUP;
      let slot = first + token;
      let visible = positionAt(gap, slot) >= work.oldest && slot < work.lastEnd;
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
        tile[token * FOURS + token / 16u + four] = select(vec4<f32>(MASKED_SCORE), s, visible);
      }
    }
    workgroupBarrier();
    var next = loadValues(table, gap, kvHead, first, min(tokenRow, TILE / 4u - 1u), chunk);

    // Online softmax.
    var weights = array<vec4<f32>, 4>();
    var highest = MASKED_SCORE;
    if (weighs) {
      for (var i = 0u; i < 4u; i++) {
        for (var c = 0u; c < 4u; c++) {
          let token = lane * 16u + i * 4u + c;
          weights[i][c] = tile[token * FOURS + lane + head / 4u][head % 4u];
        }
        let two = max(weights[i].xy, weights[i].zw);
        highest = max(highest, max(two.x, two.y));
      }
    }
    let nextMax = max(maxScore, lanesMax(highest, local));
    let rescale = exp2(maxScore - nextMax);
    maxScore = nextMax;
    // All scores have been read; weights are stored in their memory.
    workgroupBarrier();
    if (weighs) {
      var added = 0.0;
      for (var i = 0u; i < 4u; i++) {
        let weight = exp2(weights[i] - nextMax);
        added += dot(weight, vec4<f32>(1.0));
        tile[head * WEIGHT_STRIDE + lane * 4u + i] = weight;
      }
      sumExp = sumExp * rescale + added;
      if (lane == 0u) {
        rescales[head] = rescale;
      }
    }
    workgroupBarrier();

    // O += P V.
    if (tokenRow < TOKEN_ROWS) {
      for (var h = 0u; h < HEADS; h++) {
        sums[h * 2u] *= rescales[h];
        sums[h * 2u + 1u] *= rescales[h];
      }
      for (var quad = tokenRow; quad < TILE / 4u; quad += TOKEN_ROWS) {
        let words = next;
        next = loadValues(table, gap, kvHead, first, min(quad + TOKEN_ROWS, TILE / 4u - 1u), chunk);
        if (first + quad * 4u < work.end) {
          var low = array<vec4<f32>, 4>();
          var high = array<vec4<f32>, 4>();
          for (var i = 0u; i < 4u; i++) {
            low[i] = vec4<f32>(unpack2x16float(words[i].x), unpack2x16float(words[i].y));
            high[i] = vec4<f32>(unpack2x16float(words[i].z), unpack2x16float(words[i].w));
          }
          if (first + quad * 4u + 4u > work.lastEnd) {
            // Slots that the query does not see may hold anything, NaN too.
            for (var i = 0u; i < 4u; i++) {
              if (first + quad * 4u + i >= work.lastEnd) {
                low[i] = vec4<f32>(0.0);
                high[i] = vec4<f32>(0.0);
              }
            }
          }
          for (var h = 0u; h < HEADS; h++) {
            let weight = tile[h * WEIGHT_STRIDE + quad];
            sums[h * 2u] += weight.x * low[0] + weight.y * low[1] + weight.z * low[2] + weight.w * low[3];
            sums[h * 2u + 1u] += weight.x * high[0] + weight.y * high[1] + weight.z * high[2] + weight.w * high[3];
          }
        }
      }
    }
    nextKeys = loadKeys(table, gap, kvHead, first + TILE, 0u, local);
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
  // Written out: compilers do not unroll loops with barriers, and sums indexed at run time would be in local memory.
  // each H 0..7 if HEADS > H
  storePartials(span, places, {H}u, firstHead, local, sums[min({2 * H}u, LAST_SUM - 1u)], sums[min({2 * H + 1}u, LAST_SUM)]);
  // end
}

// Stores one head's sums of all rows.
fn storePartials(span: u32, places: u32, h: u32, firstHead: u32, local: u32, low: vec4<f32>, high: vec4<f32>) {
  workgroupBarrier();
  if (local < TOKEN_ROWS * CHUNKS) {
    tile[local * 2u] = low;
    tile[local * 2u + 1u] = high;
  }
  workgroupBarrier();
  if (firstHead + h < GROUP) {
    for (var d = local; d < HEAD_DIM; d += WORKGROUP) {
      var sum = 0.0;
      for (var i = 0u; i < TOKEN_ROWS; i++) {
        sum += tile[i * CHUNKS * 2u + d / 4u][d % 4u];
      }
      partials[span + h * places * (HEAD_DIM + 4u) + d] = sum;
    }
  }
}

// BATCH chunks of each of this thread's tokens: of keys and then, if values are also keys, of values.
fn loadKeys(table: u32, gap: Gap, kvHead: u32, first: u32, c: u32, local: u32) -> array<vec4<u32>, EACH * BATCH> {
  var words = array<vec4<u32>, EACH * BATCH>();
  for (var i = 0u; i < EACH; i++) {
    let slot = positionAt(gap, first + local + i * WORKGROUP);
    let page = blockOf(table, slot / 32u, params.kvHeads, kvHead);
    let block = page * KEY_WORDS + slot % 32u;
    for (var j = 0u; j < BATCH; j++) {
      if (TURNED > 0u && c + j >= KEY_CHUNKS) {
        let chunk = min(c + j - KEY_CHUNKS, CHUNKS - 1u);
        words[i * BATCH + j] = values[page * BLOCK_WORDS + slot % 32u * CHUNKS + chunk];
      } else {
        words[i * BATCH + j] = keys[block + min(c + j, KEY_CHUNKS - 1u) * 32u];
      }
    }
  }
  return words;
}

// Loads eight dims of four tokens.
fn loadValues(table: u32, gap: Gap, kvHead: u32, first: u32, quad: u32, chunk: u32) -> array<vec4<u32>, 4> {
  let slot = positionAt(gap, first + quad * 4u);
  let at = blockOf(table, slot / 32u, params.kvHeads, kvHead) * BLOCK_WORDS + slot % 32u * CHUNKS + chunk;
  return array<vec4<u32>, 4>(values[at], values[at + CHUNKS], values[at + 2u * CHUNKS], values[at + 3u * CHUNKS]);
}
