// dequantizeKv: expands the 4-bit keys and values that a step sees to an f16 cache of the same pages (layouts: kv.ts); those of rq4
// stay rotated. This is the first half of dequantize-then-attend, the baseline of `nibble bench attend`; no model runs it. A workgroup
// does one block of 32 token slots of one KV head, keys (z = 0) or values (z = 1). It reads 20 bytes for each 64 that it writes; each
// lane loads and stores 16 bytes next to its neighbours', so that memory is the bound.
// lib: step, batch, kvCodes, narrow
// <values>
const HEAD_DIM: u32 = 64u;
const RQ4: bool = false;
// 16-byte words of a block, and the word at which its scales begin.
const BLOCK_WORDS: u32 = 80u;
const SCALES_AT: u32 = 64u;
// </values>

const WORKGROUP: u32 = 128u;
// For rq4.
const MIDDLE: f32 = 7.5;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const CHUNKS: u32 = HEAD_DIM / 8u;
const OUT_WORDS: u32 = CHUNKS * 32u;
// Values in workgroup memory: [quad of tokens][dim % 8][dim / 8], with a gap to avoid bank conflicts.
const STRIDE: u32 = GROUPS * 4u + 1u;

struct Params {
  kvHeads: u32,
  // Where the pool's tables begin in `batch`.
  table: u32,
  // 0: all positions.
  window: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> keysOut: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> valuesOut: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;

var<workgroup> codes: array<u32, 32u * STRIDE>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let position = positionOf(0u);
  var oldest = 0u;
  if (params.window > 0u && position + 1u > params.window) {
    oldest = position + 1u - params.window;
  }
  let table = tableOf(params.table, 0u);
  let block = blockOf(table, oldest / 32u + workgroup.x, params.kvHeads, workgroup.y);
  if (workgroup.z == 0u) {
    expandKeys(block * BLOCK_WORDS, block * OUT_WORDS, local);
  } else {
    expandValues(block * BLOCK_WORDS, block * OUT_WORDS, local);
  }
}

// Each thread takes one token's group of 32 dims: one word of codes becomes four words of halves.
fn expandKeys(at: u32, out: u32, local: u32) {
  for (var i = local; i < GROUPS * 32u; i += WORKGROUP) {
    let group = i / 32u;
    let token = i % 32u;
    let word = keys[at + i];
    let range = rangeOf(keys[at + SCALES_AT + scaleWord(group, token)][scalePart(token)], token);
    for (var part = 0u; part < 4u; part++) {
      let chunk = group * 4u + part;
      if (chunk < CHUNKS) {
        let two = select(word.xy, word.zw, (part & 1u) == 1u) >> vec2<u32>(4u * (part / 2u));
        keysOut[out + chunk * 32u + token] = halvesOfCodes(two, range);
      }
    }
  }
}

// A word holds one dim of 32 tokens, but eight dims of one token are written, so values go through workgroup memory. Each thread takes
// eight dims of four tokens.
fn expandValues(at: u32, out: u32, local: u32) {
  for (var dim = local; dim < GROUPS * 32u; dim += WORKGROUP) {
    let word = values[at + dim];
    for (var quad = 0u; quad < 4u; quad++) {
      codes[(quad * 8u + dim % 8u) * STRIDE + dim / 8u] = word[quad];
    }
  }
  workgroupBarrier();
  for (var i = local; i < CHUNKS * 8u; i += WORKGROUP) {
    let chunk = i % CHUNKS;
    let quad = i / CHUNKS % 4u;
    let half = i / (CHUNKS * 4u);
    let first = half * 16u + quad * 4u;
    let ranges = values[at + SCALES_AT + scaleWord(chunk / 4u, first)];
    var columns = array<u32, 8>();
    for (var dim = 0u; dim < 8u; dim++) {
      columns[dim] = codes[(quad * 8u + dim) * STRIDE + chunk] >> (4u * half);
    }
    for (var c = 0u; c < 4u; c++) {
      let two = vec2<u32>(
        byteOfEach(columns[0], columns[1], columns[2], columns[3], c),
        byteOfEach(columns[4], columns[5], columns[6], columns[7], c));
      valuesOut[out + (first + c) * CHUNKS + chunk] = halvesOfCodes(two, rangeOf(ranges[scalePart(first + c)], first + c));
    }
  }
}

// Byte `c` of four words, as one word.
fn byteOfEach(w0: u32, w1: u32, w2: u32, w3: u32, c: u32) -> u32 {
  let shift = 8u * c;
  return extractBits(w0, shift, 8u) | (extractBits(w1, shift, 8u) << 8u)
    | (extractBits(w2, shift, 8u) << 16u) | (extractBits(w3, shift, 8u) << 24u);
}
