// packKv: whole pages of a packed cache from the vectors as they came (f16) to codes: keys by channel, values rotated, bit for
// bit as src/cache/codec-channel.ts and codec-rotated.ts have them. A workgroup does one page of one KV head: x counts the
// step's blocks to pack, y is [keys of each KV head, values of each KV head].
// lib: step, batch, half, ranges, rotation, hadamard, encode
// <values>
const KV_HEADS: u32 = 2u;
const HEAD_DIM: u32 = 64u;
// Of a page that is not packed.
const BLOCK_WORDS: u32 = 256u;
const KEY_WORDS: u32 = 80u;
const KEY_SCALES_AT: u32 = 64u;
const VALUE_WORDS: u32 = 68u;
const VALUE_SCALES_AT: u32 = 64u;
// </values>

const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
// Tokens at a time, 32 lanes each.
const ROWS: u32 = 4u;
const SIZE: u32 = 128u;
const CODE_BITS: u32 = 4u;
const RQ4: bool = true;
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

// Vectors of ROWS tokens; of keys: zero, 1 / scale of each dim.
var<workgroup> vectors: array<f32, max(ROWS, 2u) * HEAD_DIM>;
// Bits of the tokens' scales.
var<workgroup> scales: array<u32, 32>;

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let pack = packAt(workgroup.x);
  // No later row sees it, and its page may be another text's.
  if (params.window > 0u && pack.position >= pack.block * 32u + 31u + params.window) {
    return;
  }
  let kvHead = workgroup.y % KV_HEADS;
  let source = blockOf(params.recentTable + pack.table, pack.block, KV_HEADS, kvHead) * BLOCK_WORDS * 4u;
  let to = blockOf(params.table + pack.table, pack.block, KV_HEADS, kvHead);
  if (workgroup.y < KV_HEADS) {
    packKeys(source, to * KEY_WORDS * 4u, local);
  } else {
    packValues(source, to * VALUE_WORDS * 4u, local);
  }
}

fn halfOf(word: u32, index: u32) -> f32 {
  return halfValue((word >> (index % 2u * 16u)) & 0xffffu);
}

fn keyAt(source: u32, token: u32, d: u32) -> f32 {
  return halfOf(recentKeys[source + (d / 8u * 32u + token) * 4u + d % 8u / 2u], d);
}

fn packKeys(source: u32, to: u32, local: u32) {
  for (var d = local; d < GROUPS * 32u; d += SIZE) {
    var range = Range();
    if (d < HEAD_DIM) {
      var least = keyAt(source, 0u, d);
      var most = least;
      for (var token = 1u; token < 32u; token++) {
        let x = keyAt(source, token, d);
        least = min(least, x);
        most = max(most, x);
      }
      range = rangeOf(least, most, MOST_CODE);
      vectors[d] = range.zero;
      vectors[HEAD_DIM + d] = range.inverse;
    }
    keys[to + KEY_SCALES_AT * 4u + d] = range.bits;
  }
  workgroupBarrier();
  // [group][token] words: dim i of a group in the low half of byte i, dim i + 16 in its high half.
  for (var i = local; i < GROUPS * 128u; i += SIZE) {
    let token = i % 128u / 4u;
    let first = i / 128u * 32u + i % 4u * 4u;
    var word = 0u;
    for (var c = 0u; c < 4u; c++) {
      word |= keyCode(source, token, first + c) << (8u * c);
      if (first + c + 16u < HEAD_DIM) {
        word |= keyCode(source, token, first + c + 16u) << (8u * c + 4u);
      }
    }
    keys[to + i] = word;
  }
}

fn keyCode(source: u32, token: u32, d: u32) -> u32 {
  return code(keyAt(source, token, d), vectors[d], vectors[HEAD_DIM + d], f32(MOST_CODE));
}

// A thread gathers the codes of its dims from the rows, four words each.
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
      let shift = t % 4u * 8u + t / 16u * 4u;
      for (var i = 0u; i < DIMS_EACH; i++) {
        let d = min(local + i * SIZE, HEAD_DIM - 1u);
        packed[i][t % 16u / 4u] |= u32(vectors[(t - start) * HEAD_DIM + d]) << shift;
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < DIMS_EACH; i++) {
    let d = local + i * SIZE;
    if (d < HEAD_DIM) {
      for (var word = 0u; word < 4u; word++) {
        values[to + d * 4u + word] = packed[i][word];
      }
    }
  }
  if (local < 16u) {
    values[to + VALUE_SCALES_AT * 4u + local] = scales[local * 2u] | (scales[local * 2u + 1u] << 16u);
  }
}
