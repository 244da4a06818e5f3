// Packed weights times 5 to 16 rows of q8 activations (lib/q8.wgsl), through f16 subgroup matrices with f32 sums: weights stream past
// activations that stay in matrix registers. A subgroup owns 256 columns and goes through rows of weights, 16 at a time: it reads
// 128 bytes of each at once, so that memory sees long pieces, and expands them into workgroup memory in two halves. A workgroup's
// subgroups lie side by side; their sums meet in workgroup memory, those of several workgroups in sumSplits.
// A half is 16 of a group's 32 columns in the order in which codes unpack (expandApart), four of the low nibbles and four of the
// high ones at a time; activations lie in the same order. What a lane holds has names, and offsets of matrices are
// constants: see attendDecodeMatrix.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, weight, codes, weightHalves, narrow

// <values>
const CODES: u32 = 0u;
const SCALES: u32 = 0u;
const BIAS: f32 = 8.0;
const CODES_0: u32 = 0u;
const CODES_1: u32 = 0u;
const CODES_2: u32 = 0u;
const CODES_3: u32 = 0u;
// Of a workgroup.
const SUBGROUPS: u32 = 4u;
// Of the step, for a workgroup: 8 or 16.
const TOKENS: u32 = 8u;
const OUTPUTS: bool = false;
const HAS_BIAS: bool = false;
// </values>

struct Params {
  rows: u32,
  groups: u32,
  // Tokens that a split has room for in `out`.
  tokens: u32,
  outCols: u32,
  // Of `out`, where row 0 goes.
  firstColumn: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;
// [outCols]
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// [splits][tokens][outCols]; a split is the columns of one workgroup.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

const SUBGROUP: u32 = 32u;
const WORKGROUP: u32 = SUBGROUP * SUBGROUPS;
const ROWS: u32 = 16u;
// Groups of a subgroup.
const SLICE: u32 = 8u;
// Rows of workgroup memory in items of eight f16, odd against bank conflicts: half of a slice; activations have the whole.
const STRIDE: u32 = SLICE * 2u + 1u;
const X_STRIDE: u32 = SLICE * 4u + 1u;
// Of each subgroup: 16 rows of weights, or eight of activations at first.
var<workgroup> tiles: array<array<vec4<u32>, ROWS * STRIDE>, SUBGROUPS>;
// Of each subgroup and eight tokens: f32 [ROWS][8].
var<workgroup> sums: array<array<vec4<u32>, ROWS * TOKENS / 4u>, SUBGROUPS>;
// What activations of a slice were divided by.
var<workgroup> factors: array<array<f32, TOKENS>, SUBGROUPS>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 8, 16>;
alias Result = subgroup_matrix_result<f32, 8, 16>;

// A group of one row as it is stored, its scales as f16Scales wants them.
struct Group {
  first: vec4<u32>,
  second: vec4<u32>,
  scales: vec2<u32>,
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  let subgroup = local / SUBGROUP;
  let lane = local % SUBGROUP;
  let firstToken = place.z * TOKENS;
  let tokens = select(step.tokens, step.outputs, OUTPUTS);
  let rowTiles = (params.rows + ROWS - 1u) / ROWS;
  // A lane has one group of four rows that lie four apart. Past the last group it is that one, and activations are 0.
  let slice = (place.x * SUBGROUPS + subgroup) * SLICE;
  let group = min(slice + lane % SLICE, params.groups - 1u);
  let mine = lane / SLICE * STRIDE + lane % SLICE * 2u;
  let first = place.y * ROWS + lane / SLICE;
  // each R 0..3
  var next{R} = groupAt(first + {4 * R}u, group);
  // end

  storeX(subgroup, firstToken, 0u, tokens - 1u, slice, lane);
  workgroupBarrier();
  // Sixteen pieces C of 16 columns.
  // each C 0..15
  let x0_{C} = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], {2 * C}u, X_STRIDE);
  // end
  // each C 0..15
  var x1_{C}: Right;
  // end
  if (TOKENS > 8u) {
    workgroupBarrier();
    storeX(subgroup, firstToken, 8u, tokens - 1u, slice, lane);
    workgroupBarrier();
    // each C 0..15
    x1_{C} = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], {2 * C}u, X_STRIDE);
    // end
  }

  for (var tile = place.y; tile < rowTiles; tile += grid.y) {
    // each R 0..3
    let group{R} = next{R};
    let scale{R} = f16Scales(group{R}.scales, group);
    let words{R} = nibblesOf(group{R}.first, group{R}.second, group);
    let further{R} = upperOf(group{R}.second, group);
    // end
    // Past the last tile it is that one again, which is near by then.
    let row = min(tile + grid.y, rowTiles - 1u) * ROWS + lane / SLICE;
    // each R 0..3
    next{R} = groupAt(row + {4 * R}u, group);
    // end
    var sum0: Result;
    var sum1: Result;
    workgroupBarrier();
    // First half of the columns.
    // each R 0..3
    tiles[subgroup][mine + {4 * R}u * STRIDE] = item(words{R}.x, further{R}.x, scale{R});
    tiles[subgroup][mine + 1u + {4 * R}u * STRIDE] = item(words{R}.y, further{R}.y, scale{R});
    // end
    workgroupBarrier();
    // each C 0..7
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], {2 * C}u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_{C}, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_{C}, sum1); }
    }
    // end
    workgroupBarrier();
    // Second half.
    // each R 0..3
    tiles[subgroup][mine + {4 * R}u * STRIDE] = item(words{R}.z, further{R}.z, scale{R});
    tiles[subgroup][mine + 1u + {4 * R}u * STRIDE] = item(words{R}.w, further{R}.w, scale{R});
    // end
    workgroupBarrier();
    // each C 0..7
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], {2 * C}u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_{C + 8}, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_{C + 8}, sum1); }
    }
    // end
    subgroupMatrixStore<row_major>(&sums[subgroup], 0u, sum0, 2u);
    if (TOKENS > 8u) {
      subgroupMatrixStore<row_major>(&sums[subgroup], select(0u, ROWS * 2u, TOKENS > 8u), sum1, 2u);
    }
    workgroupBarrier();
    write(place, tile * ROWS, firstToken, tokens, local);
  }
}

