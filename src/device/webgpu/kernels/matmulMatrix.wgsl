// Weights of any form times many tokens of f16 activations, by f16 subgroup matrices with f32 sums; matmulSquare has what it can. A
// workgroup owns 128 rows and, per subgroup, 32 tokens; weights are expanded to f16 in workgroup memory, 32 columns at a time. out = x
// [tokens x cols] times weight [rows x cols] transposed: the left matrix is x, the right one the weight by columns. Rows of x have
// factors (lib/rowFactor.wgsl); a tile in which they are not all 1 is written like tiles at the edge (lib/productTiles.wgsl). Tiles that
// would fill only part of a GPU are divided into splits of their columns, which sumSplits adds.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, weight, codes, weightTile, weightHalves, narrow, productTiles

// <values>
// include: weightValues
const SUBGROUP: u32 = 32u;
// Each subgroup has its own 32 tokens and all 128 rows, so that offsets of weights in the tile are constants: Dawn puts an `if` around
// each matrix load with a variable offset (lab/LOG.md: 93 -> 160 TFLOP/s on H100, 2026-11-23).
const SUBGROUPS: u32 = 4u;
const HAS_BIAS: bool = false;
// Rows are the step's outputs, not its tokens.
const OUTPUTS: bool = false;
// </values>

// include: halvesBindings
// include: promptProduct

// Groups that are loaded at once, and that a split is a multiple of.
const UNIT: u32 = 1u;
const WORKGROUP: u32 = SUBGROUP * SUBGROUPS;
const TILE_ROWS: u32 = 128u;
const TILE_TOKENS: u32 = SUBGROUPS * 32u;
// In items of eight f16. A row of a tile has 32 columns and one more item, so that the eight rows that a matrix load takes at once are
// in different banks.
const STRIDE: u32 = 5u;
var<workgroup> weightTile: array<vec4<u32>, TILE_ROWS * STRIDE>;
var<workgroup> xTile: array<vec4<u32>, TILE_TOKENS * STRIDE>;

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
  let subgroup = local / SUBGROUP;
  let xAt = subgroup * 32u * STRIDE;
  noteFactors(firstToken, local);

  // Rows by tokens. Not an array: an array that a loop indexes is in memory, not in registers (28 -> 97 TFLOP/s).
  // each R 0..7
  var acc{R}0: Result; var acc{R}1: Result;
  // end
  var loads = load(firstRow, firstToken, params.tokens - 1u, work.group, local);
  for (var group = work.group; group < work.end; group++) {
    workgroupBarrier();
    store(&loads, group, local);
    // The next tile is loaded while this one is multiplied. The last loads repeat a tile; their results are not used. Loading before
    // the barrier: 242 -> 250 TFLOP/s for q4_0. Floats, which are more bytes, are loaded after it: 169 -> 209.
    let following = min(group + 1u, work.end - 1u);
    if (CODES < F32) {
      loads = load(firstRow, firstToken, params.tokens - 1u, following, local);
    }
    workgroupBarrier();
    if (CODES >= F32) {
      loads = load(firstRow, firstToken, params.tokens - 1u, following, local);
    }
    // Columns 0..15, then 16..31.
    // each C 0..1
    {
      let left0 = subgroupMatrixLoad<Left, row_major>(&xTile, xAt + {2 * C}u, STRIDE);
      let left1 = subgroupMatrixLoad<Left, row_major>(&xTile, xAt + 16u * STRIDE + {2 * C}u, STRIDE);
      // each R 0..7
      let right{R} = subgroupMatrixLoad<Right, col_major>(&weightTile, {16 * R}u * STRIDE + {2 * C}u, STRIDE);
      acc{R}0 = subgroupMatrixMultiplyAccumulate(left0, right{R}, acc{R}0);
      acc{R}1 = subgroupMatrixMultiplyAccumulate(left1, right{R}, acc{R}1);
      // end
    }
    // end
  }

  let token = firstToken + subgroup * 32u;
  if (isPlain(firstRow, firstToken, local)) {
    let next = 16u * work.stride;
    let at = work.base + token * work.stride + firstRow;
    if (work.isWhole) {
      // each R 0..7
      subgroupMatrixStore<row_major>(&out, at + {16 * R}u, acc{R}0, work.stride);
      subgroupMatrixStore<row_major>(&out, at + next + {16 * R}u, acc{R}1, work.stride);
      // end
    } else {
      // each R 0..7
      subgroupMatrixStore<row_major>(&sums, at + {16 * R}u, acc{R}0, work.stride);
      subgroupMatrixStore<row_major>(&sums, at + next + {16 * R}u, acc{R}1, work.stride);
      // end
    }
    return;
  }
  // each R 0..7
  writeEdge(acc{R}0, work, firstRow + {16 * R}u, token, local);
  writeEdge(acc{R}1, work, firstRow + {16 * R}u, token + 16u, local);
  // end
}

fn weightRowOf(row: u32) -> u32 {
  return row;
}

fn xRowOf(token: u32) -> u32 {
  return token;
}

fn storePart(place: u32, fragment: Result) {
  subgroupMatrixStore<row_major>(&weightTile, place, fragment, 4u);
}

fn partItem(at: u32) -> vec4<u32> {
  return weightTile[at];
}
