// gatedDeltaChunks: gatedDelta for prompts, 8 tokens at once (Gated Delta Networks, arXiv 2412.06464; the WY form of DeltaNet, arXiv
// 2406.06484; test/device/delta-chunks.ts writes it down). As in gatedDelta a workgroup takes some rows of one head of one run, and
// LANES invocations hold a row of the state in registers. What all tokens of a chunk ask of a row is summed before any of them
// changes it; what they are to one another, the same for all rows, is worked out once; their changes follow by solving forward.
// Tokens past the run's last are zeros that change nothing.
// lib: step, batch, lanes
// <values>
const WORKGROUP: u32 = 128u;
const SUBGROUP: u32 = 1u;
// vec4s of a key: 8, 16, 24 or 32.
const KEY_FOURS: u32 = 32u;
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

// As many, so that each invocation of a row writes what one token says.
const TOKENS: u32 = 8u;
const LANES: u32 = 8u;
const ROWS: u32 = WORKGROUP / LANES;
const MINE: u32 = KEY_FOURS / LANES;
// Invocations that add up a query's squares.
const TEAM: u32 = WORKGROUP / TOKENS;

struct Token {
  // Factors that make query and key unit vectors, the query's over the root of its size.
  query: f32,
  key: f32,
  decay: f32,
  beta: f32,
}

// What a token's values, key and query count in its change and output, and its change in the next state.
struct Factors {
  beta: f32,
  asks: f32,
  says: f32,
  stays: f32,
}

