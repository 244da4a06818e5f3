// appendKv: stores a step's keys and values in the cache, and prepares its queries, in one dispatch. Keys and queries: RMS norm
// of each head if the model has it, then RoPE (in halves); keys are then quantized. Values: a norm without a weight if the model
// has it, then quantized. A workgroup handles one piece (rows of one text in one page) of one head: x counts pieces, y is [keys of
// each KV head, values of each KV head, queries of each head]. No other workgroup writes its block, so words that values of
// several tokens share are changed without races.
// lib: step, batch, half, rotation, hadamard, encode, int4, int4Rows, appendValues
// <values>
const HEADS: u32 = 4u;
const KV_HEADS: u32 = 2u;
const HEAD_DIM: u32 = 64u;
const INT4: bool = true;
const RQ4: bool = false;
const BLOCK_WORDS: u32 = 80u;
const SCALES_AT: u32 = 64u;
// Dims that the cache holds of a key: HEAD_DIM, or only those that RoPE rotates if one vector is both key and value.
const KEY_DIM: u32 = 64u;
const KEY_WORDS: u32 = 80u;
const KEY_SCALES_AT: u32 = 64u;
// Keys come with all their dims, of which this kernel takes KEY_DIM. Queries, likewise, become KEY_DIM numbers followed by all dims
// times the weight of the keys' norm (0 for rotated dims).
const TAKES_KEYS: bool = false;
const TAKES_QUERIES: bool = false;
// Pairs of dims that RoPE rotates; 0: no RoPE.
const PAIRS: u32 = 32u;
const NORM_KEYS: bool = false;
const NORM_VALUES: bool = false;
const NORM_QUERIES: bool = false;
// HEAD_DIM / 4; 1 if there is no norm or it has no weight.
const KEY_NORM_WORDS: u32 = 1u;
const QUERY_NORM_WORDS: u32 = 1u;
// Each input is the sum of N splits of a product.
const SPLITS: u32 = 1u;
// </values>

const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const KEY_GROUPS: u32 = (KEY_DIM + 31u) / 32u;
// Numbers of a query.
const QUERY_DIM: u32 = select(HEAD_DIM, KEY_DIM + HEAD_DIM, TAKES_QUERIES);
// Tokens that are handled at a time, each by 32 lanes.
const ROWS: u32 = 4u;
const SIZE: u32 = 128u;
// For rotated codes.
const CODE_BITS: u32 = 4u;

struct Params {
  // Of each input, in floats: where token 0 begins, and the distance from one token to the next.
  keysAt: u32,
  keysStride: u32,
  valuesAt: u32,
  valuesStride: u32,
  queriesAt: u32,
  queriesStride: u32,
  table: u32,
  valueEpsilon: f32,
  keyEpsilon: f32,
  queryEpsilon: f32,
  // Floats from one split to the next.
  splitStride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> keysIn: array<f32>;
@group(0) @binding(3) var<storage, read> valuesIn: array<f32>;
@group(0) @binding(4) var<storage, read> queriesIn: array<f32>;
// [tokens][cos, sin][PAIRS]
@group(0) @binding(5) var<storage, read> angles: array<f32>;
// Uniform, because some devices have only 8 storage buffers.
@group(0) @binding(6) var<uniform> keyNorm: array<vec4<f32>, KEY_NORM_WORDS>;
@group(0) @binding(7) var<uniform> queryNorm: array<vec4<f32>, QUERY_NORM_WORDS>;
@group(0) @binding(8) var<storage, read_write> keys: array<u32>;
@group(0) @binding(9) var<storage, read_write> values: array<u32>;
// [tokens][HEADS][QUERY_DIM]
@group(0) @binding(10) var<storage, read_write> queries: array<f32>;
@group(0) @binding(11) var<storage, read> batch: array<u32>;

// Vectors of ROWS tokens; for values of int4: zero, 1 / scale of [32 tokens][GROUPS].
var<workgroup> vectors: array<f32, ROWS * 512u>;
// rq4: bits of a block's scales.
var<workgroup> scales: array<u32, 32>;
var<workgroup> sums: array<f32, SIZE>;
// For each token of the block: the factor of its values.
var<workgroup> valueFactors: array<f32, 32>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let piece = pieceAt(workgroup.x);
  // The block's tokens that are in this piece.
  let begin = piece.position % 32u;
  let stop = begin + piece.rows;
  // The step's row for token 0 of the block. It may be negative, as the piece may begin later, but adding a token makes it valid.
  let first = piece.row - begin;
  let table = params.table + piece.table;
  let block = piece.position / 32u;
  let unit = workgroup.y;
  if (unit < KV_HEADS) {
    let at = blockOf(table, block, KV_HEADS, unit) * KEY_WORDS * 4u;
    storeTurned(first, begin, stop, unit, false, at, local);
  } else if (unit < 2u * KV_HEADS) {
    let at = blockOf(table, block, KV_HEADS, unit - KV_HEADS) * BLOCK_WORDS * 4u;
    storeValues(first, begin, stop, unit - KV_HEADS, at, local);
  } else {
    storeTurned(first, begin, stop, unit - 2u * KV_HEADS, true, 0u, local);
  }
}

