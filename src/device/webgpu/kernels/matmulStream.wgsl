// Packed weights times 5 to 16 rows of q8 activations (lib/q8.wgsl), by f16 subgroup matrices with f32 sums: weights stream past
// activations that stay in matrix registers. A subgroup owns 256 columns and goes through rows of weights, 16 at a time. It reads 128
// bytes of each row at once, so that memory accesses are long, and expands a quarter of these at a time into workgroup memory: the
// less it needs of that, the more subgroups a core has to hide latency. The subgroups of a workgroup have neighbouring columns; their
// sums are added in workgroup memory, those of several workgroups by sumSplits or by the kernel that reads them. A quarter is one word
// of each group, in the order in which codes unpack (expandApart): four low nibbles and four high ones, so that lanes store to
// different banks. Activations have the same order. Registers have names, and offsets of matrices are constants: see
// attendDecodeMatrix.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, weight, codes, weightHalves, narrow, storedGroup

// <values>
// include: weightValues
// Subgroups per workgroup.
const SUBGROUPS: u32 = 4u;
// Tokens of the step per workgroup: 8 or 16.
const TOKENS: u32 = 8u;
const OUTPUTS: bool = false;
const HAS_BIAS: bool = false;
// </values>

// include: splitParams

// include: q8Bindings
// [splits][tokens][outCols]; a split is the columns of one workgroup.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

const SUBGROUP: u32 = 32u;
const WORKGROUP: u32 = SUBGROUP * SUBGROUPS;
const ROWS: u32 = 16u;
// Groups per subgroup.
const SLICE: u32 = 8u;
// Rows of workgroup memory in items of eight f16, an odd number to avoid bank conflicts: one word of each group of a slice.
const STRIDE: u32 = SLICE + 1u;
// f32 [TOKENS][ROWS] in items of four, also an odd number.
const SUM_STRIDE: u32 = ROWS / 4u + 1u;
// For each subgroup: a quarter of 16 rows of weights; before that, of eight rows of activations.
var<workgroup> tiles: array<array<vec4<u32>, ROWS * STRIDE>, SUBGROUPS>;
var<workgroup> sums: array<array<vec4<u32>, TOKENS * SUM_STRIDE>, SUBGROUPS>;
// The factors by which a subgroup's activations were divided.
var<workgroup> factors: array<array<f32, TOKENS>, SUBGROUPS>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 8, 16>;
alias Result = subgroup_matrix_result<f32, 8, 16>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  let subgroup = local / SUBGROUP;
  let lane = local % SUBGROUP;
  let firstToken = place.z * TOKENS;
  let tokens = select(step.tokens, step.outputs, OUTPUTS);
  let rowTiles = (params.rows + ROWS - 1u) / ROWS;
  // Each lane has one group of four rows, which are four apart. Past the last group it repeats that one, and activations are 0.
  let own = (place.x * SUBGROUPS + subgroup) * SLICE + lane % SLICE;
  let group = min(own, params.groups - 1u);
  let mine = lane / SLICE * STRIDE + lane % SLICE;
  // each R 0..3
  var next{R} = groupAt(place.y * ROWS + lane / SLICE + {4 * R}u, group);
  // end

  // Activations: sixteen pieces C of 16 columns, for tokens 0..7 and 8..15.
  // each C 0..15
  var x0_{C}: Right;
  var x1_{C}: Right;
  // end
  // Each lane loads one group of every fourth token. All loads begin before the first is used.
  // each I 0..3
  let xAt{I} = min(firstToken + lane / SLICE + {4 * I}u, tokens - 1u) * 3u * params.groups + group;
  var low{I}: vec4<u32>;
  var high{I}: vec4<u32>;
  var xScale{I} = 0.0;
  if ({4 * I}u < TOKENS) {
    low{I} = x[xAt{I}];
    high{I} = x[xAt{I} + params.groups];
    let bits = x[xAt{I} + 2u * params.groups].x;
    xScale{I} = select(0.0, bitcast<f32>(bits), own == group);
    tiles[subgroup][min(lane + {32 * I}u, ROWS * STRIDE - 1u)] = vec4<u32>(bits, 0u, 0u, 0u);
  }
  // end
  workgroupBarrier();
  // each I 0..3
  if ({4 * I}u < TOKENS) {
    let factor = factorAt(subgroup, lane / SLICE * SLICE + {32 * I}u);
    if (lane % SLICE == 0u) {
      factors[subgroup][min(lane / SLICE + {4 * I}u, TOKENS - 1u)] = factor;
    }
    xScale{I} *= inverseFactor(factor);
  }
  // end
  workgroupBarrier();
  // each W 0..3
  // each I 0..1
  tiles[subgroup][mine + {4 * I}u * STRIDE] = xItem(low{I}[{W}u], high{I}[{W}u], xScale{I});
  // end
  workgroupBarrier();
  // each C 0..3
  x0_{4 * W + C} = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], {2 * C}u, STRIDE);
  // end
  workgroupBarrier();
  if (TOKENS > 8u) {
    // each I 0..1
    tiles[subgroup][mine + {4 * I}u * STRIDE] = xItem(low{I + 2}[{W}u], high{I + 2}[{W}u], xScale{I + 2});
    // end
    workgroupBarrier();
    // each C 0..3
    x1_{4 * W + C} = subgroupMatrixLoad<Right, col_major>(&tiles[subgroup], {2 * C}u, STRIDE);
    // end
    workgroupBarrier();
  }
  // end

  for (var tile = place.y; tile < rowTiles; tile += grid.y) {
    // each R 0..3
    let scale{R} = f16Scales(next{R}.scales, group);
    let words{R} = nibblesOf(next{R}.first, next{R}.second, group);
    let further{R} = upperOf(next{R}.second, group);
    // end
    // Past the last tile, that one is loaded again; it is in the cache by then.
    let row = min(tile + grid.y, rowTiles - 1u) * ROWS + lane / SLICE;
    // each R 0..3
    next{R} = groupAt(row + {4 * R}u, group);
    // end
    // Initialized explicitly: on NVIDIA's GPUs, a matrix without an initializer keeps its content from the previous iteration.
    var sum0 = Result();
    var sum1 = Result();
    // each W 0..3
    // each R 0..3
    tiles[subgroup][mine + {4 * R}u * STRIDE] = item(words{R}[{W}u], further{R}[{W}u], scale{R});
    // end
    workgroupBarrier();
    // each C 0..3
    {
      let weights = subgroupMatrixLoad<Left, row_major>(&tiles[subgroup], {2 * C}u, STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(weights, x0_{4 * W + C}, sum0);
      if (TOKENS > 8u) { sum1 = subgroupMatrixMultiplyAccumulate(weights, x1_{4 * W + C}, sum1); }
    }
    // end
    workgroupBarrier();
    // end
    subgroupMatrixStore<col_major>(&sums[subgroup], 0u, sum0, SUM_STRIDE);
    if (TOKENS > 8u) {
      subgroupMatrixStore<col_major>(&sums[subgroup], select(0u, 8u * SUM_STRIDE, TOKENS > 8u), sum1, SUM_STRIDE);
    }
    workgroupBarrier();
    // The next tile's barriers come before its sums are stored.
    write(place, tile * ROWS, firstToken, tokens, local);
  }
}

