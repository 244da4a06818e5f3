// Attention of one head of one row to the recent positions of a packed cache, those that are not packed. There are few of them, so
// the workgroup that merges the head's spans computes it, which saves a dispatch. Pages are f16, as attendDecodeF16 reads them. The
// kernel declares HEAD_DIM, TURNED, FOURS, WORKGROUP, LANES, ROWS, LEAST, HAS_SOFTCAP, `params`, `queries`, `recentKeys`,
// `recentValues`, and `merged` with one element for each thread; it appends step, batch, spans, lanes, softcap.

// A chunk is eight dims, one vec4 of f16 pairs. RECENT_WORDS: vec4s of a block.
const CHUNKS: u32 = HEAD_DIM / 8u;
const RECENT_WORDS: u32 = CHUNKS * 32u;
// Chunks of a stored key: all of its dims, or, if one vector is key and value, only the turned ones, which come before the value.
const KEY_CHUNKS: u32 = select(CHUNKS, TURNED / 8u, TURNED > 0u);
const QUERY_FOURS: u32 = FOURS + TURNED / 4u;
// Loads that a thread has in flight: of values, and of keys if their number is a multiple of it.
const BATCHED: u32 = 8u;
const KEY_BATCH: u32 = select(1u, BATCHED, KEY_CHUNKS % BATCHED == 0u);
// Threads that share a chunk of dims when values are summed.
const TOKEN_ROWS: u32 = WORKGROUP / CHUNKS;

// The scaled query, four dims each.
var<workgroup> headQuery: array<vec4<f32>, QUERY_FOURS>;
var<workgroup> tokenWeights: array<f32, WORKGROUP>;
// By token: where its values begin.
var<workgroup> tokenPlaces: array<u32, WORKGROUP>;
var<workgroup> laneRows: array<f32, ROWS>;

struct Attended {
  most: f32,
  total: f32,
  // Four dims for each thread below FOURS.
  sum: vec4<f32>,
}

fn attended(spanned: Spanned, head: u32, local: u32) -> Attended {
  let kvHead = head / (params.heads / params.kvHeads);
  let table = params.recentTable + spanned.table;
  let position = positionOf(spanned.row);
  let gap = gapOf(spanned.packed);
  let seen = spansOf(position, position, spanned.packed, RECENT, params.window, 1u, 1u);
  for (var i = local; i < QUERY_FOURS; i += WORKGROUP) {
    headQuery[i] = queries[(spanned.row * params.heads + head) * QUERY_FOURS + i] * params.scale;
  }
  let chunk = local % CHUNKS;
  let tokenRow = local / CHUNKS;
  var most = LEAST;
  var total = 0.0;
  var low = vec4<f32>(0.0);
  var high = vec4<f32>(0.0);
  // One token for each thread.
  for (var first = seen.first; first < seen.end; first += WORKGROUP) {
    // After this barrier the query is stored, and the weights of the tokens before have been read.
    workgroupBarrier();
    let slot = first + local;
    let token = positionAt(gap, min(slot, seen.end - 1u));
    let page = blockOf(table, token / 32u, params.kvHeads, kvHead);
    let key = page * (KEY_CHUNKS * 32u) + token % 32u;
    var score = 0.0;
    for (var c = 0u; c < KEY_CHUNKS; c += KEY_BATCH) {
      var eights = array<vec4<u32>, KEY_BATCH>();
      for (var i = 0u; i < KEY_BATCH; i++) {
        eights[i] = recentKeys[key + (c + i) * 32u];
      }
      for (var i = 0u; i < KEY_BATCH; i++) {
        score += chunkScore(c + i, eights[i]);
      }
    }
    if (TURNED > 0u) {
      for (var c = 0u; c < CHUNKS; c++) {
        score += chunkScore(KEY_CHUNKS + c, recentValues[page * RECENT_WORDS + token % 32u * CHUNKS + c]);
      }
    }
    if (HAS_SOFTCAP) {
      score = params.cap * boundedTanh(score);
    }
    let visible = slot < seen.end && token >= seen.oldest;
    let next = max(most, rowsMax(select(LEAST, score, visible), local));
    let weight = select(0.0, exp2(score - next), visible);
    let rescale = exp2(most - next);
    most = next;
    total = total * rescale + weight;
    tokenWeights[local] = weight;
    tokenPlaces[local] = page * RECENT_WORDS + token % 32u * CHUNKS;
    workgroupBarrier();
    low *= rescale;
    high *= rescale;
    if (tokenRow < TOKEN_ROWS) {
      // Places were looked up before: with a lookup here, each token would wait for two loads in turn.
      let count = min(WORKGROUP, seen.end - first);
      for (var begin = tokenRow; begin < count; begin += BATCHED * TOKEN_ROWS) {
        var eights = array<vec4<u32>, BATCHED>();
        for (var i = 0u; i < BATCHED; i++) {
          eights[i] = recentValues[tokenPlaces[min(begin + i * TOKEN_ROWS, count - 1u)] + chunk];
        }
        for (var i = 0u; i < BATCHED; i++) {
          let at = begin + i * TOKEN_ROWS;
          let share = select(0.0, tokenWeights[min(at, count - 1u)], at < count);
          low += share * vec4<f32>(unpack2x16float(eights[i].x), unpack2x16float(eights[i].y));
          high += share * vec4<f32>(unpack2x16float(eights[i].z), unpack2x16float(eights[i].w));
        }
      }
    }
  }
  let all = rowsSum(lanesSum(total, local), local);
  let lowSum = chunksJoined(low, local);
  let highSum = chunksJoined(high, local);
  return Attended(most, all, select(lowSum, highSum, local % 2u == 1u));
}

// The product of eight dims of the query with those of a token.
fn chunkScore(c: u32, eight: vec4<u32>) -> f32 {
  return dot(headQuery[c * 2u], vec4<f32>(unpack2x16float(eight.x), unpack2x16float(eight.y)))
    + dot(headQuery[c * 2u + 1u], vec4<f32>(unpack2x16float(eight.z), unpack2x16float(eight.w)));
}

// The maximum over all threads.
fn rowsMax(value: f32, local: u32) -> f32 {
  let lanes = lanesMax(value, local);
  workgroupBarrier();
  if (local % LANES == 0u) {
    laneRows[local / LANES] = lanes;
  }
  workgroupBarrier();
  var most = laneRows[0];
  for (var i = 1u; i < ROWS; i++) {
    most = max(most, laneRows[i]);
  }
  return most;
}

// The sum over all rows of threads. lanes: the sum of this row.
fn rowsSum(lanes: f32, local: u32) -> f32 {
  workgroupBarrier();
  if (local % LANES == 0u) {
    laneRows[local / LANES] = lanes;
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < ROWS; i++) {
    sum += laneRows[i];
  }
  return sum;
}

// Sums over the threads that share a chunk; two threads below FOURS get each chunk's sum.
fn chunksJoined(value: vec4<f32>, local: u32) -> vec4<f32> {
  workgroupBarrier();
  merged[local] = value;
  workgroupBarrier();
  var sum = vec4<f32>(0.0);
  if (local < FOURS) {
    for (var i = 0u; i < TOKEN_ROWS; i++) {
      sum += merged[i * CHUNKS + local / 2u];
    }
  }
  return sum;
}