// [TOKENS][KEY_FOURS] keys, then queries.
var<workgroup> vectors: array<vec4<f32>, 2u * TOKENS * KEY_FOURS>;
var<workgroup> values: array<f32, TOKENS * ROWS>;
// Halves of (k_t . k_i, q_t . k_i), [TOKENS][TOKENS][2].
var<workgroup> pairs: array<vec2<f32>, WORKGROUP>;
var<workgroup> squares: array<f32, WORKGROUP>;
var<workgroup> tokens: array<Token, TOKENS>;
// [TOKENS][2]: what a token's change takes from those of earlier ones, and what it says of them and of its own.
var<workgroup> coupling: array<vec4<f32>, 2u * TOKENS>;
var<workgroup> saying: array<vec4<f32>, 2u * TOKENS>;
var<workgroup> factors: array<Factors, TOKENS>;
// Of all tokens of the chunk.
var<workgroup> decay: f32;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let blocks = (params.valueDim + ROWS - 1u) / ROWS;
  let head = group.x / blocks;
  let firstRow = group.x % blocks * ROWS;
  let row = firstRow + local / LANES;
  let lane = local % LANES;
  let isRow = row < params.valueDim;
  let keyHead = select(head / (params.valueHeads / params.keyHeads), head % params.keyHeads, TILED);
  let run = runAt(group.y);
  let slot = params.valueHeads * params.valueDim * KEY_FOURS;
  let at = (head * params.valueDim + row) * KEY_FOURS + lane;

  var state: array<vec4<f32>, MINE>;
  if (isRow && run.readSlot != NO_SLOT) {
    for (var j = 0u; j < MINE; j++) {
      state[j] = states[run.readSlot * slot + at + j * LANES];
    }
  }
  // The next chunk's numbers are on their way while this one is taken in: a share of its vectors, one value, one token's gates.
  var coming: array<vec4<f32>, MINE>;
  for (var j = 0u; j < MINE; j++) {
    coming[j] = vectorAt(run, 0u, local + j * WORKGROUP, keyHead);
  }
  var comingValue = valueAt(run, 0u, head, firstRow, local);
  var comingGates = gatesAt(run, 0u, head, local);
  for (var first = 0u; first < run.tokens; first += TOKENS) {
    // The chunk before has been read after this barrier.
    workgroupBarrier();
    for (var j = 0u; j < MINE; j++) {
      vectors[local + j * WORKGROUP] = coming[j];
    }
    values[local] = comingValue;
    let gates = comingGates;
    workgroupBarrier();
    if (first + TOKENS < run.tokens) {
      for (var j = 0u; j < MINE; j++) {
        coming[j] = vectorAt(run, first + TOKENS, local + j * WORKGROUP, keyHead);
      }
      comingValue = valueAt(run, first + TOKENS, head, firstRow, local);
      comingGates = gatesAt(run, first + TOKENS, head, local);
    }
    // What the tokens are to one another.
    let pair = local / 2u;
    var products = vec2<f32>();
    if (pair % TOKENS <= pair / TOKENS) {
      for (var i = local % 2u; i < KEY_FOURS; i += 2u) {
        let key = vectors[pair % TOKENS * KEY_FOURS + i];
        let t = pair / TOKENS * KEY_FOURS + i;
        products += vec2<f32>(dot(vectors[t], key), dot(vectors[TOKENS * KEY_FOURS + t], key));
      }
    }
    pairs[local] = products;
    var square = 0.0;
    for (var i = local % TEAM; i < KEY_FOURS; i += TEAM) {
      let query = vectors[(TOKENS + local / TEAM) * KEY_FOURS + i];
      square += dot(query, query);
    }
    squares[local] = square;
    workgroupBarrier();
    if (local < TOKENS) {
      tokens[local] = tokenOf(local, head, gates, first + local < run.tokens);
    }
    workgroupBarrier();
    if (local < 2u * TOKENS) {
      couple(local / 2u, local % 2u);
    } else if (local >= 2u * TOKENS && local < 3u * TOKENS) {
      factors[local - 2u * TOKENS] = factorsOf(local - 2u * TOKENS);
    }
    workgroupBarrier();
    // What they ask of the row as it is.
    // each T 0..7
    var known{T} = 0.0;
    var said{T} = 0.0;
    // end
    for (var j = 0u; j < MINE; j++) {
      let i = j * LANES + lane;
      // each T 0..7
      known{T} += dot(state[j], vectors[i + {T}u * KEY_FOURS]);
      said{T} += dot(state[j], vectors[i + {T + 8}u * KEY_FOURS]);
      // end
    }
    var said = 0.0;
    // each T 0..7
    known{T} = lanesSum(known{T}, local);
    said{T} = lanesSum(said{T}, local);
    said = select(said, said{T}, lane == {T}u);
    // end
    // The changes, forward: coupling is 0 where a change is not known yet.
    let rowValues = local / LANES;
    var low = vec4<f32>();
    var high = vec4<f32>();
    // each T 0..3
    let factors{T} = factors[{T}];
    low[{T}] = factors{T}.beta * values[rowValues + {T}u * ROWS] + factors{T}.asks * known{T} + dot(coupling[{2 * T}], low);
    // end
    // each T 0..3
    let factors{T + 4} = factors[{T + 4}];
    high[{T}] = factors{T + 4}.beta * values[rowValues + {T + 4}u * ROWS] + factors{T + 4}.asks * known{T + 4}
      + dot(coupling[{2 * T + 8}], low) + dot(coupling[{2 * T + 9}], high);
    // end
    if (isRow && first + lane < run.tokens) {
      let token = run.first + first + lane;
      out[(token * params.valueHeads + head) * params.valueDim + row] = factors[lane].says * said
        + dot(saying[2u * lane], low) + dot(saying[2u * lane + 1u], high);
    }
    // The state after them.
    low *= vec4<f32>(factors0.stays, factors1.stays, factors2.stays, factors3.stays);
    high *= vec4<f32>(factors4.stays, factors5.stays, factors6.stays, factors7.stays);
    for (var j = 0u; j < MINE; j++) {
      let i = j * LANES + lane;
      var next = decay * state[j];
      // each T 0..3
      next += low[{T}] * vectors[i + {T}u * KEY_FOURS] + high[{T}] * vectors[i + {T + 4}u * KEY_FOURS];
      // end
      state[j] = next;
    }
  }
  if (isRow) {
    for (var j = 0u; j < MINE; j++) {
      states[run.writeSlot * slot + at + j * LANES] = state[j];
    }
  }
}

