// gatedDelta: S = decay S; S += beta (v - S k) k^T; out = S q (Gated Delta Networks, arXiv 2412.06464). The rows of a head's state do
// not depend on each other, so a workgroup computes some rows of one head of one run. LANES invocations hold ROWS_EACH rows in
// registers, from the slot that the run reads to the slot that it writes. Each four of a row is a variable with a name: compilers keep
// an array in memory if a loop that they do not unroll indexes it. The recurrence takes two tokens a step: the products of the state
// with the vectors of both are summed over the lanes at once, and what the first token adds to the second's products follows from
// products of their vectors (Factors). PAIRS pairs are fetched at a time. Between their steps the next ones are loaded, and the factors
// of these are computed.
// lib: step, batch, lanes, lanesTotal, teamFours, softplus
// <values>
const WORKGROUP: u32 = 128u;
const SUBGROUP: u32 = 1u;
const LANES: u32 = 8u;
// Rows of each invocation: 1 or 2.
const ROWS_EACH: u32 = 2u;
// vec4s of a key: a multiple of LANES, at most 8 LANES.
const KEY_FOURS: u32 = 32u;
// Pairs of a fetch: at most 4, and PAIRS * KEY_FOURS at most WORKGROUP.
const PAIRS: u32 = 4u;
// true: value head h reads key head h % keyHeads; false: h / (valueHeads / keyHeads).
const TILED: bool = false;
// </values>

// include: deltaBindings

const TEAMS: u32 = WORKGROUP / LANES;
const ROWS: u32 = TEAMS * ROWS_EACH;
// The distance between the two rows of an invocation.
const TEAM_FOURS: u32 = TEAMS * KEY_FOURS;
const MINE: u32 = KEY_FOURS / LANES;
const TOKENS: u32 = 2u * PAIRS;
// Values of a fetch that an invocation loads: at most 8.
const VALUES: u32 = (TOKENS * ROWS + WORKGROUP - 1u) / WORKGROUP;
// Outputs of a fetch that an invocation keeps until the fetch ends.
const KEPT: u32 = (TOKENS + LANES - 1u) / LANES;
// Invocations that load the vectors of a pair (lib/teamFours).
const TEAM: u32 = KEY_FOURS;

// Factors of a pair, tokens 0 and 1, which all rows share. Token 1 may be past the run's end. k and q are the stored vectors, and x, y,
// z, w the elements of each vec4.
struct Factors {
  // change0 = x v0 - y (S k0); out0 = z (S q0) + w change0
  first: vec4<f32>,
  // change1 = x v1 - y (S k1) - z change0; out1 = w (S q1) + the next two
  second: vec4<f32>,
  // out1 = ... + x change0 + y change1; S = z S + w change0 k0 + ...
  both: vec4<f32>,
  // ... + last change1 k1
  last: f32,
}