// Keys or queries: normalized, rotated by position, then stored in the cache or passed on.
fn storeTurned(first: u32, begin: u32, stop: u32, head: u32, isQuery: bool, block: u32, local: u32) {
  let row = local / 32u;
  let lane = local % 32u;
  let mine = row * HEAD_DIM;
  let dims = select(KEY_DIM, HEAD_DIM, isQuery || TAKES_KEYS);
  for (var start = begin; start < stop; start += ROWS) {
    let token = start + row;
    let live = token < stop;
    // The step's row.
    let t = first + token;
    var sum = 0.0;
    // The first pairs' angles are loaded together with the vector.
    // each K 0..1
    var turn{K} = vec2<f32>();
    if (live && lane + {32 * K}u < PAIRS) { turn{K} = angleAt(t, lane + {32 * K}u); }
    // end
    if (live) {
      for (var d = lane; d < dims; d += 32u) {
        var x = 0.0;
        if (isQuery) {
          let at = params.queriesAt + t * params.queriesStride + head * HEAD_DIM + d;
          x = queriesIn[at];
          for (var split = 1u; split < SPLITS; split++) {
            x += queriesIn[at + split * params.splitStride];
          }
        } else {
          let at = params.keysAt + t * params.keysStride + head * dims + d;
          x = keysIn[at];
          for (var split = 1u; split < SPLITS; split++) {
            x += keysIn[at + split * params.splitStride];
          }
        }
        vectors[mine + d] = x;
        sum += x * x;
      }
    }
    sums[local] = sum;
    workgroupBarrier();
    if ((NORM_KEYS && !isQuery) || (NORM_QUERIES && isQuery)) {
      var total = 0.0;
      for (var i = 0u; i < 32u; i++) {
        total += sums[row * 32u + i];
      }
      let epsilon = select(params.keyEpsilon, params.queryEpsilon, isQuery);
      let inverse = 1.0 / sqrt(total / f32(HEAD_DIM) + epsilon);
      for (var d = lane; d < HEAD_DIM; d += 32u) {
        var weight = 1.0;
        if (isQuery && QUERY_NORM_WORDS > 1u) {
          weight = queryNorm[d / 4u][d % 4u];
        } else if (!isQuery && KEY_NORM_WORDS > 1u) {
          weight = keyNorm[d / 4u][d % 4u];
        }
        vectors[mine + d] = vectors[mine + d] * inverse * weight;
      }
      workgroupBarrier();
    }
    if (PAIRS > 0u) {
      if (live) {
        // each K 0..1
        if (lane + {32 * K}u < PAIRS) { turnPair(mine + lane + {32 * K}u, turn{K}); }
        // end
        for (var i = lane + 64u; i < PAIRS; i += 32u) {
          turnPair(mine + i, angleAt(t, i));
        }
      }
      workgroupBarrier();
    }
    if (isQuery) {
      if (RQ4 && !TAKES_QUERIES) {
        rotateQuery(mine, lane);
      }
      if (live && TAKES_QUERIES) {
        takeQuery((t * HEADS + head) * QUERY_DIM, mine, lane);
      } else if (live) {
        for (var d = lane; d < HEAD_DIM; d += 32u) {
          queries[(t * HEADS + head) * HEAD_DIM + d] = vectors[mine + d];
        }
      }
    } else {
      if (TAKES_KEYS) {
        takeKey(mine, lane);
      }
      storeKey(block, token, live, mine, local);
    }
    workgroupBarrier();
  }
  if (RQ4 && !isQuery && local < 16u) {
    let at = block + KEY_SCALES_AT * 4u + local;
    keys[at] = withScales(keys[at], begin, stop, local);
  }
}

