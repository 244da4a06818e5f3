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
  var next0 = groupAt(first, group);
  var next1 = groupAt(first + 4u, group);
  var next2 = groupAt(first + 8u, group);
  var next3 = groupAt(first + 12u, group);

  storeX(subgroup, firstToken, 0u, tokens - 1u, slice, lane);
  workgroupBarrier();
  let x0_0 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 0u, X_STRIDE);
  let x0_1 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 2u, X_STRIDE);
  let x0_2 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 4u, X_STRIDE);
  let x0_3 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 6u, X_STRIDE);
  let x0_4 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 8u, X_STRIDE);
  let x0_5 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 10u, X_STRIDE);
  let x0_6 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 12u, X_STRIDE);
  let x0_7 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 14u, X_STRIDE);
  let x0_8 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 16u, X_STRIDE);
  let x0_9 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 18u, X_STRIDE);
  let x0_10 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 20u, X_STRIDE);
  let x0_11 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 22u, X_STRIDE);
  let x0_12 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 24u, X_STRIDE);
  let x0_13 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 26u, X_STRIDE);
  let x0_14 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 28u, X_STRIDE);
  let x0_15 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 30u, X_STRIDE);
  var x1_0: Right;
  var x1_1: Right;
  var x1_2: Right;
  var x1_3: Right;
  var x1_4: Right;
  var x1_5: Right;
  var x1_6: Right;
  var x1_7: Right;
  var x1_8: Right;
  var x1_9: Right;
  var x1_10: Right;
  var x1_11: Right;
  var x1_12: Right;
  var x1_13: Right;
  var x1_14: Right;
  var x1_15: Right;
  if (TOKENS > 8u) {
    workgroupBarrier();
    storeX(subgroup, firstToken, 8u, tokens - 1u, slice, lane);
    workgroupBarrier();
    x1_0 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 0u, X_STRIDE);
    x1_1 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 2u, X_STRIDE);
    x1_2 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 4u, X_STRIDE);
    x1_3 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 6u, X_STRIDE);
    x1_4 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 8u, X_STRIDE);
    x1_5 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 10u, X_STRIDE);
    x1_6 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 12u, X_STRIDE);
    x1_7 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 14u, X_STRIDE);
    x1_8 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 16u, X_STRIDE);
    x1_9 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 18u, X_STRIDE);
    x1_10 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 20u, X_STRIDE);
    x1_11 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 22u, X_STRIDE);
    x1_12 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 24u, X_STRIDE);
    x1_13 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 26u, X_STRIDE);
    x1_14 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 28u, X_STRIDE);
    x1_15 = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], 30u, X_STRIDE);
  }

  for (var tile = place.y; tile < rowTiles; tile += grid.y) {
    let group0 = next0;
    let group1 = next1;
    let group2 = next2;
    let group3 = next3;
    let scale0 = f16Scales(group0.scales, group);
    let scale1 = f16Scales(group1.scales, group);
    let scale2 = f16Scales(group2.scales, group);
    let scale3 = f16Scales(group3.scales, group);
    let words0 = nibblesOf(group0.first, group0.second, group);
    let further0 = upperOf(group0.second, group);
    let words1 = nibblesOf(group1.first, group1.second, group);
    let further1 = upperOf(group1.second, group);
    let words2 = nibblesOf(group2.first, group2.second, group);
    let further2 = upperOf(group2.second, group);
    let words3 = nibblesOf(group3.first, group3.second, group);
    let further3 = upperOf(group3.second, group);
    // Past the last tile it is that one again, which is near by then.
    let row = min(tile + grid.y, rowTiles - 1u) * ROWS + lane / SLICE;
    next0 = groupAt(row, group);
    next1 = groupAt(row + 4u, group);
    next2 = groupAt(row + 8u, group);
    next3 = groupAt(row + 12u, group);
    var sum0: Result;
    var sum1: Result;
    workgroupBarrier();
    tiles[subgroup][mine] = item(words0.x, further0.x, scale0);
    tiles[subgroup][mine + 1u] = item(words0.y, further0.y, scale0);
    tiles[subgroup][4u * STRIDE + mine] = item(words1.x, further1.x, scale1);
    tiles[subgroup][4u * STRIDE + mine + 1u] = item(words1.y, further1.y, scale1);
    tiles[subgroup][8u * STRIDE + mine] = item(words2.x, further2.x, scale2);
    tiles[subgroup][8u * STRIDE + mine + 1u] = item(words2.y, further2.y, scale2);
    tiles[subgroup][12u * STRIDE + mine] = item(words3.x, further3.x, scale3);
    tiles[subgroup][12u * STRIDE + mine + 1u] = item(words3.y, further3.y, scale3);
    workgroupBarrier();
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 0u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_0, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_0, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 2u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_1, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_1, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 4u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_2, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_2, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 6u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_3, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_3, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 8u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_4, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_4, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 10u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_5, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_5, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 12u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_6, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_6, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 14u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_7, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_7, sum1); }
    }
    workgroupBarrier();
    tiles[subgroup][mine] = item(words0.z, further0.z, scale0);
    tiles[subgroup][mine + 1u] = item(words0.w, further0.w, scale0);
    tiles[subgroup][4u * STRIDE + mine] = item(words1.z, further1.z, scale1);
    tiles[subgroup][4u * STRIDE + mine + 1u] = item(words1.w, further1.w, scale1);
    tiles[subgroup][8u * STRIDE + mine] = item(words2.z, further2.z, scale2);
    tiles[subgroup][8u * STRIDE + mine + 1u] = item(words2.w, further2.w, scale2);
    tiles[subgroup][12u * STRIDE + mine] = item(words3.z, further3.z, scale3);
    tiles[subgroup][12u * STRIDE + mine + 1u] = item(words3.w, further3.w, scale3);
    workgroupBarrier();
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 0u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_8, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_8, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 2u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_9, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_9, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 4u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_10, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_10, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 6u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_11, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_11, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 8u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_12, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_12, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 10u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_13, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_13, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 12u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_14, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_14, sum1); }
    }
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], 14u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_15, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_15, sum1); }
    }
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
