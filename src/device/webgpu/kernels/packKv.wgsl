// packKv: encodes whole pages of f16 vectors for a packed cache, keys by channel and values rotated, with the same bits as
// src/cache/codec-channel.ts and codec-rotated.ts. A workgroup does one page of one KV head: x is the block among those that the step
// packs, y is [keys of each KV head, values of each KV head].
// lib: step, batch, half, rotation, hadamard, encode
// <values>
const KV_HEADS: u32 = 2u;
const HEAD_DIM: u32 = 64u;
const KEY_BITS: u32 = 4u;
const VALUE_BITS: u32 = 4u;
// Dims that the cache holds of a key.
const KEY_DIM: u32 = 64u;
// Words of a page that is not packed: of its values, and of its keys.
const BLOCK_WORDS: u32 = 256u;
const KEY_BLOCK_WORDS: u32 = 256u;
const KEY_WORDS: u32 = 80u;
const KEY_SCALES_AT: u32 = 64u;
const VALUE_WORDS: u32 = 68u;
const VALUE_SCALES_AT: u32 = 64u;
// </values>

const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const KEY_GROUPS: u32 = (KEY_DIM + 31u) / 32u;
// Tokens that are handled at a time, each by 32 lanes.
const ROWS: u32 = 4u;
const SIZE: u32 = 128u;
// For rotated codes.
const CODE_BITS: u32 = VALUE_BITS;
const RQ4: bool = true;
const MOST_KEY_CODE: u32 = (1u << KEY_BITS) - 1u;
// 3 bits: where the third words begin in a block (lib/planes.wgsl).
const KEY_HIGHS_AT: u32 = (KEY_GROUPS + 1u) / 2u * 32u;
const VALUE_HIGHS_AT: u32 = GROUPS * 16u;
const DIMS_EACH: u32 = (HEAD_DIM + SIZE - 1u) / SIZE;

struct Params {
  // Where the pools' tables begin in `batch`.
  table: u32,
  recentTable: u32,
  // 0: all positions.
  window: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> recentKeys: array<u32>;
@group(0) @binding(3) var<storage, read> recentValues: array<u32>;
@group(0) @binding(4) var<storage, read_write> keys: array<u32>;
@group(0) @binding(5) var<storage, read_write> values: array<u32>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

// Vectors of ROWS tokens.
var<workgroup> vectors: array<f32, ROWS * HEAD_DIM>;
// For each dim of keys its scale, and in the bits above it its zero.
var<workgroup> channels: array<u32, KEY_GROUPS * 32u>;
// Bits of the tokens' scales.
var<workgroup> scales: array<u32, 32>;

// The 8 bits of a scale.
struct Channel {
  scale: u32,
  zero: i32,
}

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let pack = packAt(workgroup.x);
  // No later row sees this block, and its page may already belong to another text.
  if (params.window > 0u && pack.position >= pack.block * 32u + 31u + params.window) {
    return;
  }
  let kvHead = workgroup.y % KV_HEADS;
  let source = blockOf(params.recentTable + pack.table, pack.block, KV_HEADS, kvHead) * 4u;
  let to = blockOf(params.table + pack.table, pack.block, KV_HEADS, kvHead);
  if (workgroup.y < KV_HEADS) {
    packKeys(source * KEY_BLOCK_WORDS, to * KEY_WORDS * 4u, local);
  } else {
    packValues(source * BLOCK_WORDS, to * VALUE_WORDS * 4u, local);
  }
}

fn halfOf(word: u32, index: u32) -> f32 {
  return halfValue((word >> (index % 2u * 16u)) & 0xffffu);
}

fn keyAt(source: u32, token: u32, d: u32) -> f32 {
  // Clamped to what the largest scale can represent.
  return clamp(halfOf(recentKeys[source + (d / 8u * 32u + token) * 4u + d % 8u / 2u], d), -32000.0, 32000.0);
}

fn packKeys(source: u32, to: u32, local: u32) {
  for (var d = local; d < KEY_GROUPS * 32u; d += SIZE) {
    var channel = Channel();
    if (d < KEY_DIM) {
      var least = keyAt(source, 0u, d);
      var most = least;
      for (var token = 1u; token < 32u; token++) {
        let x = keyAt(source, token, d);
        least = min(least, x);
        most = max(most, x);
      }
      channel = channelOf(least, most);
    }
    channels[d] = channel.scale | ((u32(channel.zero) & 0xffu) << 8u);
  }
  workgroupBarrier();
  for (var i = local; i < KEY_GROUPS * 16u; i += SIZE) {
    keys[to + KEY_SCALES_AT * 4u + i] = channels[i * 2u] | (channels[i * 2u + 1u] << 16u);
  }
  // Each thread does one group of one token.
  for (var item = local; item < KEY_GROUPS * 32u; item += SIZE) {
    let token = item % 32u;
    let group = item / 32u;
    var codes = vec4<u32>(0u);
    for (var i = 0u; i < 32u; i++) {
      let d = group * 32u + i;
      if (d < KEY_DIM) {
        codes = withCode(codes, keyCode(source, token, d), i, KEY_BITS);
      }
    }
    if (KEY_BITS == 3u) {
      let low = to + (group / 2u * 32u + token) * 4u + group % 2u * 2u;
      keys[low] = codes.x;
      keys[low + 1u] = codes.y;
      let high = select(group / 4u * 128u + token * 4u + group % 4u, token * KEY_GROUPS + group, KEY_GROUPS < 3u);
      keys[to + KEY_HIGHS_AT * 4u + high] = codes.z;
    } else {
      for (var word = 0u; word < 4u; word++) {
        keys[to + item * 4u + word] = codes[word];
      }
    }
  }
}