// Number `index` of `vectors` for the chunk that begins at a run's token `first`.
fn vectorAt(run: Run, first: u32, index: u32, keyHead: u32) -> vec4<f32> {
  let token = first + index / KEY_FOURS % TOKENS;
  let isKey = index < TOKENS * KEY_FOURS;
  let cols = 2u * params.keyHeads * KEY_FOURS + params.valueHeads * params.valueDim / 4u;
  let col = (keyHead + select(0u, params.keyHeads, isKey)) * KEY_FOURS + index % KEY_FOURS;
  if (token >= run.tokens) {
    return vec4<f32>();
  }
  return x[(run.first + token) * cols + col];
}

// Likewise of `values`.
fn valueAt(run: Run, first: u32, head: u32, firstRow: u32, index: u32) -> f32 {
  let token = first + index / ROWS;
  let row = firstRow + index % ROWS;
  let cols = 2u * params.keyHeads * KEY_FOURS + params.valueHeads * params.valueDim / 4u;
  if (token >= run.tokens || row >= params.valueDim) {
    return 0.0;
  }
  let value = head * params.valueDim + row;
  return x[(run.first + token) * cols + 2u * params.keyHeads * KEY_FOURS + value / 4u][value % 4u];
}

// a and b of token `first + index` of a run.
fn gatesAt(run: Run, first: u32, head: u32, index: u32) -> vec2<f32> {
  if (index >= TOKENS || first + index >= run.tokens) {
    return vec2<f32>();
  }
  let row = run.first + first + index;
  return vec2<f32>(a[params.aOffset + row * params.aStride + head], b[params.bOffset + row * params.bStride + head]);
}

fn tokenOf(t: u32, head: u32, gates: vec2<f32>, isThere: bool) -> Token {
  if (!isThere) {
    return Token(0.0, 0.0, 1.0, 0.0);
  }
  var square = 0.0;
  for (var i = 0u; i < TEAM; i++) {
    square += squares[t * TEAM + i];
  }
  let key = inverseSqrt(pairs[2u * (t * TOKENS + t)].x + pairs[2u * (t * TOKENS + t) + 1u].x + params.epsilon);
  let query = inverseSqrt(square + params.epsilon) * inverseSqrt(f32(4u * KEY_FOURS));
  return Token(query, key, exp(rates[head] * softplus(gates.x + bias[head])), 1.0 / (1.0 + exp(-gates.y)));
}

// Coupling and saying of token t with four tokens of `half`. Decays between two are multiplied, not divided: some are 0.
fn couple(t: u32, half: u32) {
  let others = 4u * half + vec4<u32>(0u, 1u, 2u, 3u);
  var between = vec4<f32>(1.0);
  // each J 1..7
  between *= select(vec4<f32>(1.0), vec4<f32>(tokens[{J}].decay), (others < vec4<u32>({J}u)) & vec4<bool>({J}u <= t));
  // end
  var taken = vec4<f32>();
  var told = vec4<f32>();
  // each I 0..3
  let i{I} = 4u * half + {I}u;
  let products{I} = pairs[2u * (t * TOKENS + i{I})] + pairs[2u * (t * TOKENS + i{I}) + 1u];
  taken[{I}] = select(0.0, products{I}.x * tokens[i{I}].key, i{I} < t);
  told[{I}] = select(0.0, products{I}.y * tokens[i{I}].key, i{I} <= t);
  // end
  coupling[2u * t + half] = -tokens[t].beta * tokens[t].key * between * taken;
  saying[2u * t + half] = tokens[t].query * between * told;
}

fn factorsOf(t: u32) -> Factors {
  var before = 1.0;
  var after = 1.0;
  // each J 0..7
  before *= select(1.0, tokens[{J}].decay, {J}u <= t);
  after *= select(tokens[{J}].decay, 1.0, {J}u <= t);
  // end
  if (t == TOKENS - 1u) {
    decay = before;
  }
  let token = tokens[t];
  return Factors(token.beta, -token.beta * before * token.key, before * token.query, after * token.key);
}

// ln(1 + e^value). Near 1 a logarithm loses the digits that decays over thousands of tokens depend on: a series there.
fn softplus(value: f32) -> f32 {
  let y = exp(-abs(value));
  let series = y * (1.0 - y * (0.5 - y * (1.0 / 3.0 - y * (0.25 - y * (0.2 - y / 6.0)))));
  return max(value, 0.0) + select(log(1.0 + y), series, y < 0.1);
}
