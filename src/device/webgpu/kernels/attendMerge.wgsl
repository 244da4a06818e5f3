// attendMerge: joins the spans of attendDecode to the output. A workgroup joins those of one head of one row. Each row of threads has
// one thread for every four dims and joins some of the spans; at the end the rows are joined. In a packed cache the spans are those of
// the packed positions, whose values are rotated. With few rows the workgroup itself attends to the recent positions
// (lib/recentRows.wgsl), otherwise these have spans of their own. The kernel's time is a chain of waits for loads, not their bytes, so
// everything whose address is known is loaded before anything is computed.
// lib: step, batch, spans, lanes, q8, rotation, narrow, sinks, softcap, recentRows
// <values>
const HEAD_DIM: u32 = 64u;
const TILE: u32 = 256u;
const MOST_SPANS: u32 = 128u;
const SUBGROUP: u32 = 32u;
// Rotates the sums back, as rq4 needs it.
const ROTATE: bool = false;
// Joins both parts of a packed cache. TILE and MOST_SPANS are those of the packed part, RECENT_TILE and MOST_RECENT_SPANS of the other.
const PARTS: bool = false;
const RECENT_TILE: u32 = 128u;
const MOST_RECENT_SPANS: u32 = 32u;
// Attends to the recent positions, which then have no spans.
const ATTENDS: bool = false;
// If one vector is key and value: dims of the key before the value. Otherwise 0.
const TURNED: u32 = 0u;
const HAS_SOFTCAP: bool = false;
// Positions at a text's beginning that are never packed.
const KEPT: u32 = 0u;
// Joins the rows that attend in tiles. They come after the rows that attend alone.
const LONGS: bool = false;
const HAS_SINKS: bool = false;
// At least one thread for each span, and for every four dims.
const THREADS: u32 = 256u;
// 0: f32. 1: f16, with factors of 1, since an average of cached values is within float16. 2: q8, for head sizes divisible by 32.
const OUT_FORM: u32 = 0u;
// </values>

// For lib/spans.wgsl: only recent positions have slots.
const PART: u32 = RECENT;
const LANES: u32 = 32u;
const GROUPS: u32 = HEAD_DIM / 32u;
const FOURS: u32 = HEAD_DIM / 4u;
// Rows in tiles have one span of each part, for which one thread for every four dims is enough.
const WORKGROUP: u32 = select(THREADS, (FOURS + LANES - 1u) / LANES * LANES, LONGS);
const ROWS: u32 = WORKGROUP / FOURS;
const STRIDE: u32 = FOURS + 1u;
// BATCH: spans whose sums a thread loads before it adds them; AHEAD: those of them that it loads before the number of spans is known.
// 64/8 heads of 128 after 131,072 tokens, H200: kv4 84.7 us with 8 loads, 84.2 with 25. Larger heads of packed caches were measured with 8.
const MOST_BATCH: u32 = select(select(25u, 8u, ATTENDS && HEAD_DIM > 128u), 13u, WORKGROUP > 256u);
const BATCH: u32 = min(MOST_BATCH, (MOST_SPANS + ROWS - 1u) / ROWS);
const AHEAD: u32 = select(min(8u, BATCH), 0u, ATTENDS);
// Rows of lanes that hold the maximum of a span.
const LANE_ROWS: u32 = min(WORKGROUP, MOST_SPANS + select(0u, MOST_RECENT_SPANS, PARTS && !ATTENDS) + LANES - 1u) / LANES;
const LEAST: f32 = -1e30;

