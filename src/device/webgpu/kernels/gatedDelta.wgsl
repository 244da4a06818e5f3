// gatedDelta: S = decay S; S += beta (v - S k) k^T; out = S q, token by token (Gated Delta Networks, arXiv 2412.06464). The rows of
// a head's state do not depend on each other, so a workgroup computes some rows of one head of one run. LANES invocations hold a row in
// registers, from the slot that the run reads to the slot that it writes. Each four of a row is a variable with a name: compilers keep
// an array in memory if a loop that they do not unroll indexes it. TOKENS tokens are processed at a time, while the next ones are
// loaded. Norms, decays and betas are the same for all rows and are computed once for these tokens.
// lib: step, batch, lanes, lanesTwo, softplus
// <values>
const WORKGROUP: u32 = 128u;
const SUBGROUP: u32 = 1u;
const LANES: u32 = 8u;
// vec4s of a key: a multiple of LANES, at most 8 LANES.
const KEY_FOURS: u32 = 32u;
const TOKENS: u32 = 8u;
// true: value head h reads key head h % keyHeads; false: h / (valueHeads / keyHeads).
const TILED: bool = false;
// </values>

// include: deltaBindings
const ROWS: u32 = WORKGROUP / LANES;
const MINE: u32 = KEY_FOURS / LANES;
// Invocations that sum the squares of one token.
const TEAM: u32 = WORKGROUP / TOKENS;

struct Token {
  // Factors that make the query and the key unit vectors. The query's includes 1 / sqrt(its number of dims).
  query: f32,
  key: f32,
  // The dot product of both after these factors.
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

  // each J 0..7
  var state{J} = vec4<f32>();
  // end
  if (isRow && run.readSlot != NO_SLOT) {
    // each J 0..7 if MINE > J
    state{J} = states[run.readSlot * slot + at + {J}u * LANES];
    // end
  }
  let queryAt = keyHead * KEY_FOURS;
  let keyAt = (params.keyHeads + keyHead) * KEY_FOURS;
  // The next tokens' vectors: an invocation loads two fours of the queries and two of the keys of TOKENS tokens.
  // each I 0..1
  var query{I} = vectorAt(run, 0u, local + {I}u * WORKGROUP, queryAt, cols);
  var key{I} = vectorAt(run, 0u, local + {I}u * WORKGROUP, keyAt, cols);
  // end
  var value = valueAt(run, 0u, local, head, firstRow, cols);
  var gates = gatesAt(run, local, head);
  for (var first = 0u; first < run.tokens; first += TOKENS) {
    let count = min(TOKENS, run.tokens - first);
    let firstToken = run.first + first;
    // 1. Store what was loaded, and load the next tokens. After this barrier the previous tokens have been read.
    workgroupBarrier();
    // each I 0..1
    if (local + {I}u * WORKGROUP < count * KEY_FOURS) {
      queries[local + {I}u * WORKGROUP] = query{I};
      keys[local + {I}u * WORKGROUP] = key{I};
    }
    query{I} = vectorAt(run, first + TOKENS, local + {I}u * WORKGROUP, queryAt, cols);
    key{I} = vectorAt(run, first + TOKENS, local + {I}u * WORKGROUP, keyAt, cols);
    // end
    if (local < count * ROWS) {
      values[local] = value;
    }
    value = valueAt(run, first + TOKENS, local, head, firstRow, cols);
    for (var i = local + WORKGROUP; i < count * ROWS; i += WORKGROUP) {
      values[i] = valueAt(run, first, i, head, firstRow, cols);
    }
    workgroupBarrier();
    // 2. Norms, decays and betas, which all rows share.
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
      tokens[local] = tokenOf(gates, local, head);
    }
    gates = gatesAt(run, first + TOKENS + local, head);
    workgroupBarrier();
    // 3. The recurrence.
    for (var t = 0u; t < count; t++) {
      let token = tokens[t];
      var known = 0.0;
      var said = 0.0;
      let four = t * KEY_FOURS + lane;
      // each J 0..7
      var asked{J}: vec4<f32>;
      // end
      // each J 0..7 if MINE > J
      asked{J} = keys[four + {J}u * LANES];
      known += dot(state{J}, asked{J});
      said += dot(state{J}, queries[four + {J}u * LANES]);
      // end
      let both = lanesTwo(vec2<f32>(known, said), local);
      known = both.x * token.decay * token.key;
      said = both.y * token.decay * token.query;
      let change = token.beta * (values[t * ROWS + local / LANES] - known);
      let added = change * token.key;
      // each J 0..7 if MINE > J
      state{J} = token.decay * state{J} + added * asked{J};
      // end
      if (isRow && lane == 0u) {
        out[((firstToken + t) * params.valueHeads + head) * params.valueDim + row] = said + change * token.product;
      }
    }
  }
  if (isRow) {
    // each J 0..7 if MINE > J
    states[run.writeSlot * slot + at + {J}u * LANES] = state{J};
    // end
  }
}

// The i-th four of the queries or keys of the tokens from `first` on; at: where they begin in a row. 0 past the run's last token.
fn vectorAt(run: Run, first: u32, i: u32, at: u32, cols: u32) -> vec4<f32> {
  let token = first + i / KEY_FOURS;
  if (i >= TOKENS * KEY_FOURS || token >= run.tokens) {
    return vec4<f32>();
  }
  return x[(run.first + token) * cols + at + i % KEY_FOURS];
}

// The value of one of the workgroup's rows; 0 past the last row or token.
fn valueAt(run: Run, first: u32, i: u32, head: u32, firstRow: u32, cols: u32) -> f32 {
  let token = first + i / ROWS;
  let row = firstRow + i % ROWS;
  if (i >= TOKENS * ROWS || token >= run.tokens || row >= params.valueDim) {
    return 0.0;
  }
  let value = head * params.valueDim + row;
  return x[(run.first + token) * cols + 2u * params.keyHeads * KEY_FOURS + value / 4u][value % 4u];
}

// a and b of one of the run's tokens; 0 past the last one.
fn gatesAt(run: Run, token: u32, head: u32) -> vec2<f32> {
  if (token >= run.tokens) {
    return vec2<f32>();
  }
  let row = run.first + token;
  return vec2<f32>(a[params.aOffset + row * params.aStride + head], b[params.bOffset + row * params.bStride + head]);
}

fn tokenOf(gates: vec2<f32>, index: u32, head: u32) -> Token {
  var total = vec3<f32>();
  for (var i = 0u; i < TEAM; i++) {
    total += sums[index * TEAM + i];
  }
  let key = inverseSqrt(total.y + params.epsilon);
  let query = inverseSqrt(total.x + params.epsilon) * inverseSqrt(f32(4u * KEY_FOURS));
  let rate = rates[head] * softplus(gates.x + bias[head]);
  let beta = 1.0 / (1.0 + exp(-gates.y));
  return Token(query, key, total.z * query * key, exp(rate), beta);
}
