// attendMerge: a head's spans of attendDecode into its output. A workgroup does one head of one row: each row of threads
// joins the spans in turn, relative to its own maximum, and the rows are joined in the end. Of a packed cache the spans are of
// packed positions, whose values are rotated; to those that are not packed yet the workgroup attends itself where rows are few
// (lib/recentRows.wgsl), else they have spans of their own.
// lib: step, batch, spans, lanes, q8, rotation, narrow, sinks, softcap, recentRows
// <values>
const HEAD_DIM: u32 = 64u;
const TILE: u32 = 256u;
const MOST_SPANS: u32 = 128u;
const SUBGROUP: u32 = 32u;
// Undoes the rotation of rq4.
const ROTATE: bool = false;
// The two parts of a packed cache; TILE and MOST_SPANS are the packed one's.
const PARTS: bool = false;
const RECENT_TILE: u32 = 128u;
const MOST_RECENT_SPANS: u32 = 32u;
// Instead of spans of the second part.
const ATTENDS: bool = false;
// Numbers of a key before the value, which ends it; 0: keys are no values.
const TURNED: u32 = 0u;
const HAS_SOFTCAP: bool = false;
// Positions at a text's beginning that are never packed.
const KEPT: u32 = 0u;
// Rows that attend in tiles, which stand after those alone.
const LONGS: bool = false;
const HAS_SINKS: bool = false;
// 0: f32, 1: f16 (no sum of values is beyond what a cache holds: factors are 1), 2: q8, for head sizes of whole groups of 32.
const OUT_FORM: u32 = 0u;
// </values>

// Of lib/spans.wgsl: slots are asked for of recent positions alone.
const PART: u32 = RECENT;
const LANES: u32 = 32u;
const GROUPS: u32 = HEAD_DIM / 32u;
const FOURS: u32 = HEAD_DIM / 4u;
// What 16 KiB of workgroup memory hold; rows in tiles have one span of each part, which a thread for each four dims joins.
const WORKGROUP: u32 = select(select(256u, 128u, HEAD_DIM > 256u), (FOURS + LANES - 1u) / LANES * LANES, LONGS);
const ROWS: u32 = WORKGROUP / LANES;
const STRIDE: u32 = FOURS + 1u;
// Fours of dims of a lane, and spans that it loads before it adds them.
const EACH: u32 = (FOURS + LANES - 1u) / LANES;
const BATCH: u32 = 8u;
const LEAST: f32 = -1e30;