struct Params {
  heads: u32,
  window: u32,
  // Groups of 32 in a row of the output: the planes of q8.
  outGroups: u32,
  // The item of `out` where the factors of f16 rows begin (lib/rowFactor.wgsl).
  factorsAt: u32,
  // For ATTENDS: as in attendDecode.
  kvHeads: u32,
  recentTable: u32,
  scale: f32,
  cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [spanned][heads][spans] of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(2) var<storage, read> partials: array<vec4<f32>>;
// [tokens][heads][HEAD_DIM]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> batch: array<u32>;
// [heads]
@group(0) @binding(5) var<storage, read> sinks: array<f32>;
// The same for the recent positions.
@group(0) @binding(6) var<storage, read> recentPartials: array<vec4<f32>>;
// [tokens][heads][TURNED + HEAD_DIM]
@group(0) @binding(7) var<storage, read> queries: array<vec4<f32>>;
// Pages in f16.
@group(0) @binding(8) var<storage, read> recentKeys: array<vec4<u32>>;
@group(0) @binding(9) var<storage, read> recentValues: array<vec4<u32>>;

// By span: the factor for its sums, relative to the maximum of all spans.
var<workgroup> factors: array<f32, WORKGROUP>;
var<workgroup> laneMaxima: array<f32, WORKGROUP / LANES>;
var<workgroup> laneTotals: array<f32, WORKGROUP / LANES>;
// [row][four dims]
var<workgroup> merged: array<vec4<f32>, max(WORKGROUP, select(0u, SHARE_FOURS, ATTENDS))>;
var<workgroup> codes: array<u32, FOURS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x;
  let four = local % FOURS;
  // Threads past the last row have no spans.
  let row = select(local / FOURS, 0x10000u, local >= ROWS * FOURS);
  let index = workgroup.y + select(0u, step.singles, LONGS);
  let places = placesOf(MOST_SPANS);
  let first = (index * params.heads + head) * places * STRIDE;
  var begin = array<vec4<f32>, BATCH>();
  for (var i = 0u; i < AHEAD; i++) {
    begin[i] = sumsAt(first, row + i * ROWS, places, four);
  }
  let spanned = spannedOf(index);
  let query = spanned.row;
  let part = select(ALL, PACKED, PARTS);
  let spans = spansOf(spanned.firstPosition, spanned.lastPosition, spanned.packed, part, params.window, TILE, places).count;
  for (var i = AHEAD; i < BATCH; i++) {
    begin[i] = sumsAt(first, row + i * ROWS, spans, four);
  }
  // The spans of recent positions are numbered after the packed ones.
  var end = spans;
  var recentFirst = 0u;
  if (PARTS && !ATTENDS) {
    let recentPlaces = placesOf(MOST_RECENT_SPANS);
    end += spansOf(spanned.firstPosition, spanned.lastPosition, spanned.packed, RECENT, params.window, RECENT_TILE, recentPlaces).count;
    recentFirst = (index * params.heads + head) * recentPlaces * STRIDE;
  }
  var stats = vec2<f32>(LEAST, 0.0);
  if (local < spans) {
    stats = partials[first + local * STRIDE + FOURS].xy;
  } else if (PARTS && !ATTENDS && local < end) {
    stats = recentPartials[recentFirst + (local - spans) * STRIDE + FOURS].xy;
  }
  var loads: RecentLoads;
  var recent: Recent;
  if (ATTENDS) {
    recent = recentOf(spanned, head);
    loads = loadsAt(recent, recent.seen.first, local);
    storeQuery(query, head, local);
  }
  let laneMost = lanesMax(stats.x, local);
  if (local % LANES == 0u) {
    laneMaxima[local / LANES] = laneMost;
  }
  workgroupBarrier();
  var most = laneMaxima[0];
  for (var i = 1u; i < LANE_ROWS; i++) {
    most = max(most, laneMaxima[i]);
  }
  let factor = exp2(stats.x - most);
  factors[local] = factor;
  let laneTotal = lanesSum(stats.y * factor, local);
  if (local % LANES == 0u) {
    laneTotals[local / LANES] = laneTotal;
  }
  workgroupBarrier();
  var own = addSums(vec4<f32>(0.0), begin, row, spans);
  if (ROWS * BATCH < MOST_SPANS) {
    for (var at = row + ROWS * BATCH; at < spans; at += ROWS * BATCH) {
      own = addSums(own, loadSums(first, at, spans, four), at, spans);
    }
  }
  merged[local] = own;
  workgroupBarrier();
  var sum = rowsJoined(local);
  if (ROTATE) {
    sum = rotatedBack(sum, local);
  }
  if (PARTS && !ATTENDS) {
    workgroupBarrier();
    var newest = vec4<f32>(0.0);
    for (var at = spans + row; at < end; at += ROWS) {
      newest += factors[at] * recentPartials[recentFirst + (at - spans) * STRIDE + four];
    }
    merged[local] = newest;
    workgroupBarrier();
    sum += rowsJoined(local);
  }
  var total = 0.0;
  for (var i = 0u; i < LANE_ROWS; i++) {
    total += laneTotals[i];
  }
  if (ATTENDS) {
    let newest = attended(recent, loads, local);
    let top = max(most, newest.most);
    let share = exp2(most - top);
    let newestShare = exp2(newest.most - top);
    sum = sum * share + newest.sum * newestShare;
    total = total * share + newest.total * newestShare;
    most = top;
  }
  if (HAS_SINKS) {
    total += sinkWeight(sinks[head], most);
  }
  sum /= total;
  if (ROTATE) {
    // After this barrier every thread has read the others' dims.
    workgroupBarrier();
  }
  if (local < FOURS) {
    if (OUT_FORM != 0u) {
      merged[local] = sum;
    } else {
      out[(query * params.heads + head) * FOURS + local] = bitcast<vec4<u32>>(sum);
    }
  }
  if (OUT_FORM == 1u) {
    workgroupBarrier();
    if (local < FOURS / 2u) {
      let low = merged[local * 2u];
      let high = merged[local * 2u + 1u];
      out[(query * params.heads + head) * (FOURS / 2u) + local] = halvesOf(low, high);
    }
    // An average of cached values is within float16.
    if (head == 0u && local == 0u) {
      out[params.factorsAt + query] = vec4<u32>(bitcast<u32>(1.0), 0u, 0u, 0u);
    }
  }
  if (OUT_FORM == 2u) {
    workgroupBarrier();
    // q8 as in lib/q8.wgsl: one thread for every four dims, then one for every group.
    var scale = 0.0;
    if (local < FOURS) {
      var largest = vec4<u32>(0u);
      for (var i = 0u; i < 8u; i++) {
        largest = max(largest, q8Magnitudes(merged[local / 8u * 8u + i]));
      }
      let most = q8Most(largest);
      codes[local] = pack4xI8(vec4<i32>(round(merged[local] * q8Inverse(most))));
      scale = most / 127.0;
    }
    workgroupBarrier();
    if (local < FOURS && local % 8u == 0u) {
      let low = vec4<u32>(codes[local], codes[local + 1u], codes[local + 2u], codes[local + 3u]);
      let high = vec4<u32>(codes[local + 4u], codes[local + 5u], codes[local + 6u], codes[local + 7u]);
      let at = query * 3u * params.outGroups + head * GROUPS + local / 8u;
      out[at] = low;
      out[params.outGroups + at] = high;
      out[params.outGroups * 2u + at] = q8Scales(scale, low, high);
    }
  }
}