var<workgroup> queries: array<vec4<f32>, TOKENS * KEY_FOURS>;
var<workgroup> keys: array<vec4<f32>, TOKENS * KEY_FOURS>;
var<workgroup> values: array<f32, TOKENS * ROWS>;
var<workgroup> factors: array<Factors, 4>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let blocks = (params.valueDim + ROWS - 1u) / ROWS;
  let head = group.x / blocks;
  let firstRow = group.x % blocks * ROWS;
  let team = local / LANES;
  let lane = local % LANES;
  let keyHead = select(head / (params.valueHeads / params.keyHeads), head % params.keyHeads, TILED);
  let cols = 2u * params.keyHeads * KEY_FOURS + params.valueHeads * params.valueDim / 4u;
  let run = runAt(group.y);
  let slot = params.valueHeads * params.valueDim * KEY_FOURS;
  let at = (head * params.valueDim + firstRow + team) * KEY_FOURS + lane;
  let rate = rates[head];
  let shift = bias[head];

  // each R 0..1
  // each J 0..7
  var state{R}_{J} = vec4<f32>();
  // end
  // end
  // each R 0..1 if ROWS_EACH > R
  if (firstRow + {R}u * TEAMS + team < params.valueDim && run.readSlot != NO_SLOT) {
    // each J 0..7 if MINE > J
    state{R}_{J} = states[run.readSlot * slot + at + {R}u * TEAM_FOURS + {J}u * LANES];
    // end
  }
  // end
  // What an invocation loads of the next tokens: one four of the queries and of the keys of a pair, the pair's gates, and values.
  let pair = local / KEY_FOURS;
  let queryAt = keyHead * KEY_FOURS + local % KEY_FOURS;
  let keyAt = queryAt + params.keyHeads * KEY_FOURS;
  // each T 0..1
  var query{T} = vectorAt(run, 0u, 2u * pair + {T}u, queryAt, cols);
  var key{T} = vectorAt(run, 0u, 2u * pair + {T}u, keyAt, cols);
  // end
  // each V 0..7
  var value{V} = 0.0;
  // end
  // each V 0..7 if VALUES > V
  value{V} = valueAt(run, 0u, local + {V}u * WORKGROUP, head, firstRow, cols);
  // end
  var gates = gatesAt(run, 2u * pair, head);
  var shares = factorsOf(query0, key0, query1, key1, gates, rate, shift, 2u * pair + 1u < run.tokens, local);
  for (var first = 0u; first < run.tokens; first += TOKENS) {
    let count = min(TOKENS, run.tokens - first);
    // Store what was loaded, and load the next tokens. After this barrier the previous tokens have been read.
    workgroupBarrier();
    if (pair < PAIRS) {
      let four = local + pair * KEY_FOURS;
      queries[four] = query0;
      queries[four + KEY_FOURS] = query1;
      keys[four] = key0;
      keys[four + KEY_FOURS] = key1;
      if (local % KEY_FOURS == 0u) {
        factors[pair] = shares;
      }
    }
    // each V 0..7 if VALUES > V
    if (local + {V}u * WORKGROUP < TOKENS * ROWS) {
      values[local + {V}u * WORKGROUP] = value{V};
    }
    // end
    let next = first + TOKENS;
    // each T 0..1
    query{T} = vectorAt(run, next, 2u * pair + {T}u, queryAt, cols);
    key{T} = vectorAt(run, next, 2u * pair + {T}u, keyAt, cols);
    // end
    // each V 0..7 if VALUES > V
    value{V} = valueAt(run, next, local + {V}u * WORKGROUP, head, firstRow, cols);
    // end
    gates = gatesAt(run, next + 2u * pair, head);
    workgroupBarrier();
    // The recurrence. It is written out, because constant places in workgroup memory need no check of bounds.
    // each R 0..1
    var kept{R}: array<f32, 8>;
    // end
    // each P 0..3 if PAIRS > P
    if (count > {2 * P}u) {
      let four = lane + {2 * P}u * KEY_FOURS;
      // each J 0..7
      var first{J}: vec4<f32>;
      var second{J}: vec4<f32>;
      // end
      // each R 0..1
      var sum{R} = vec4<f32>();
      // end
      // each J 0..7 if MINE > J
      first{J} = keys[four + {J}u * LANES];
      second{J} = keys[four + {J}u * LANES + KEY_FOURS];
      let query{J}0 = queries[four + {J}u * LANES];
      let query{J}1 = queries[four + {J}u * LANES + KEY_FOURS];
      // each R 0..1 if ROWS_EACH > R
      sum{R} = asked(sum{R}, state{R}_{J}, first{J}, second{J}, query{J}0, query{J}1);
      // end
      // end
      let own = factors[{P}];
      // each R 0..1 if ROWS_EACH > R
      sum{R} = lanesTotal(sum{R}, local);
      let row{R} = {R}u * TEAMS + team;
      let change{R} = own.first.x * values[{2 * P}u * ROWS + row{R}] - own.first.y * sum{R}.x;
      let after{R} = own.second.x * values[{2 * P + 1}u * ROWS + row{R}] - own.second.y * sum{R}.y - own.second.z * change{R};
      // each J 0..7 if MINE > J
      state{R}_{J} = fma(vec4<f32>(own.last * after{R}), second{J}, fma(vec4<f32>(own.both.w * change{R}), first{J}, own.both.z * state{R}_{J}));
      // end
      if (lane == {2 * P}u % LANES) {
        kept{R}[{2 * P}u / LANES] = own.first.z * sum{R}.z + own.first.w * change{R};
      }
      if (lane == {2 * P + 1}u % LANES) {
        kept{R}[{2 * P + 1}u / LANES] = own.second.w * sum{R}.w + own.both.x * change{R} + own.both.y * after{R};
      }
      // end
    }
    // only P 0..0
    if (next < run.tokens) {
      shares = factorsOf(query0, key0, query1, key1, gates, rate, shift, next + 2u * pair + 1u < run.tokens, local);
    }
    // end
    // end
    let further = LANES * params.valueHeads * params.valueDim;
    // each R 0..1 if ROWS_EACH > R
    if (firstRow + {R}u * TEAMS + team < params.valueDim) {
      let index = ((run.first + first + lane) * params.valueHeads + head) * params.valueDim + firstRow + {R}u * TEAMS + team;
      // each K 0..7 if KEPT > K
      if ({K}u * LANES + lane < count) {
        out[index + {K}u * further] = kept{R}[{K}];
      }
      // end
    }
    // end
  }
  // each R 0..1 if ROWS_EACH > R
  if (firstRow + {R}u * TEAMS + team < params.valueDim) {
    // each J 0..7 if MINE > J
    states[run.writeSlot * slot + at + {R}u * TEAM_FOURS + {J}u * LANES] = state{R}_{J};
    // end
  }
  // end
}