struct Params {
  heads: u32,
  window: u32,
  // Groups of 32 in a row of the output: the planes of q8.
  outGroups: u32,
  // The item of `out` where the factors of f16 rows begin (lib/rowFactor.wgsl).
  factorsAt: u32,
  // Of ATTENDS, as attendDecode has them.
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
// As partials, of positions that are not packed yet.
@group(0) @binding(6) var<storage, read> recentPartials: array<vec4<f32>>;
// [tokens][heads][TURNED + HEAD_DIM]
@group(0) @binding(7) var<storage, read> queries: array<vec4<f32>>;
// Pages of f16.
@group(0) @binding(8) var<storage, read> recentKeys: array<vec4<u32>>;
@group(0) @binding(9) var<storage, read> recentValues: array<vec4<u32>>;

// [row][span / ROWS]
var<workgroup> factors: array<f32, WORKGROUP>;
// Maxima and totals.
var<workgroup> rowValues: array<vec2<f32>, ROWS>;
var<workgroup> merged: array<vec4<f32>, ROWS * max(FOURS, select(0u, LANES, ATTENDS))>;
var<workgroup> codes: array<u32, FOURS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = workgroup.x;
  let row = local / LANES;
  let lane = local % LANES;
  let index = workgroup.y + select(0u, step.singles, LONGS);
  let spanned = spannedOf(index);
  let query = spanned.row;
  let places = placesOf(MOST_SPANS);
  let part = select(ALL, PACKED, PARTS);
  let spans = spansOf(spanned.firstPosition, spanned.lastPosition, spanned.packed, part, params.window, TILE, places).count;
  let first = (index * params.heads + head) * places * STRIDE;
  // Loaded first, so that sums are on their way while maxima and totals are joined.
  let begin = loadSums(first, row, spans, lane);
  // Spans of recent positions count on from the packed ones'.
  var end = spans;
  var recentFirst = 0u;
  if (PARTS && !ATTENDS) {
    let recentPlaces = placesOf(MOST_RECENT_SPANS);
    end += spansOf(spanned.firstPosition, spanned.lastPosition, spanned.packed, RECENT, params.window, RECENT_TILE, recentPlaces).count;
    recentFirst = (index * params.heads + head) * recentPlaces * STRIDE;
  }
  var stats = vec2<f32>(LEAST, 0.0);
  let own = lane * ROWS + row;
  if (own < spans) {
    stats = partials[first + own * STRIDE + FOURS].xy;
  } else if (PARTS && !ATTENDS && own < end) {
    stats = recentPartials[recentFirst + (own - spans) * STRIDE + FOURS].xy;
  }
  let rowMost = lanesMax(stats.x, local);
  let factor = exp2(stats.x - rowMost);
  let rowTotal = lanesSum(stats.y * factor, local);
  factors[local] = factor;
  if (lane == 0u) {
    rowValues[row] = vec2<f32>(rowMost, rowTotal);
  }
  workgroupBarrier();
  for (var i = 0u; i < EACH; i++) {
    var next = begin;
    if (i > 0u) {
      next = loadSums(first, row, spans, lane + i * LANES);
    }
    var sum = vec4<f32>(0.0);
    for (var at = row; at < spans; at += ROWS * BATCH) {
      let loaded = next;
      if (at + ROWS * BATCH < spans) {
        next = loadSums(first, at + ROWS * BATCH, spans, lane + i * LANES);
      }
      for (var j = 0u; j < BATCH; j++) {
        if (at + j * ROWS < spans) {
          sum += factors[row * LANES + at / ROWS + j] * loaded[j];
        }
      }
    }
    if (lane + i * LANES < FOURS) {
      merged[row * FOURS + lane + i * LANES] = sum;
    }
  }
  workgroupBarrier();
  var most = LEAST;
  for (var i = 0u; i < ROWS; i++) {
    most = max(most, rowValues[i].x);
  }
  var sum = rowsJoined(most, local);
  if (ROTATE) {
    sum = rotatedBack(sum, local);
  }
  if (PARTS && !ATTENDS) {
    workgroupBarrier();
    for (var four = lane; four < FOURS; four += LANES) {
      var recent = vec4<f32>(0.0);
      for (var at = spans + (row + ROWS - spans % ROWS) % ROWS; at < end; at += ROWS) {
        recent += factors[row * LANES + at / ROWS] * recentPartials[recentFirst + (at - spans) * STRIDE + four];
      }
      merged[row * FOURS + four] = recent;
    }
    workgroupBarrier();
    sum += rowsJoined(most, local);
  }
  var total = 0.0;
  for (var i = 0u; i < ROWS; i++) {
    total += exp2(rowValues[i].x - most) * rowValues[i].y;
  }
  if (ATTENDS) {
    let recent = attended(spanned, head, local);
    let top = max(most, recent.most);
    let share = exp2(most - top);
    let recentShare = exp2(recent.most - top);
    sum = sum * share + recent.sum * recentShare;
    total = total * share + recent.total * recentShare;
    most = top;
  }
  if (HAS_SINKS) {
    total += sinkWeight(sinks[head], most);
  }
  sum /= total;
  if (ROTATE) {
    // Every thread has read another's dims after this barrier.
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
    // Averages of a cache's values are within float16.
    if (head == 0u && local == 0u) {
      out[params.factorsAt + query] = vec4<u32>(bitcast<u32>(1.0), 0u, 0u, 0u);
    }
  }
  if (OUT_FORM == 2u) {
    workgroupBarrier();
    // q8 as lib/q8.wgsl has it, a thread for four dims and then one for a group.
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

// Four dims of what the rows of threads have found.
fn rowsJoined(most: f32, local: u32) -> vec4<f32> {
  var sum = vec4<f32>(0.0);
  if (local < FOURS) {
    for (var i = 0u; i < ROWS; i++) {
      sum += exp2(rowValues[i].x - most) * merged[i * FOURS + local];
    }
  }
  return sum;
}

// Four dims of BATCH spans.
fn loadSums(first: u32, begin: u32, spans: u32, four: u32) -> array<vec4<f32>, BATCH> {
  var loaded = array<vec4<f32>, BATCH>();
  for (var i = 0u; i < BATCH; i++) {
    if (begin + i * ROWS < spans) {
      loaded[i] = partials[first + (begin + i * ROWS) * STRIDE + min(four, FOURS - 1u)];
    }
  }
  return loaded;
}

// Multiplies by the transpose of rq4's rotation: a thread has four dims.
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
