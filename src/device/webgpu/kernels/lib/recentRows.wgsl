// Attention of one head of one row to the recent positions of a packed cache, those that are not packed. There are few of them, so
// the workgroup that merges the head's spans computes it, which saves a dispatch. Keys and values are loaded together, before the
// scores are known and before the merge's own work: one wait instead of four. Pages are f16, as attendDecodeF16 reads them. The
// kernel declares HEAD_DIM, TURNED, FOURS, WORKGROUP, LANES, LEAST, HAS_SOFTCAP, `params`, `queries`, `recentKeys`, `recentValues`,
// and `merged` with an element for each thread and at least SHARE_FOURS; it appends step, batch, spans, lanes, softcap. It has a
// barrier between storeQuery and attended.

// A chunk is eight dims, one vec4 of f16 pairs. RECENT_WORDS: vec4s of a block.
const CHUNKS: u32 = HEAD_DIM / 8u;
const RECENT_WORDS: u32 = CHUNKS * 32u;
// Chunks of a stored key: all of its dims, or, if one vector is key and value, only the turned ones, which come before the value.
const KEY_CHUNKS: u32 = select(CHUNKS, TURNED / 8u, TURNED > 0u);
const QUERY_FOURS: u32 = FOURS + TURNED / 4u;
// The LANES threads of a row have one token each of a page. SHARES rows share a page: each has every SHARES-th chunk of dims.
const SHARES: u32 = min(8u, WORKGROUP / LANES);
const PAGE_ROWS: u32 = WORKGROUP / LANES / SHARES;
const KEY_EACH: u32 = (KEY_CHUNKS + SHARES - 1u) / SHARES;
// Pages whose keys a row of threads holds at a time, limited by registers: a thread holds 12 vec4s of keys at most, and if more rows
// have pages of their own, fewer.
const KEY_PAGES: u32 = max(1u, min(6u / PAGE_ROWS, 12u / PAGE_ROWS / KEY_EACH));
const ROUND_PAGES: u32 = KEY_PAGES * PAGE_ROWS;
const ROUND: u32 = ROUND_PAGES * 32u;
// vec4s of the scores in `merged`: [share of dims][token].
const SHARE_FOURS: u32 = SHARES * ROUND / 4u;
// Threads that share a chunk of dims when values are summed, and the tokens of each.
const TOKEN_ROWS: u32 = WORKGROUP / CHUNKS;
const VALUE_EACH: u32 = (ROUND + TOKEN_ROWS - 1u) / TOKEN_ROWS;

// The scaled query, four dims each.
var<workgroup> headQuery: array<vec4<f32>, QUERY_FOURS>;
// By token, relative to the maximum of its page.
var<workgroup> tokenWeights: array<f32, ROUND>;
var<workgroup> pageMaxima: array<f32, ROUND_PAGES>;
var<workgroup> pageTotals: array<f32, ROUND_PAGES>;

// What a thread loads of a round: keys [page][chunk] and values.
struct RecentLoads {
  keys: array<vec4<u32>, KEY_PAGES * KEY_EACH>,
  values: array<vec4<u32>, VALUE_EACH>,
}

struct Recent {
  kvHead: u32,
  table: u32,
  gap: Gap,
  seen: Spans,
}

struct Attended {
  most: f32,
  total: f32,
  // Four dims for each thread below FOURS.
  sum: vec4<f32>,
}

fn recentOf(spanned: Spanned, head: u32) -> Recent {
  // The position is known already if the row attends alone.
  var position = spanned.lastPosition;
  if (spanned.firstPosition != position) {
    position = positionOf(spanned.row);
  }
  let seen = spansOf(position, position, spanned.packed, RECENT, params.window, 1u, 1u);
  return Recent(head / (params.heads / params.kvHeads), params.recentTable + spanned.table, gapOf(spanned.packed), seen);
}

fn storeQuery(row: u32, head: u32, local: u32) {
  for (var i = local; i < QUERY_FOURS; i += WORKGROUP) {
    headQuery[i] = queries[(row * params.heads + head) * QUERY_FOURS + i] * params.scale;
  }
}

// Starts the loads of a round.
fn loadsAt(recent: Recent, first: u32, local: u32) -> RecentLoads {
  var loads: RecentLoads;
  let share = local / LANES % SHARES;
  let pageRow = local / LANES / SHARES;
  for (var p = 0u; p < KEY_PAGES; p++) {
    let key = recentPage(recent, first + (p * PAGE_ROWS + pageRow) * 32u) * (KEY_CHUNKS * 32u) + local % LANES;
    for (var i = 0u; i < KEY_EACH; i++) {
      loads.keys[p * KEY_EACH + i] = recentKeys[key + min(share + i * SHARES, KEY_CHUNKS - 1u) * 32u];
    }
  }
  for (var j = 0u; j < VALUE_EACH; j++) {
    // Only slots that the row sees: others may hold NaN.
    let slot = min(first + local / CHUNKS + j * TOKEN_ROWS, recent.seen.end - 1u);
    loads.values[j] = recentValues[recentPage(recent, slot) * RECENT_WORDS + slot % 32u * CHUNKS + local % CHUNKS];
  }
  return loads;
}