// The cosine and sine of an angle.
fn angleAt(t: u32, pair: u32) -> vec2<f32> {
  return vec2<f32>(angles[t * 2u * PAIRS + pair], angles[t * 2u * PAIRS + PAIRS + pair]);
}

fn turnPair(at: u32, turn: vec2<f32>) {
  let a = vectors[at];
  let b = vectors[at + PAIRS];
  vectors[at] = a * turn.x - b * turn.y;
  vectors[at + PAIRS] = b * turn.x + a * turn.y;
}

fn rotateQuery(mine: u32, lane: u32) {
  for (var d = lane; d < HEAD_DIM; d += 32u) {
    vectors[mine + d] = flippedSign(vectors[mine + d] * rotationFactor(HEAD_DIM), d);
  }
  hadamardRow(mine, lane, HEAD_DIM);
}

// Moves the rotated dims (the first of every pair, then the second) to the beginning of a key's row.
fn takeKey(mine: u32, lane: u32) {
  for (var start = 0u; start < KEY_DIM / 2u; start += 32u) {
    let i = start + lane;
    let x = vectors[mine + PAIRS + min(i, KEY_DIM / 2u - 1u)];
    workgroupBarrier();
    if (i < KEY_DIM / 2u) {
      vectors[mine + KEY_DIM / 2u + i] = x;
    }
    workgroupBarrier();
  }
}

fn takeQuery(at: u32, mine: u32, lane: u32) {
  for (var i = lane; i < KEY_DIM / 2u; i += 32u) {
    queries[at + i] = vectors[mine + i];
    queries[at + KEY_DIM / 2u + i] = vectors[mine + PAIRS + i];
  }
  for (var d = lane; d < HEAD_DIM; d += 32u) {
    let turns = select(d, d - PAIRS, d >= PAIRS) < KEY_DIM / 2u;
    queries[at + KEY_DIM + d] = select(vectors[mine + d] * keyNorm[d / 4u % KEY_NORM_WORDS][d % 4u], 0.0, turns);
  }
}

// A word of two tokens' scales, with those that this step computes put in.
fn withScales(known: u32, begin: u32, stop: u32, pair: u32) -> u32 {
  let low = pair * 2u >= begin && pair * 2u < stop;
  let high = pair * 2u + 1u >= begin && pair * 2u + 1u < stop;
  return select(known & 0xffffu, scales[pair * 2u], low)
    | select(known & 0xffff0000u, scales[pair * 2u + 1u] << 16u, high);
}

fn storeKey(block: u32, token: u32, live: bool, mine: u32, local: u32) {
  let row = local / 32u;
  let lane = local % 32u;
  if (RQ4) {
    let scale = encodeRow(true, mine, row, lane);
    if (live) {
      if (lane == 0u) {
        scales[token] = scale;
      }
      for (var i = lane; i < KEY_GROUPS * 4u; i += 32u) {
        var word = 0u;
        for (var c = 0u; c < 4u; c++) {
          let low = i / 4u * 32u + (i % 4u) * 4u + c;
          word |= u32(vectors[mine + low]) << (c * 8u);
          if (low + 16u < KEY_DIM) {
            word |= u32(vectors[mine + low + 16u]) << (c * 8u + 4u);
          }
        }
        keys[block + (i / 4u * 32u + token) * 4u + i % 4u] = word;
      }
    }
    return;
  }
  if (!INT4) {
    if (live) {
      for (var i = lane; i < KEY_DIM / 2u; i += 32u) {
        let pair = halfBits(vectors[mine + 2u * i]) | (halfBits(vectors[mine + 2u * i + 1u]) << 16u);
        keys[block + ((i / 4u) * 32u + token) * 4u + i % 4u] = pair;
      }
    }
    return;
  }
  findEnds(mine, row, lane, KEY_DIM);
  if (live) {
    for (var i = lane; i < KEY_GROUPS * 4u; i += 32u) {
      let range = wordRange(row, i);
      var word = 0u;
      for (var c = 0u; c < 4u; c++) {
        word |= code(vectors[mine + firstOf(i) + c], range.zero, range.inverse) << (c * 8u);
        if (isWhole(i, KEY_DIM)) {
          word |= code(vectors[mine + firstOf(i) + 16u + c], range.zero, range.inverse) << (c * 8u + 4u);
        }
      }
      keys[block + (i / 4u * 32u + token) * 4u + i % 4u] = word;
      if (i % 4u == 0u) {
        keys[block + KEY_SCALES_AT * 4u + i * 8u + token] = range.bits;
      }
    }
  }
}
