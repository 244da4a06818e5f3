// Weights of any form times many tokens of f16 activations, through f16 subgroup matrices with f32 sums. A workgroup owns
// TILE_ROWS rows x TILE_TOKENS tokens; weights are expanded to f16 STEP columns at a time in workgroup memory, never further.
// out = x [tokens x cols] times weight [rows x cols] transposed: the left matrix is x, the right one the weight by columns.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: weight, codes

// <values>
const CODES: u32 = 0u;
const SCALES: u32 = 0u;
const BIAS: f32 = 8.0;
const CODES_0: u32 = 0u;
const CODES_1: u32 = 0u;
const CODES_2: u32 = 0u;
const CODES_3: u32 = 0u;
const SUBGROUP: u32 = 32u;
// Subgroups of a workgroup along rows and along tokens, and fragments of 16 x 16 that each of them owns.
const SUBGROUPS_ROWS: u32 = 2u;
const SUBGROUPS_TOKENS: u32 = 4u;
const FRAGMENTS_ROWS: u32 = 4u;
const FRAGMENTS_TOKENS: u32 = 2u;
const STEP: u32 = 32u;
// f16 values between rows of a tile, against bank conflicts.
const PAD: u32 = 8u;
const HAS_BIAS: bool = false;
// </values>

// Row r goes to column r + firstColumn of `out`, from `split` on to r + secondColumn (both modulo 2^32).
struct Params {
  rows: u32,
  groups: u32,
  // Tokens that x and out have room for.
  tokens: u32,
  outCols: u32,
  split: u32,
  firstColumn: u32,
  secondColumn: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
// [tokens][groups * 32] f16
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;
// [outCols]
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// [tokens][outCols]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

const SUBGROUPS: u32 = SUBGROUPS_ROWS * SUBGROUPS_TOKENS;
const WORKGROUP: u32 = SUBGROUP * SUBGROUPS;
const TILE_ROWS: u32 = SUBGROUPS_ROWS * FRAGMENTS_ROWS * 16u;
const TILE_TOKENS: u32 = SUBGROUPS_TOKENS * FRAGMENTS_TOKENS * 16u;
const STRIDE: u32 = STEP + PAD;
var<workgroup> weightTile: array<f16, TILE_ROWS * STRIDE>;
var<workgroup> xTile: array<f16, TILE_TOKENS * STRIDE>;
// One fragment a subgroup, where results do not fit `out` as they are.
var<workgroup> edge: array<f32, SUBGROUPS * 256u>;

// A code's excess as storeCodes makes it. Where there is no offset the bias goes too: one rounding less.
const CENTER: f16 = f16(1152.0 + select(BIAS, 0.0, SCALES == PAIR || SCALES == HALF_PAIRS));

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  // Workgroups that run together share weights: tokens vary fastest.
  let firstToken = place.x * TILE_TOKENS;
  let firstRow = place.y * TILE_ROWS;
  let subgroup = local / SUBGROUP;
  let subgroupRow = subgroup % SUBGROUPS_ROWS * (FRAGMENTS_ROWS * 16u);
  let subgroupToken = subgroup / SUBGROUPS_ROWS * (FRAGMENTS_TOKENS * 16u);

  var acc: array<array<Result, FRAGMENTS_TOKENS>, FRAGMENTS_ROWS>;
  for (var firstGroup = 0u; firstGroup < params.groups; firstGroup += STEP / 32u) {
    workgroupBarrier();
    for (var i = local; i < TILE_ROWS * STEP / 16u; i += WORKGROUP) {
      let tileRow = i / (STEP / 16u);
      let part = i % (STEP / 16u);
      expand(min(firstRow + tileRow, params.rows - 1u), firstGroup + part / 2u, part % 2u, tileRow * STRIDE + part / 2u * 32u);
    }
    for (var i = local; i < TILE_TOKENS * STEP / 8u; i += WORKGROUP) {
      let tileToken = i / (STEP / 8u);
      let part = i % (STEP / 8u);
      let token = min(firstToken + tileToken, params.tokens - 1u);
      let words = x[(token * params.groups + firstGroup) * 4u + part];
      let at = tileToken * STRIDE + part * 8u;
      for (var w = 0u; w < 4u; w++) {
        let pair = bitcast<vec2<f16>>(words[w]);
        xTile[at + 2u * w] = pair.x;
        xTile[at + 2u * w + 1u] = pair.y;
      }
    }
    workgroupBarrier();
    for (var k = 0u; k < STEP; k += 16u) {
      var left: array<Left, FRAGMENTS_TOKENS>;
      for (var t = 0u; t < FRAGMENTS_TOKENS; t++) {
        left[t] = subgroupMatrixLoad<Left, row_major>(&xTile, (subgroupToken + 16u * t) * STRIDE + k, STRIDE);
      }
      for (var r = 0u; r < FRAGMENTS_ROWS; r++) {
        let right = subgroupMatrixLoad<Right, col_major>(&weightTile, (subgroupRow + 16u * r) * STRIDE + k, STRIDE);
        for (var t = 0u; t < FRAGMENTS_TOKENS; t++) {
          acc[r][t] = subgroupMatrixMultiplyAccumulate(left[t], right, acc[r][t]);
        }
      }
    }
  }

