// Quantized weights times many tokens of f16 activations, as matmulMatrix, for subgroups of 32 and rows of an even number of groups. Each
// of four subgroups owns a square of 64 tokens and 64 rows, and each invocation loads a row of weights, two groups at once: fewer matrix
// loads, and 3 loads of q4_0's weights for two steps where matmulMatrix has 8. 8448x4096 times 512 tokens: 156 -> 137 us (258 TFLOP/s,
// H200, 2026-11-29, lab/LOG.md).
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, weight, codes, weightHalves, narrow, productTiles

// <values>
// include: weightValues
const HAS_BIAS: bool = false;
// Rows are the step's outputs, not its tokens.
const OUTPUTS: bool = false;
// </values>

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
// [tokens][groups * 32] f16, then [tokens] factors
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;
// [outCols]
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// include: promptProduct

// Groups that are loaded at once, and that a split is a multiple of.
const UNIT: u32 = 2u;
const SUBGROUP: u32 = 32u;
const WORKGROUP: u32 = 128u;
const TILE_ROWS: u32 = 128u;
const TILE_TOKENS: u32 = 128u;
// In items of eight f16: one more than a row has, to avoid bank conflicts (see matmulMatrix).
const STRIDE: u32 = 5u;
const HALF_TILE: u32 = 64u * STRIDE;
// An array for each half, so that a matrix load has a constant offset: Dawn puts an `if` around each that has not (see matmulMatrix).
var<workgroup> weightTile: array<array<vec4<u32>, HALF_TILE>, 2>;
var<workgroup> xTile: array<array<vec4<u32>, HALF_TILE>, 2>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  // Tokens vary fastest, so that workgroups that run together share weights.
  let firstToken = place.x * TILE_TOKENS;
  let work = workOf(place.y);
  let firstRow = work.tile * TILE_ROWS;
  noteFactors(firstToken, local);

  // What this invocation loads: a row of weights, and an item of a group of four tokens. Rows and tokens past the end repeat the last.
  let row = min(firstRow + local, params.rows - 1u);
  let xItem = local % 4u;
  // Eight neighbours store two tokens that are four apart, in different banks.
  let xToken = local / 32u * 8u + local / 4u % 2u * 4u + local / 8u % 4u;
  // each H 0..1
  // each T 0..1
  let xAt{H}{T} = min(firstToken + xToken + {64 * H + 32 * T}u, params.tokens - 1u) * params.groups * 4u + xItem;
  var item{H}{T} = x[xAt{H}{T} + work.group * 4u];
  // end
  // end
  var weights = load(row, work.group);

  // This subgroup's halves of the tiles, and its sums: rows by tokens. Not an array (see matmulMatrix).
  let xHalf = local / 64u;
  let weightHalf = local / SUBGROUP % 2u;
  // each R 0..3
  var acc{R}0: Result; var acc{R}1: Result; var acc{R}2: Result; var acc{R}3: Result;
  // end
  for (var group = work.group; group < work.end; group += UNIT) {
    // each G 0..1
    workgroupBarrier();
    store(weights.first{G}, weights.second{G}, weights.scales{G}, group + {G}u, local);
    // each H 0..1
    // each T 0..1
    xTile[{H}u][(xToken + {32 * T}u) * STRIDE + xItem] = item{H}{T};
    // end
    // end
    workgroupBarrier();
    // Columns 0..15, then 16..31.
    // each C 0..1
    {
      // each T 0..3
      let left{T} = subgroupMatrixLoad<Left, row_major>(&xTile[xHalf], {16 * T}u * STRIDE + {2 * C}u, STRIDE);
      // end
      // each R 0..3
      let right{R} = subgroupMatrixLoad<Right, col_major>(&weightTile[weightHalf], {16 * R}u * STRIDE + {2 * C}u, STRIDE);
      // end
      // only C 0..0
      // The next group's loads are in flight during the products. An `if` keeps them here: without it, the compiler moves them to where
      // their values are used (160 instead of 137 us).
      if (group + {G + 1}u < work.end) {
        // only G 1..1
        weights = load(row, group + UNIT);
        // end
        // each H 0..1
        // each T 0..1
        item{H}{T} = x[xAt{H}{T} + (group + {G + 1}u) * 4u];
        // end
        // end
      }
      // end
      // each R 0..3
      // each T 0..3
      acc{R}{T} = subgroupMatrixMultiplyAccumulate(left{T}, right{R}, acc{R}{T});
      // end
      // end
    }
    // end
    // end
  }

  let token = firstToken + xHalf * 64u;
  let fragmentRow = firstRow + weightHalf * 64u;
  if (isPlain(firstRow, firstToken, local)) {
    let next = 16u * work.stride;
    let at = work.base + token * work.stride + fragmentRow;
    // each R 0..3
    // each T 0..3
    if (work.isWhole) {
      subgroupMatrixStore<row_major>(&out, at + {T}u * next + {16 * R}u, acc{R}{T}, work.stride);
    } else {
      subgroupMatrixStore<row_major>(&sums, at + {T}u * next + {16 * R}u, acc{R}{T}, work.stride);
    }
    // end
    // end
    return;
  }
  // each R 0..3
  // each T 0..3
  writeEdge(acc{R}{T}, work, fragmentRow + {16 * R}u, token + {16 * T}u, local);
  // end
  // end
}

