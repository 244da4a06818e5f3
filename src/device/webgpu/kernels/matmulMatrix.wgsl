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
// Columns of a tile: 32 or 64.
const STEP: u32 = 32u;
// Tiles in turn: with 2, the next one is stored while the last is multiplied, and a step has one barrier less.
const STAGES: u32 = 1u;
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
// Eight f16 an item; a row of a tile is padded by one, so that the eight rows that a matrix load takes lie in different banks.
const ITEMS: u32 = STEP / 8u;
const STRIDE: u32 = ITEMS + 1u;
var<workgroup> weightTile: array<vec4<u32>, STAGES * TILE_ROWS * STRIDE>;
var<workgroup> xTile: array<vec4<u32>, STAGES * TILE_TOKENS * STRIDE>;

// A code's excess as `expand` makes it. Where there is no offset the bias goes too: one rounding less.
const CENTER: f16 = f16(select(1152.0, 1024.0, CODES == NIBBLES) + select(BIAS, 0.0, SCALES == PAIR || SCALES == HALF_PAIRS));

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

// What an invocation carries from memory to the tiles: quarter groups of weights (8 columns and the 8 that lie 16 further),
// and items of x.
const WEIGHT_LOADS: u32 = TILE_ROWS * STEP / 16u / WORKGROUP;
const X_LOADS: u32 = TILE_TOKENS * ITEMS / WORKGROUP;
struct Loads {
  scales: array<vec2<u32>, WEIGHT_LOADS>,
  codes: array<array<vec2<u32>, 4>, WEIGHT_LOADS>,
  x: array<vec4<u32>, X_LOADS>,
}

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
  var loads = load(firstRow, firstToken, 0u, local);
  var stage = 0u;
  for (var group = 0u; group < params.groups; group += STEP / 32u) {
    if (STAGES == 1u) {
      workgroupBarrier();
    }
    store(&loads, group, stage, local);
    workgroupBarrier();
    // The next loads are on their way while this tile is multiplied. The last ones repeat and are not used.
    loads = load(firstRow, firstToken, min(group + STEP / 32u, params.groups - STEP / 32u), local);
    let weightAt = stage * TILE_ROWS * STRIDE;
    let xAt = stage * TILE_TOKENS * STRIDE;
    for (var k = 0u; k < ITEMS; k += 2u) {
      var left: array<Left, FRAGMENTS_TOKENS>;
      for (var t = 0u; t < FRAGMENTS_TOKENS; t++) {
        left[t] = subgroupMatrixLoad<Left, row_major>(&xTile, xAt + (subgroupToken + 16u * t) * STRIDE + k, STRIDE);
      }
      for (var r = 0u; r < FRAGMENTS_ROWS; r++) {
        let right = subgroupMatrixLoad<Right, col_major>(&weightTile, weightAt + (subgroupRow + 16u * r) * STRIDE + k, STRIDE);
        for (var t = 0u; t < FRAGMENTS_TOKENS; t++) {
          acc[r][t] = subgroupMatrixMultiplyAccumulate(left[t], right, acc[r][t]);
        }
      }
    }
    if (STAGES == 2u) {
      stage = 1u - stage;
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
      // The weights' tile is free now: a fragment a subgroup, 64 items.
      workgroupBarrier();
      subgroupMatrixStore<row_major>(&weightTile, subgroup * 64u, acc[r][t], 4u);
      workgroupBarrier();
      for (var i = local % SUBGROUP; i < 256u; i += SUBGROUP) {
        let token = firstToken + subgroupToken + 16u * t + i / 16u;
        let row = firstRow + subgroupRow + 16u * r + i % 16u;
        if (token < params.tokens && row < params.rows) {
          let column = row + select(params.firstColumn, params.secondColumn, row >= params.split);
          var value = bitcast<f32>(weightTile[subgroup * 64u + i / 4u][i % 4u]);
          if (HAS_BIAS) {
            value += bias[column];
          }
          out[token * params.outCols + column] = value;
        }
      }
    }
  }
}