  // Whole tiles that stay on one side of the split go out as they are.
  let oneSide = params.split <= firstRow || params.split >= firstRow + TILE_ROWS;
  let whole = firstRow + TILE_ROWS <= params.rows && firstToken + TILE_TOKENS <= params.tokens;
  if (!HAS_BIAS && oneSide && whole) {
    let column = firstRow + select(params.firstColumn, params.secondColumn, firstRow >= params.split);
    for (var r = 0u; r < FRAGMENTS_ROWS; r++) {
      for (var t = 0u; t < FRAGMENTS_TOKENS; t++) {
        let at = (firstToken + subgroupToken + 16u * t) * params.outCols + column + subgroupRow + 16u * r;
        subgroupMatrixStore<row_major>(&out, at, acc[r][t], params.outCols);
      }
    }
    return;
  }
  for (var r = 0u; r < FRAGMENTS_ROWS; r++) {
    for (var t = 0u; t < FRAGMENTS_TOKENS; t++) {
      workgroupBarrier();
      subgroupMatrixStore<row_major>(&edge, subgroup * 256u, acc[r][t], 16u);
      workgroupBarrier();
      for (var i = local % SUBGROUP; i < 256u; i += SUBGROUP) {
        let token = firstToken + subgroupToken + 16u * t + i / 16u;
        let row = firstRow + subgroupRow + 16u * r + i % 16u;
        if (token < params.tokens && row < params.rows) {
          let column = row + select(params.firstColumn, params.secondColumn, row >= params.split);
          var value = edge[subgroup * 256u + i];
          if (HAS_BIAS) {
            value += bias[column];
          }
          out[token * params.outCols + column] = value;
        }
      }
    }
  }
}

/// Elements 8 half .. + 7 and 16 + 8 half .. + 7 of a group, to weightTile[at] on.
fn expand(row: u32, group: u32, half: u32, at: u32) {
  let groups = params.groups;
  let low = at + 8u * half;
  let high = low + 16u;
  if (CODES >= F32) {
    let source = (row * groups + group) * 8u + half * 2u;
    storeFloats(codes[source], low);
    storeFloats(codes[source + 1u], low + 4u);
    storeFloats(codes[source + 4u], high);
    storeFloats(codes[source + 5u], high + 4u);
    return;
  }
  let scaleWord = scaleAt(row, group, groups);
  var next = 0u;
  if (SCALES == HALF_PAIRS) {
    next = scales[scaleWord + 1u];
  }
  let limit = vec4<f32>(65504.0);
  let scale = vec4<f16>(clamp(scalesOf(scales[scaleWord], next, group), -limit, limit));
  if (CODES == BYTES) {
    let first = codes[(row * 2u * groups + group) * 2u + half];
    let second = codes[((row * 2u + 1u) * groups + group) * 2u + half];
    storeCodes(first.x, scale.xy, low);
    storeCodes(first.y, scale.xy, low + 4u);
    storeCodes(second.x, scale.zw, high);
    storeCodes(second.y, scale.zw, high + 4u);
  } else {
    let words = codes[(row * groups + group) * 2u + half];
    let lows = words & vec2<u32>(0x0f0f0f0fu);
    let highs = (words >> vec2<u32>(4u)) & vec2<u32>(0x0f0f0f0fu);
    storeCodes(codesOf(lows.x), scale.xy, low);
    storeCodes(codesOf(lows.y), scale.xy, low + 4u);
    storeCodes(codesOf(highs.x), scale.zw, high);
    storeCodes(codesOf(highs.y), scale.zw, high + 4u);
  }
}

fn storeFloats(words: vec2<u32>, at: u32) {
  let a = vec2<f16>(floatsOf(words.x));
  let b = vec2<f16>(floatsOf(words.y));
  weightTile[at] = a.x;
  weightTile[at + 1u] = a.y;
  weightTile[at + 2u] = b.x;
  weightTile[at + 3u] = b.y;
}

/// Four int8 codes -> scale * code + offset. An unsigned byte in the mantissa of 0x6400 is the f16 1024 + byte.
fn storeCodes(word: u32, scale: vec2<f16>, at: u32) {
  let shifted = word ^ 0x80808080u;
  let even = bitcast<vec2<f16>>((shifted & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(CENTER);
  let odd = bitcast<vec2<f16>>(((shifted >> 8u) & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(CENTER);
  var a = even * scale.x;
  var b = odd * scale.x;
  if (SCALES == PAIR || SCALES == HALF_PAIRS) {
    a += scale.y;
    b += scale.y;
  }
  weightTile[at] = a.x;
  weightTile[at + 1u] = b.x;
  weightTile[at + 2u] = a.y;
  weightTile[at + 3u] = b.y;
}
