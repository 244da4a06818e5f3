// matmulAppend: the products q, k and v of one token, as in matmulVector, and what appendKv does with them: norms of heads, RoPE of
// queries and keys, storing keys and values in the cache. It saves a dispatch per layer, which costs a single token as much as its
// work (lab/LOG.md, 2026-11-29). A workgroup owns 64 rows of a head: 32, and the 32 that RoPE rotates with them, half a head further.
// Both are whole groups of int4. With norms it owns a whole head. The order of heads is q, k, v.
// lib: step, batch, weight, codes, teamSum, half, int4, nibbleCodes, dot16

// <values>
// include: weightValues
const WORKGROUP: u32 = 128u;
const TEAM: u32 = 32u;
const SUBGROUP: u32 = 32u;
// Rows of weights per workgroup: 64 or HEAD_DIM. A team has half of its rows in each half of a head.
const UNIT: u32 = 64u;
const ROWS: u32 = 16u;
// x is divided by its root mean square.
const NORMED: bool = false;
const HEADS: u32 = 4u;
const KV_HEADS: u32 = 2u;
// A multiple of 64.
const HEAD_DIM: u32 = 64u;
// Each head of keys and queries is normalized.
const HEAD_NORMS: bool = false;
// HEAD_DIM / 4, or 1 without norms.
const NORM_WORDS: u32 = 1u;
const HAS_BIAS: bool = false;
// Rows of all heads / 4; 1 without a bias.
const BIAS_WORDS: u32 = 1u;
// The cache is int4; otherwise f16.
const INT4: bool = true;
const BLOCK_WORDS: u32 = 80u;
const SCALES_AT: u32 = 64u;
// </values>

const EACH: u32 = ROWS / 2u;
const HALF_HEAD: u32 = HEAD_DIM / 2u;
const HALF_UNIT: u32 = UNIT / 2u;

struct Params {
  groups: u32,
  // Where the pool's tables begin in `batch`.
  table: u32,
  // NORMED
  epsilon: f32,
  // HEAD_NORMS
  keyEpsilon: f32,
  queryEpsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;
// [tokens][cos, sin][HALF_HEAD]
@group(0) @binding(5) var<storage, read> angles: array<f32>;
@group(0) @binding(6) var<storage, read_write> keys: array<u32>;
@group(0) @binding(7) var<storage, read_write> values: array<u32>;
// [HEADS][HEAD_DIM]
@group(0) @binding(8) var<storage, read_write> queries: array<f32>;
@group(0) @binding(9) var<storage, read> batch: array<u32>;
// Uniform, because some devices have only 8 storage buffers.
@group(0) @binding(10) var<uniform> keyNorm: array<vec4<f32>, NORM_WORDS>;
@group(0) @binding(11) var<uniform> queryNorm: array<vec4<f32>, NORM_WORDS>;
@group(0) @binding(12) var<uniform> bias: array<vec4<f32>, BIAS_WORDS>;

// The workgroup's products; those of the head's second half begin at HALF_UNIT.
var<workgroup> made: array<f32, UNIT>;
var<workgroup> squareSums: array<f32, 32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  let lane = local % TEAM;
  let team = local / TEAM;
  let head = place.x / (HEAD_DIM / UNIT);
  // The first dim, in the first half of the head.
  let firstDim = place.x % (HEAD_DIM / UNIT) * HALF_UNIT;
  let isValue = head >= HEADS + KV_HEADS;
  let groups = params.groups;
  let piece = pieceAt(0u);
  let token = piece.position % 32u;
  let kvHead = (head - HEADS) % KV_HEADS;