// What one four of a row of the state adds to the row's products with the keys and queries of both tokens.
fn asked(sum: vec4<f32>, state: vec4<f32>, k0: vec4<f32>, k1: vec4<f32>, q0: vec4<f32>, q1: vec4<f32>) -> vec4<f32> {
  return vec4<f32>(chain(sum.x, state, k0), chain(sum.y, state, k1), chain(sum.z, state, q0), chain(sum.w, state, q1));
}

fn chain(sum: f32, x: vec4<f32>, y: vec4<f32>) -> f32 {
  return fma(x.w, y.w, fma(x.z, y.z, fma(x.y, y.y, fma(x.x, y.x, sum))));
}

// The vec4 at `at` in the row of token first + index; 0 past the fetch or the run's last token.
fn vectorAt(run: Run, first: u32, index: u32, at: u32, cols: u32) -> vec4<f32> {
  if (index >= TOKENS || first + index >= run.tokens) {
    return vec4<f32>();
  }
  return x[(run.first + first + index) * cols + at];
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

// a and b of a pair, whose first token is the run's `token`.
fn gatesAt(run: Run, token: u32, head: u32) -> vec4<f32> {
  return vec4<f32>(gateAt(run, token, head), gateAt(run, token + 1u, head));
}

fn gateAt(run: Run, token: u32, head: u32) -> vec2<f32> {
  if (token >= run.tokens) {
    return vec2<f32>();
  }
  let row = run.first + token;
  return vec2<f32>(a[params.aOffset + row * params.aStride + head], b[params.bOffset + row * params.bStride + head]);
}

// The factors of a pair, for the invocations that have loaded parts of its vectors. They include those that make queries and keys unit
// vectors, and for queries 1 / sqrt(their number of dims).
fn factorsOf(
  q0: vec4<f32>, k0: vec4<f32>, q1: vec4<f32>, k1: vec4<f32>, gates: vec4<f32>, rate: f32, shift: f32, isPair: bool, local: u32,
) -> Factors {
  let squares = teamFours(vec4<f32>(dot(q0, q0), dot(k0, k0), dot(q1, q1), dot(k1, k1)), local);
  let products = teamFours(vec4<f32>(dot(k0, q0), dot(k1, q1), dot(k0, k1), dot(k0, q1)), local);
  let units = inverseSqrt(squares + params.epsilon);
  let size = inverseSqrt(f32(4u * KEY_FOURS));
  let query0 = units.x * size;
  let key0 = units.y;
  let query1 = units.z * size;
  let key1 = units.w;
  let decay0 = exp(rate * softplus(gates.x + shift));
  let beta0 = 1.0 / (1.0 + exp(-gates.y));
  let decay1 = select(1.0, exp(rate * softplus(gates.z + shift)), isPair);
  let beta1 = select(0.0, 1.0 / (1.0 + exp(-gates.w)), isPair);
  return Factors(
    vec4<f32>(beta0, beta0 * decay0 * key0, decay0 * query0, products.x * key0 * query0),
    vec4<f32>(beta1, beta1 * decay1 * decay0 * key1, beta1 * decay1 * key1 * key0 * products.z, query1 * decay1 * decay0),
    vec4<f32>(query1 * decay1 * key0 * products.w, products.y * key1 * query1, decay0 * decay1, decay1 * key0),
    key1,
  );
}