// The group of a row; rows past the end repeat the last one and are not written.
fn groupAt(row: u32, group: u32) -> Group {
  let groups = params.groups;
  let inside = min(row, params.rows - 1u);
  var loaded: Group;
  let at = scaleAt(inside, group, groups);
  loaded.scales.x = scales[at];
  if (HAS_NEXT) {
    loaded.scales.y = scales[nextAt(at, group)];
  }
  loaded.first = codes[firstAt(inside, group, groups)];
  if (HAS_SECOND) {
    loaded.second = codes[secondAt(inside, group, groups)];
  }
  return loaded;
}

// Four columns of a group and those that lie 16 further: a word of nibbles and its upper bits, or of BYTES a word of either plane.
fn item(word: u32, further: u32, scale: vec4<f16>) -> vec4<u32> {
  if (IS_JOINED) {
    return vec4<u32>(expandApart(joinLow(word, further), scale.xy), expandApart(joinHigh(word, further), scale.zw));
  }
  if (UNSIGNED) {
    return vec4<u32>(nibblesApart(word, scale.xy), highNibblesApart(word, scale.zw));
  }
  if (CODES == BYTES) {
    return vec4<u32>(expandApart(word, scale.xy), expandApart(further, scale.zw));
  }
  let low = codesOf(word & 0x0f0f0f0fu);
  let high = codesOf((word >> 4u) & 0x0f0f0f0fu);
  return vec4<u32>(expandApart(low, scale.xy), expandApart(high, scale.zw));
}

// A slice of eight tokens after `skip` of the workgroup, in the order of the weights: [token][half][group][2] items.
fn storeX(subgroup: u32, firstToken: u32, skip: u32, lastToken: u32, slice: u32, lane: u32) {
  let groups = params.groups;
  for (var i = lane; i < 8u * SLICE; i += SUBGROUP) {
    let token = i / SLICE;
    let group = slice + i % SLICE;
    let row = min(firstToken + skip + token, lastToken) * 3u * groups;
    let at = row + min(group, groups - 1u);
    let factor = sliceFactor(row + 2u * groups, slice);
    let scale = select(0.0, bitcast<f32>(x[at + 2u * groups].x) * inverseFactor(factor), group < groups);
    let low = x[at];
    let high = x[at + groups];
    for (var w = 0u; w < 4u; w++) {
      let to = token * X_STRIDE + (w / 2u * SLICE + i % SLICE) * 2u + w % 2u;
      tiles[subgroup][to] = vec4<u32>(halvesApart(low[w], scale), halvesApart(high[w], scale));
    }
    if (i % SLICE == 0u) {
      factors[subgroup][skip + token] = factor;
    }
  }
}

// Of a slice of one token, whose groups have their scales from `at` on. Groups past the end repeat the last one.
fn sliceFactor(at: u32, slice: u32) -> f32 {
  var largest = 0u;
  for (var i = 0u; i < SLICE; i++) {
    largest = max(largest, x[at + min(slice + i, params.groups - 1u)].x);
  }
  return factorOf(bitcast<u32>(bitcast<f32>(largest) * 127.0));
}

// Four int8 times a scale, as f16 in the order 0, 2, 1, 3. The factor in the scale keeps them in bounds.
fn halvesApart(word: u32, scale: f32) -> vec2<u32> {
  let values = vec4<f32>(unpack4xI8(word)) * scale;
  return vec2<u32>(smallHalfPair(values.xz), smallHalfPair(values.yw));
}

// The sums of all subgroups to `out`.
fn write(place: vec3<u32>, firstRow: u32, firstToken: u32, tokens: u32, local: u32) {
  for (var i = local; i < ROWS * TOKENS; i += WORKGROUP) {
    let row = i % ROWS;
    let item = (i / ROWS / 8u * ROWS + row) * 2u + i / ROWS % 8u / 4u;
    let token = firstToken + i / ROWS;
    if (token < tokens && firstRow + row < params.rows) {
      var value = 0.0;
      for (var subgroup = 0u; subgroup < SUBGROUPS; subgroup++) {
        value += bitcast<f32>(sums[subgroup][item][i / ROWS % 4u]) * factors[subgroup][i / ROWS];
      }
      let column = params.firstColumn + firstRow + row;
      if (HAS_BIAS) {
        value += bias[column];
      }
      out[(place.x * params.tokens + token) * params.outCols + column] = value;
    }
  }
}
