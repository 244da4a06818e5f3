// gatedDelta: S = decay S; S += beta (v - S k) k^T; out = S q, token by token (Gated Delta Networks, arXiv 2412.06464). A row of
// a head's state needs no other row, so a workgroup takes some rows of one head of one run; LANES invocations hold a row in
// registers, from the slot that the run reads to the one that it writes. Queries and keys come TOKENS at a time; what is the
// same for all rows (their norms, decay, beta) is worked out once for those.
// lib: step, batch, lanes
// <values>
const WORKGROUP: u32 = 128u;
const SUBGROUP: u32 = 1u;
const LANES: u32 = 8u;
// vec4s of a key, a multiple of LANES.
const KEY_FOURS: u32 = 32u;
const TOKENS: u32 = 8u;
// Value head h reads key head h % keyHeads.
const TILED: bool = false;
// </values>

struct Params {
  keyHeads: u32,
  valueHeads: u32,
  valueDim: u32,
  // In floats; strides are from one token's row to the next.
  aOffset: u32,
  aStride: u32,
  bOffset: u32,
  bStride: u32,
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [tokens][q: keyHeads, k: keyHeads, v: valueHeads]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> a: array<f32>;
@group(0) @binding(4) var<storage, read> b: array<f32>;
// [valueHeads]
@group(0) @binding(5) var<storage, read> rates: array<f32>;
@group(0) @binding(6) var<storage, read> bias: array<f32>;
// [slots][valueHeads][valueDim][KEY_FOURS]
@group(0) @binding(7) var<storage, read_write> states: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> batch: array<u32>;
// [tokens][valueHeads][valueDim]
@group(0) @binding(9) var<storage, read_write> out: array<f32>;

const ROWS: u32 = WORKGROUP / LANES;
const MINE: u32 = KEY_FOURS / LANES;
// Invocations that add up a token's squares.
const TEAM: u32 = WORKGROUP / TOKENS;

struct Token {
  // Factors that make query and key unit vectors, the query's over the root of its size.
  query: f32,
  key: f32,
  // Of the two.
  product: f32,
  decay: f32,
  beta: f32,
}

var<workgroup> queries: array<vec4<f32>, TOKENS * KEY_FOURS>;
var<workgroup> keys: array<vec4<f32>, TOKENS * KEY_FOURS>;
var<workgroup> values: array<f32, TOKENS * ROWS>;
var<workgroup> sums: array<vec3<f32>, WORKGROUP>;
var<workgroup> tokens: array<Token, TOKENS>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let blocks = (params.valueDim + ROWS - 1u) / ROWS;
  let head = group.x / blocks;
  let firstRow = group.x % blocks * ROWS;
  let row = firstRow + local / LANES;
  let lane = local % LANES;
  let isRow = row < params.valueDim;
  let keyHead = select(head / (params.valueHeads / params.keyHeads), head % params.keyHeads, TILED);
  let cols = 2u * params.keyHeads * KEY_FOURS + params.valueHeads * params.valueDim / 4u;
  let run = runAt(group.y);
  let slot = params.valueHeads * params.valueDim * KEY_FOURS;
  let at = (head * params.valueDim + row) * KEY_FOURS + lane;

  var state: array<vec4<f32>, MINE>;
  if (isRow && run.readSlot != NO_SLOT) {
    for (var j = 0u; j < MINE; j++) {
      state[j] = states[run.readSlot * slot + at + j * LANES];
    }
  }
  for (var first = 0u; first < run.tokens; first += TOKENS) {
    let count = min(TOKENS, run.tokens - first);
    let firstToken = run.first + first;
    // Fetch. The tokens before have been read after this barrier.
    workgroupBarrier();
    for (var i = local; i < count * KEY_FOURS; i += WORKGROUP) {
      let source = (firstToken + i / KEY_FOURS) * cols + keyHead * KEY_FOURS + i % KEY_FOURS;
      queries[i] = x[source];
      keys[i] = x[source + params.keyHeads * KEY_FOURS];
    }
    for (var i = local; i < count * ROWS; i += WORKGROUP) {
      let valueRow = firstRow + i % ROWS;
      if (valueRow < params.valueDim) {
        let value = head * params.valueDim + valueRow;
        values[i] = x[(firstToken + i / ROWS) * cols + 2u * params.keyHeads * KEY_FOURS + value / 4u][value % 4u];
      }
    }
    workgroupBarrier();
    // What all rows share.
    var sum = vec3<f32>();
    if (local / TEAM < count) {
      for (var i = local % TEAM; i < KEY_FOURS; i += TEAM) {
        let q = queries[local / TEAM * KEY_FOURS + i];
        let k = keys[local / TEAM * KEY_FOURS + i];
        sum += vec3<f32>(dot(q, q), dot(k, k), dot(q, k));
      }
    }
    sums[local] = sum;
    workgroupBarrier();
    if (local < count) {
      tokens[local] = tokenOf(firstToken + local, local, head);
    }
    workgroupBarrier();
    // The recurrence.
    for (var t = 0u; t < count; t++) {
      let token = tokens[t];
      var known = 0.0;
      var said = 0.0;
      for (var j = 0u; j < MINE; j++) {
        known += dot(state[j], keys[t * KEY_FOURS + j * LANES + lane]);
        said += dot(state[j], queries[t * KEY_FOURS + j * LANES + lane]);
      }
      known = lanesSum(known, local) * token.decay * token.key;
      said = lanesSum(said, local) * token.decay * token.query;
      let change = token.beta * (values[t * ROWS + local / LANES] - known);
      for (var j = 0u; j < MINE; j++) {
        state[j] = token.decay * state[j] + change * token.key * keys[t * KEY_FOURS + j * LANES + lane];
      }
      if (isRow && lane == 0u) {
        out[((firstToken + t) * params.valueHeads + head) * params.valueDim + row] = said + change * token.product;
      }
    }
  }
  if (isRow) {
    for (var j = 0u; j < MINE; j++) {
      states[run.writeSlot * slot + at + j * LANES] = state[j];
    }
  }
}

fn tokenOf(row: u32, index: u32, head: u32) -> Token {
  var total = vec3<f32>();
  for (var i = 0u; i < TEAM; i++) {
    total += sums[index * TEAM + i];
  }
  let key = inverseSqrt(total.y + params.epsilon);
  let query = inverseSqrt(total.x + params.epsilon) * inverseSqrt(f32(4u * KEY_FOURS));
  let rate = rates[head] * softplus(a[params.aOffset + row * params.aStride + head] + bias[head]);
  let beta = 1.0 / (1.0 + exp(-b[params.bOffset + row * params.bStride + head]));
  return Token(query, key, total.z * query * key, exp(rate), beta);
}

// ln(1 + e^value). Near 1 a logarithm loses the digits that decays over thousands of tokens depend on: a series there.
fn softplus(value: f32) -> f32 {
  let y = exp(-abs(value));
  let series = y * (1.0 - y * (0.5 - y * (1.0 / 3.0 - y * (0.25 - y * (0.2 - y / 6.0)))));
  return max(value, 0.0) + select(log(1.0 + y), series, y < 0.1);
}