// Two groups of a row: vectors of codes (lib/weight), and words of scales.
struct Weights {
  first0: vec4<u32>,
  first1: vec4<u32>,
  second0: vec4<u32>,
  second1: vec4<u32>,
  scales0: vec2<u32>,
  scales1: vec2<u32>,
}

/// Loads two groups of a row; the first is even. Where both have one word of scales, or one vector of upper bits, it is loaded once.
fn load(row: u32, group: u32) -> Weights {
  let groups = params.groups;
  var weights: Weights;
  weights.first0 = codes[firstAt(row, group, groups)];
  weights.first1 = codes[firstAt(row, group + 1u, groups)];
  if (HAS_SECOND) {
    weights.second0 = codes[secondAt(row, group, groups)];
    weights.second1 = weights.second0;
    if (CODES == BYTES) {
      weights.second1 = codes[secondAt(row, group + 1u, groups)];
    }
  }
  weights.scales0 = scaleWords(row, group);
  weights.scales1 = weights.scales0;
  if (SCALES == PAIR || SCALES == HALVES || SCALES == HALF_PAIRS) {
    weights.scales1 = scaleWords(row, group + 1u);
  }
  return weights;
}

fn scaleWords(row: u32, group: u32) -> vec2<u32> {
  let at = scaleAt(row, group, params.groups);
  if (HAS_NEXT) {
    return vec2<u32>(scales[at], scales[nextAt(at, group)]);
  }
  return vec2<u32>(scales[at], 0u);
}

/// Expands a group of a row into the tile.
fn store(first: vec4<u32>, second: vec4<u32>, words: vec2<u32>, group: u32, local: u32) {
  let scale = f16Scales(words, group);
  var low = first;
  var high = second;
  if (IS_JOINED) {
    let upper = upperOf(second, group);
    low = joinLows(first, upper);
    high = joinHighs(first, upper);
  } else if (CODES != BYTES) {
    let nibbles = nibblesOf(first, second, group);
    let lows = nibbles & vec4<u32>(0x0f0f0f0fu);
    let highs = (nibbles >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
    low = vec4<u32>(codesOf(lows.x), codesOf(lows.y), codesOf(lows.z), codesOf(lows.w));
    high = vec4<u32>(codesOf(highs.x), codesOf(highs.y), codesOf(highs.z), codesOf(highs.w));
  }
  let half = local / 64u;
  let at = local % 64u * STRIDE;
  weightTile[half][at] = vec4<u32>(expand(low.x, scale.xy), expand(low.y, scale.xy));
  weightTile[half][at + 1u] = vec4<u32>(expand(low.z, scale.xy), expand(low.w, scale.xy));
  weightTile[half][at + 2u] = vec4<u32>(expand(high.x, scale.zw), expand(high.y, scale.zw));
  weightTile[half][at + 3u] = vec4<u32>(expand(high.z, scale.zw), expand(high.w, scale.zw));
}

fn storePart(place: u32, fragment: Result) {
  subgroupMatrixStore<row_major>(&weightTile[0], place, fragment, 4u);
}

fn partItem(at: u32) -> vec4<u32> {
  return weightTile[0][at];
}