  var rows: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    rows[r] = head * HEAD_DIM + firstDim + team * EACH + r % EACH + r / EACH * HALF_HEAD;
  }

  // What threads need at the end is loaded together with the weights.
  let dim = firstDim + local % HALF_UNIT + local / HALF_UNIT % 2u * HALF_HEAD;
  var turn = vec2<f32>(1.0, 0.0);
  var block = 0u;
  var held = 0u;
  if (local < UNIT) {
    if (!isValue) {
      let at = piece.row * 2u * HALF_HEAD + dim % HALF_HEAD;
      turn = vec2<f32>(angles[at], angles[at + HALF_HEAD]);
    }
    if (head >= HEADS) {
      block = blockOf(params.table + piece.table, piece.position / 32u, KV_HEADS, kvHead) * BLOCK_WORDS * 4u;
    }
    if (INT4 && isValue) {
      held = values[block + dim * 4u + token % 16u / 4u];
    }
  }

  var acc: array<f32, ROWS>;
  var squares = 0.0;
  for (var group = lane; group < groups; group += TEAM) {
    var first: array<vec4<u32>, ROWS>;
    var second: array<vec4<u32>, ROWS>;
    var scale: array<vec2<u32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
      first[r] = codes[firstAt(rows[r], group, groups)];
      if (HAS_SECOND) {
        second[r] = codes[secondAt(rows[r], group, groups)];
      }
      let at = scaleAt(rows[r], group, groups);
      scale[r].x = scales[at];
      if (HAS_NEXT) {
        scale[r].y = scales[nextAt(at, group)];
      }
    }
    let x0 = x[group];
    let x1 = x[groups + group];
    let facts = bitcast<vec4<f32>>(x[2u * groups + group]);
    if (NORMED) {
      squares += facts.w;
    }
    for (var r = 0u; r < ROWS; r++) {
      var low = first[r];
      var high = second[r];
      if (CODES != BYTES && !IS_JOINED) {
        let nibbles = nibblesOf(first[r], second[r], group);
        low = nibbleCodes(nibbles);
        high = nibbleCodes(nibbles >> vec4<u32>(4u));
      }
      if (IS_JOINED) {
        let upper = upperOf(second[r], group);
        low = joinLows(first[r], upper);
        high = joinHighs(first[r], upper);
      }
      let dot0 = dot16(low, x0);
      let dot1 = dot16(high, x1);
      let s = scalesOf(scale[r].x, scale[r].y, group);
      if (BY_HALVES) {
        acc[r] += facts.x * (s.x * f32(dot0) + s.z * f32(dot1)) + s.y * facts.y + s.w * facts.z;
      } else {
        acc[r] += s.x * (facts.x * f32(dot0 + dot1)) + s.y * (facts.y + facts.z);
      }
    }
  }

  var inverse = 1.0;
  if (NORMED) {
    inverse = inverseSqrt(teamSum(squares, local) / f32(32u * groups) + params.epsilon);
  }
  for (var r = 0u; r < ROWS; r++) {
    var value = teamSum(acc[r], local) * inverse;
    if (lane == 0u) {
      if (HAS_BIAS) {
        value += bias[rows[r] / 4u][rows[r] % 4u];
      }
      made[team * EACH + r % EACH + r / EACH * HALF_UNIT] = value;
    }
  }
  workgroupBarrier();
  if (HEAD_NORMS && !isValue) {
    normHead(head < HEADS, local);
  }

  var turned = 0.0;
  if (local < UNIT) {
    let own = made[local];
    let other = made[local ^ HALF_UNIT];
    // Times the cosine, and the sine, which is negative for the first half.
    turned = own * turn.x + other * select(turn.y, -turn.y, local < HALF_UNIT);
  }
  if (head < HEADS) {
    if (local < UNIT) {
      queries[head * HEAD_DIM + dim] = turned;
    }
    return;
  }
  workgroupBarrier();
  if (local < UNIT) {
    made[local] = turned;
  }
  workgroupBarrier();
  if (local < UNIT) {
    if (isValue) {
      storeValue(block, token, dim, held, local);
    } else {
      storeKey(block, token, dim, local);
    }
  }
}

// Normalizes the head in `made`.
fn normHead(isQuery: bool, local: u32) {
  if (local < 32u) {
    var sum = 0.0;
    for (var i = local; i < UNIT; i += 32u) {
      sum += made[i] * made[i];
    }
    squareSums[local] = sum;
  }
  workgroupBarrier();
  if (local < UNIT) {
    var total = 0.0;
    for (var i = 0u; i < 32u; i++) {
      total += squareSums[i];
    }
    let scale = 1.0 / sqrt(total / f32(HEAD_DIM) + select(params.keyEpsilon, params.queryEpsilon, isQuery));
    var weight = keyNorm[local / 4u % NORM_WORDS][local % 4u];
    if (isQuery) {
      weight = queryNorm[local / 4u % NORM_WORDS][local % 4u];
    }
    made[local] = made[local] * scale * weight;
  }
  workgroupBarrier();
}

fn storeKey(block: u32, token: u32, dim: u32, local: u32) {
  if (!INT4) {
    if (local % 2u == 0u) {
      let pair = dim / 2u;
      keys[block + (pair / 4u * 32u + token) * 4u + pair % 4u] = halvesAt(local);
    }
    return;
  }
  // In each group, four threads have the first dim of a word.
  if (local % 32u >= 16u || local % 4u != 0u) {
    return;
  }
  let range = rangeOfGroup(local / 32u * 32u);
  var word = 0u;
  for (var c = 0u; c < 4u; c++) {
    word |= code(made[local + c], range.zero, range.inverse) << (c * 8u);
    word |= code(made[local + 16u + c], range.zero, range.inverse) << (c * 8u + 4u);
  }
  keys[block + (dim / 32u * 32u + token) * 4u + dim % 16u / 4u] = word;
  if (local % 32u == 0u) {
    keys[block + SCALES_AT * 4u + dim + token] = range.bits;
  }
}

// held: the present word, which has the codes of this dim for eight tokens.
fn storeValue(block: u32, token: u32, dim: u32, held: u32, local: u32) {
  if (!INT4) {
    if (local % 2u == 0u) {
      values[block + (token * HEAD_DIM + dim) / 2u] = halvesAt(local);
    }
    return;
  }
  let range = rangeOfGroup(local / 32u * 32u);
  let shift = token % 4u * 8u + token / 16u * 4u;
  let own = code(made[local], range.zero, range.inverse) << shift;
  values[block + dim * 4u + token % 16u / 4u] = (held & ~(15u << shift)) | own;
  if (local % 32u == 0u) {
    values[block + SCALES_AT * 4u + dim + token] = range.bits;
  }
}

fn halvesAt(at: u32) -> u32 {
  return halfBits(made[at]) | (halfBits(made[at + 1u]) << 16u);
}

fn rangeOfGroup(first: u32) -> Range {
  var least = vec4<f32>(LARGEST);
  var most = vec4<f32>(-LARGEST);
  for (var at = first; at < first + 32u; at += 4u) {
    let four = vec4<f32>(made[at], made[at + 1u], made[at + 2u], made[at + 3u]);
    least = min(least, four);
    most = max(most, four);
  }
  let leastTwo = min(least.xy, least.zw);
  let mostTwo = max(most.xy, most.zw);
  return rangeOf(min(leastTwo.x, leastTwo.y), max(mostTwo.x, mostTwo.y));
}
