// Attention of a head of one row to the positions of a packed cache that are not packed yet: they are few, so the workgroup that
// merges the head's spans does it, and no dispatch waits for another. Keys and values are loaded together, before scores are known,
// and before the merge's own work: one wait instead of four. Pages are f16, as attendDecodeF16 reads them. The kernel
// declares HEAD_DIM, TURNED, FOURS, WORKGROUP, LANES, LEAST, HAS_SOFTCAP, `params`, `queries`, `recentKeys`, `recentValues`, and
// `merged` with room for each thread and for SHARE_FOURS; it appends step, batch, spans, lanes, softcap. Barriers stand between storeQuery
// and attended.

// A chunk is eight dims, one vec4 of f16 pairs. RECENT_WORDS: vec4s of a block.
const CHUNKS: u32 = HEAD_DIM / 8u;
const RECENT_WORDS: u32 = CHUNKS * 32u;
// Chunks of a stored key: all of its dims, or, if one vector is key and value, only the turned ones, which come before the value.
const KEY_CHUNKS: u32 = select(CHUNKS, TURNED / 8u, TURNED > 0u);
const QUERY_FOURS: u32 = FOURS + TURNED / 4u;
// Rows of LANES threads have a page's tokens each. Those that share a page have every SHARESth chunk of dims.
const SHARES: u32 = min(8u, WORKGROUP / LANES);
const PAGE_ROWS: u32 = WORKGROUP / LANES / SHARES;
const KEY_EACH: u32 = (KEY_CHUNKS + SHARES - 1u) / SHARES;
// Pages of which a row of threads has keys at once, by registers: 12 words of 16 bytes of a thread, 6 if there are more threads.
const KEY_PAGES: u32 = max(1u, min(6u / PAGE_ROWS, 12u / PAGE_ROWS / KEY_EACH));
const ROUND_PAGES: u32 = KEY_PAGES * PAGE_ROWS;
const ROUND: u32 = ROUND_PAGES * 32u;
// Scores [share of dims][token] lie in `merged`.
const SHARE_FOURS: u32 = SHARES * ROUND / 4u;
// Threads that share a chunk of dims while values are summed, and tokens of each.
const TOKEN_ROWS: u32 = WORKGROUP / CHUNKS;
const VALUE_EACH: u32 = (ROUND + TOKEN_ROWS - 1u) / TOKEN_ROWS;

// The scaled query, four dims each.
var<workgroup> headQuery: array<vec4<f32>, QUERY_FOURS>;
// Relative to the maximum of the token's page.
var<workgroup> tokenWeights: array<f32, ROUND>;
var<workgroup> pageMaxima: array<f32, ROUND_PAGES>;
var<workgroup> pageTotals: array<f32, ROUND_PAGES>;

// A thread's keys [page][chunk] and values of a round.
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
  // The row's own position is known already if it is alone.
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

// Begins the loads of a round.
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
    // A slot that the row sees, since others may hold NaN.
    let slot = min(first + local / CHUNKS + j * TOKEN_ROWS, recent.seen.end - 1u);
    loads.values[j] = recentValues[recentPage(recent, slot) * RECENT_WORDS + slot % 32u * CHUNKS + local % CHUNKS];
  }
  return loads;
}

// The page of a slot; after the last page that one.
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
    // All that `merged` held has been read.
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
    // A token a thread.
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