// Four columns of a group and the four that are 16 further: a word of nibbles and its upper bits or, for BYTES, a word of each plane.
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

// The factor by which a token is divided. at: where the largest scales of its groups begin.
fn factorAt(subgroup: u32, at: u32) -> f32 {
  var largest = 0u;
  for (var i = 0u; i < SLICE; i++) {
    largest = max(largest, tiles[subgroup][at + i].x);
  }
  return factorOf(bitcast<u32>(bitcast<f32>(largest) * 127.0));
}

// A word of a token's group, in the order of the weights.
fn xItem(low: u32, high: u32, scale: f32) -> vec4<u32> {
  return vec4<u32>(halvesApart(low, scale), halvesApart(high, scale));
}

// Four int8 times a scale, as f16 in the order 0, 2, 1, 3. The factor in the scale keeps them within f16.
fn halvesApart(word: u32, scale: f32) -> vec2<u32> {
  let values = vec4<f32>(unpack4xI8(word)) * scale;
  return vec2<u32>(smallHalfPair(values.xz), smallHalfPair(values.yw));
}

// Writes the sums of all subgroups to `out`.
fn write(place: vec3<u32>, firstRow: u32, firstToken: u32, tokens: u32, local: u32) {
  for (var i = local; i < ROWS * TOKENS; i += WORKGROUP) {
    let row = i % ROWS;
    let token = i / ROWS;
    if (firstToken + token < tokens && firstRow + row < params.rows) {
      var value = 0.0;
      for (var subgroup = 0u; subgroup < SUBGROUPS; subgroup++) {
        value += bitcast<f32>(sums[subgroup][token * SUM_STRIDE + row / 4u][row % 4u]) * factors[subgroup][token];
      }
      let column = params.firstColumn + firstRow + row;
      if (HAS_BIAS) {
        value += bias[column];
      }
      out[(place.x * params.tokens + firstToken + token) * params.outCols + column] = value;
    }
  }
}