// Four dims, summed over the rows of threads.
fn rowsJoined(local: u32) -> vec4<f32> {
  var sum = vec4<f32>(0.0);
  if (local < FOURS) {
    for (var i = 0u; i < ROWS; i++) {
      sum += merged[i * FOURS + local];
    }
  }
  return sum;
}

// Four dims of a span's sums.
fn sumsAt(first: u32, span: u32, spans: u32, four: u32) -> vec4<f32> {
  if (span < spans) {
    return partials[first + span * STRIDE + four];
  }
  return vec4<f32>(0.0);
}

fn loadSums(first: u32, begin: u32, spans: u32, four: u32) -> array<vec4<f32>, BATCH> {
  var loaded = array<vec4<f32>, BATCH>();
  for (var i = 0u; i < BATCH; i++) {
    loaded[i] = sumsAt(first, begin + i * ROWS, spans, four);
  }
  return loaded;
}

fn addSums(sum: vec4<f32>, loaded: array<vec4<f32>, BATCH>, begin: u32, spans: u32) -> vec4<f32> {
  var all = sum;
  for (var i = 0u; i < BATCH; i++) {
    if (begin + i * ROWS < spans) {
      all += factors[begin + i * ROWS] * loaded[i];
    }
  }
  return all;
}

// Multiplies by the transpose of rq4's rotation. A thread has four dims.
fn rotatedBack(values: vec4<f32>, local: u32) -> vec4<f32> {
  var sum = values * rotationFactor(HEAD_DIM);
  sum = vec4<f32>(sum.xy + sum.zw, sum.xy - sum.zw).xzyw;
  sum = vec4<f32>(sum.xy + sum.zw, sum.xy - sum.zw).xzyw;
  for (var stride = 1u; stride < min(LANES, rotationBlock(HEAD_DIM) / 4u); stride *= 2u) {
    let other = lanesXor(sum, stride, local);
    sum = select(sum + other, other - sum, (local & stride) != 0u);
  }
  // Head sizes above 128: across rows of threads.
  for (var stride = LANES; stride < rotationBlock(HEAD_DIM) / 4u; stride *= 2u) {
    workgroupBarrier();
    if (local < FOURS) {
      merged[local] = sum;
    }
    workgroupBarrier();
    if (local < FOURS) {
      let other = merged[local ^ stride];
      sum = select(sum + other, other - sum, (local & stride) != 0u);
    }
  }
  let d = local * 4u;
  return vec4<f32>(
    flippedSign(sum.x, d), flippedSign(sum.y, d + 1u), flippedSign(sum.z, d + 2u), flippedSign(sum.w, d + 3u));
}