/// Reads a tile's share of one invocation. Rows and tokens past the end repeat the last one.
fn load(firstRow: u32, firstToken: u32, firstGroup: u32, local: u32) -> Loads {
  var loads: Loads;
  let groups = params.groups;
  for (var i = 0u; i < WEIGHT_LOADS; i++) {
    let index = i * WORKGROUP + local;
    let row = min(firstRow + index / (STEP / 16u), params.rows - 1u);
    let group = firstGroup + index % (STEP / 16u) / 2u;
    let half = index % 2u;
    if (CODES == F32 || CODES == F16 || CODES == BF16) {
      let at = (row * groups + group) * 8u + half * 2u;
      loads.codes[i] = array<vec2<u32>, 4>(codes[at], codes[at + 1u], codes[at + 4u], codes[at + 5u]);
    } else {
      let at = scaleAt(row, group, groups);
      loads.scales[i].x = scales[at];
      if (SCALES == HALF_PAIRS) {
        loads.scales[i].y = scales[at + 1u];
      }
      if (CODES == BYTES) {
        loads.codes[i][0] = codes[(row * 2u * groups + group) * 2u + half];
        loads.codes[i][1] = codes[((row * 2u + 1u) * groups + group) * 2u + half];
      } else {
        loads.codes[i][0] = codes[(row * groups + group) * 2u + half];
      }
    }
  }
  for (var i = 0u; i < X_LOADS; i++) {
    let index = i * WORKGROUP + local;
    let token = min(firstToken + index / ITEMS, params.tokens - 1u);
    loads.x[i] = x[(token * groups + firstGroup) * 4u + index % ITEMS];
  }
  return loads;
}

/// Expands what `load` gave into the tiles.
fn store(loads: ptr<function, Loads>, firstGroup: u32, stage: u32, local: u32) {
  for (var i = 0u; i < WEIGHT_LOADS; i++) {
    let index = i * WORKGROUP + local;
    let part = index % (STEP / 16u);
    let at = (stage * TILE_ROWS + index / (STEP / 16u)) * STRIDE + part / 2u * 4u + part % 2u;
    let words = (*loads).codes[i];
    if (CODES == F32 || CODES == F16 || CODES == BF16) {
      weightTile[at] = vec4<u32>(halves(words[0]), halves(words[1]));
      weightTile[at + 2u] = vec4<u32>(halves(words[2]), halves(words[3]));
    } else {
      // f16 has no room for mxfp4's largest scales; nothing that a model computes with is lost.
      let limit = vec4<f32>(65504.0);
      let scaleWords = (*loads).scales[i];
      let scale = vec4<f16>(clamp(scalesOf(scaleWords.x, scaleWords.y, firstGroup + part / 2u), -limit, limit));
      var low = words[0];
      var high = words[1];
      if (CODES != BYTES) {
        let lows = words[0] & vec2<u32>(0x0f0f0f0fu);
        let highs = (words[0] >> vec2<u32>(4u)) & vec2<u32>(0x0f0f0f0fu);
        low = vec2<u32>(codesOf(lows.x), codesOf(lows.y));
        high = vec2<u32>(codesOf(highs.x), codesOf(highs.y));
      }
      weightTile[at] = vec4<u32>(expand(low.x, scale.xy), expand(low.y, scale.xy));
      weightTile[at + 2u] = vec4<u32>(expand(high.x, scale.zw), expand(high.y, scale.zw));
    }
  }
  for (var i = 0u; i < X_LOADS; i++) {
    let index = i * WORKGROUP + local;
    xTile[(stage * TILE_TOKENS + index / ITEMS) * STRIDE + index % ITEMS] = (*loads).x[i];
  }
}

/// Four f16 or bf16 as f16.
fn halves(words: vec2<u32>) -> vec2<u32> {
  if (CODES == F16) {
    return words;
  }
  return vec2<u32>(bitcast<u32>(vec2<f16>(floatsOf(words.x))), bitcast<u32>(vec2<f16>(floatsOf(words.y))));
}

/// Four codes -> scale * code + offset in f16. A byte under the exponent of 0x6400 is the f16 1024 + byte; int8 codes become
/// unsigned by their upper bit, nibbles are unsigned already.
fn expand(word: u32, scale: vec2<f16>) -> vec2<u32> {
  let bytes = select(word ^ 0x80808080u, word, CODES == NIBBLES);
  let even = bitcast<vec2<f16>>((bytes & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(CENTER);
  let odd = bitcast<vec2<f16>>(((bytes >> 8u) & 0x00ff00ffu) | 0x64006400u) - vec2<f16>(CENTER);
  var a = even * scale.x;
  var b = odd * scale.x;
  if (SCALES == PAIR || SCALES == HALF_PAIRS) {
    a += scale.y;
    b += scale.y;
  }
  return vec2<u32>(bitcast<u32>(vec2<f16>(a.x, b.x)), bitcast<u32>(vec2<f16>(a.y, b.y)));
}