// The page of a slot; past the last slot its page.
fn recentPage(recent: Recent, slot: u32) -> u32 {
  let block = positionAt(recent.gap, min(slot, recent.seen.end - 1u)) / 32u;
  return blockOf(recent.table, block, params.kvHeads, recent.kvHead);
}

fn attended(recent: Recent, given: RecentLoads, local: u32) -> Attended {
  var loads = given;
  let seen = recent.seen;
  let share = local / LANES % SHARES;
  let pageRow = local / LANES / SHARES;
  var most = LEAST;
  var total = 0.0;
  var low = vec4<f32>(0.0);
  var high = vec4<f32>(0.0);
  for (var first = seen.first; first < seen.end; first += ROUND) {
    // After this barrier all that `merged` held has been read.
    workgroupBarrier();
    for (var p = 0u; p < KEY_PAGES; p++) {
      var score = 0.0;
      for (var i = 0u; i < KEY_EACH; i++) {
        let chunk = share + i * SHARES;
        if (chunk < KEY_CHUNKS) {
          score += chunkScore(chunk, loads.keys[p * KEY_EACH + i]);
        }
      }
      let at = (p * PAGE_ROWS + pageRow) * 32u + local % LANES;
      if (TURNED > 0u) {
        let slot = min(first + at, seen.end - 1u);
        let value = recentPage(recent, slot) * RECENT_WORDS + slot % 32u * CHUNKS;
        for (var c = share; c < CHUNKS; c += SHARES) {
          score += chunkScore(KEY_CHUNKS + c, recentValues[value + c]);
        }
      }
      merged[(share * ROUND + at) / 4u][at % 4u] = score;
    }
    workgroupBarrier();
    // One token for each thread.
    var score = 0.0;
    for (var i = 0u; i < SHARES; i++) {
      score += merged[(i * ROUND + min(local, ROUND - 1u)) / 4u][local % 4u];
    }
    if (HAS_SOFTCAP) {
      score = params.cap * boundedTanh(score);
    }
    let slot = first + local;
    let visible = local < ROUND && slot < seen.end && positionAt(recent.gap, slot) >= seen.oldest;
    let pageMost = lanesMax(select(LEAST, score, visible), local);
    let weight = select(0.0, exp2(score - pageMost), visible);
    let pageTotal = lanesSum(weight, local);
    if (local < ROUND) {
      tokenWeights[local] = weight;
      if (local % LANES == 0u) {
        pageMaxima[local / LANES] = pageMost;
        pageTotals[local / LANES] = pageTotal;
      }
    }
    workgroupBarrier();
    var next = most;
    for (var p = 0u; p < ROUND_PAGES; p++) {
      next = max(next, pageMaxima[p]);
    }
    let rescale = exp2(most - next);
    most = next;
    total *= rescale;
    low *= rescale;
    high *= rescale;
    for (var p = 0u; p < ROUND_PAGES; p++) {
      total += pageTotals[p] * exp2(pageMaxima[p] - most);
    }
    if (local < TOKEN_ROWS * CHUNKS) {
      for (var j = 0u; j < VALUE_EACH; j++) {
        let at = local / CHUNKS + j * TOKEN_ROWS;
        if (at < ROUND) {
          let weight = tokenWeights[at] * exp2(pageMaxima[at / 32u] - most);
          let eight = loads.values[j];
          low += weight * vec4<f32>(unpack2x16float(eight.x), unpack2x16float(eight.y));
          high += weight * vec4<f32>(unpack2x16float(eight.z), unpack2x16float(eight.w));
        }
      }
    }
    if (first + ROUND < seen.end) {
      loads = loadsAt(recent, first + ROUND, local);
    }
  }
  let lowSum = chunksJoined(low, local);
  let highSum = chunksJoined(high, local);
  return Attended(most, total, select(lowSum, highSum, local % 2u == 1u));
}

// The product of eight dims of the query with those of a token.
fn chunkScore(c: u32, eight: vec4<u32>) -> f32 {
  return dot(headQuery[c * 2u], vec4<f32>(unpack2x16float(eight.x), unpack2x16float(eight.y)))
    + dot(headQuery[c * 2u + 1u], vec4<f32>(unpack2x16float(eight.z), unpack2x16float(eight.w)));
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