// Adds code `i` of 32. 4 bits: in the low half of byte i, or the high half of byte i - 16. 3 bits: see lib/planes.wgsl.
fn withCode(codes: vec4<u32>, code: u32, i: u32, bits: u32) -> vec4<u32> {
  var more = codes;
  if (bits == 3u) {
    let pair = i % 16u / 4u * 4u + i % 2u + i / 16u * 2u;
    let at = i % 4u / 2u * 16u;
    if (pair < 15u) {
      more[pair / 5u] |= code << (at + pair % 5u * 3u);
    } else {
      more |= ((vec4<u32>(code) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) << vec4<u32>(at + 15u);
    }
  } else {
    more[i % 16u / 4u] |= code << (i % 4u * 8u + i / 16u * 4u);
  }
  return more;
}

fn keyCode(source: u32, token: u32, d: u32) -> u32 {
  return u32(ratio(keyAt(source, token, d), channels[d] & 0xffu) - extractBits(i32(channels[d]), 8u, 8u));
}

// x / scale, rounded; scale is M 2^e with M from 8 to 15.
fn ratio(x: f32, scale: u32) -> i32 {
  let mantissa = 8 + i32(scale & 7u);
  let w = i32(round(x * powerOfTwo(22 - i32(scale >> 3u))));
  // A division of integers, exact; 256 is added and subtracted to keep the quotient positive.
  return (2 * w + (16 + 256 * 32) * mantissa) / (32 * mantissa) - 256;
}

// The smallest scale for a channel with these extremes, and its zero.
fn channelOf(low: f32, high: f32) -> Channel {
  let range = high - low;
  let largest = max(abs(low), abs(high));
  let need = max(range / f32(MOST_KEY_CODE), largest / 128.0);
  // One less than what an inexact division gives; the first scale is 2^-14.
  var scale = u32(max(8, i32(bitcast<u32>(need) >> 20u) - 112 * 8 - 1));
  for (; scale < 0xf7u; scale++) {
    let value = halfValue(scale << 7u);
    if (value * f32(MOST_KEY_CODE) < range || value * 128.0 < largest) {
      continue;
    }
    let zero = ratio(low, scale);
    if (ratio(high, scale) - zero <= i32(MOST_KEY_CODE) && zero >= -128 && zero <= 127) {
      break;
    }
  }
  return Channel(scale, ratio(low, scale));
}

// Each thread gathers the codes of its dims from the rows.
fn packValues(source: u32, to: u32, local: u32) {
  let row = local / 32u;
  let lane = local % 32u;
  let mine = row * HEAD_DIM;
  var packed = array<vec4<u32>, DIMS_EACH>();
  for (var start = 0u; start < 32u; start += ROWS) {
    for (var d = lane; d < HEAD_DIM; d += 32u) {
      let at = (start + row) * HEAD_DIM + d;
      vectors[mine + d] = halfOf(recentValues[source + at / 2u], at);
    }
    let scale = encodeRow(false, mine, row, lane);
    if (lane == 0u) {
      scales[start + row] = scale;
    }
    for (var t = start; t < start + ROWS; t++) {
      for (var i = 0u; i < DIMS_EACH; i++) {
        let d = min(local + i * SIZE, HEAD_DIM - 1u);
        packed[i] = withCode(packed[i], u32(vectors[(t - start) * HEAD_DIM + d]), t, VALUE_BITS);
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < DIMS_EACH; i++) {
    let d = local + i * SIZE;
    if (d < HEAD_DIM) {
      if (VALUE_BITS == 3u) {
        let low = to + (d / 16u * 8u + d % 8u) * 4u + d % 16u / 8u * 2u;
        values[low] = packed[i].x;
        values[low + 1u] = packed[i].y;
        values[to + (VALUE_HIGHS_AT + d / 32u * 8u + d % 8u) * 4u + d % 32u / 8u] = packed[i].z;
      } else {
        for (var word = 0u; word < 4u; word++) {
          values[to + d * 4u + word] = packed[i][word];
        }
      }
    }
  }
  if (local < 16u) {
    values[to + VALUE_SCALES_AT * 4u + local] = scales[local * 2u] | (scales[local * 2u + 1u] << 16u);
  }
}
