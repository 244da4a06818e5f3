// Weights of any type times many tokens of f32 activations, for devices without subgroup matrices. A workgroup owns 64 rows x 32
// tokens, an invocation 4 x 4 of them; weights are expanded into workgroup memory, 32 columns at a time. With experts (expertMatmul),
// a workgroup has 32 entries of one expert, in the order of groupPicks, instead of tokens.
// lib: weight, codes, fourWeights

// <values>
// include: weightValues
const HAS_BIAS: bool = false;
// cols is a multiple of 4, so that a token begins with a whole vec4.
const ALIGNED: bool = true;
// The weights are experts with `rows` each; out is [entries][rows].
const EXPERTS: bool = false;
// How many entries of a token read the same row of x; 1: each has its own.
const SHARED: u32 = 1u;
// </values>

struct Params {
  rows: u32,
  cols: u32,
  groups: u32,
  // Tokens for which x and out have room.
  tokens: u32,
  outCols: u32,
  // The column of `out` for row 0.
  firstColumn: u32,
  // For experts: rows of all experts before these buffers, and in them; where the list of entries begins in `sorted`.
  partFirst: u32,
  partRows: u32,
  listAt: u32,
}

// include: tileBindings

const TILE_ROWS: u32 = 64u;
const TILE_TOKENS: u32 = 32u;
// [column][row] and [column][token], 12 KiB.
var<workgroup> weightTile: array<f32, 32u * TILE_ROWS>;
var<workgroup> xTile: array<f32, 32u * TILE_TOKENS>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  let firstRow = place.x * TILE_ROWS;
  // Tokens, or positions in the list.
  var firstToken = place.y * TILE_TOKENS;
  var lastToken = params.tokens - 1u;
  var base = 0u;
  var biasAt = params.firstColumn;
  if (EXPERTS) {
    if (place.y >= sorted[0]) {
      return;
    }
    biasAt = sorted[4u + 4u * place.y] * params.rows;
    base = biasAt - params.partFirst;
    if (biasAt < params.partFirst || base >= params.partRows) {
      return;
    }
    firstToken = sorted[5u + 4u * place.y];
    lastToken = firstToken + sorted[6u + 4u * place.y] - 1u;
  }
  // Rows 4 * (local % 16) .. + 3, tokens 4 * (local / 16) .. + 3.
  let rowQuad = local % 16u;
  let tokenQuad = local / 16u;
  // Tokens past the end repeat the last one and are not written.
  var xRow = min(firstToken + local / 4u, lastToken);
  if (EXPERTS) {
    xRow = sorted[params.listAt + xRow] / SHARED;
  }
  var acc: array<vec4<f32>, 4>;

  for (var group = 0u; group < params.groups; group++) {
    workgroupBarrier();
    // Two invocations per row: elements 0..15 and 16..31.
    expand(base + min(firstRow + local / 2u, params.rows - 1u), group, local % 2u, local / 2u);
    // Four invocations per token, eight columns each.
    for (var i = 0u; i < 2u; i++) {
      let col = local % 4u * 8u + i * 4u;
      let values = xAt(xRow, group * 32u + col);
      for (var c = 0u; c < 4u; c++) {
        xTile[(col + c) * TILE_TOKENS + local / 4u] = values[c];
      }
    }
    workgroupBarrier();
    for (var col = 0u; col < 32u; col++) {
      let atRow = col * TILE_ROWS + rowQuad * 4u;
      let w = vec4<f32>(weightTile[atRow], weightTile[atRow + 1u], weightTile[atRow + 2u], weightTile[atRow + 3u]);
      let atToken = col * TILE_TOKENS + tokenQuad * 4u;
      let values = vec4<f32>(xTile[atToken], xTile[atToken + 1u], xTile[atToken + 2u], xTile[atToken + 3u]);
      for (var t = 0u; t < 4u; t++) {
        acc[t] += w * values[t];
      }
    }
  }

  for (var t = 0u; t < 4u; t++) {
    let token = firstToken + tokenQuad * 4u + t;
    var outRow = token;
    if (EXPERTS) {
      outRow = sorted[params.listAt + min(token, lastToken)];
    }
    for (var r = 0u; r < 4u; r++) {
      let row = firstRow + rowQuad * 4u + r;
      if (token <= lastToken && row < params.rows) {
        var value = acc[t][r];
        if (HAS_BIAS) {
          value += bias[biasAt + row];
        }
        out[outRow * params.outCols + params.firstColumn + row] = value;
      }
    }
  }
}

/// Expands half a group of a row into the tile. place: the row's index in the tile.
fn expand(row: u32, group: u32, half: u32, place: u32) {
  let scale = halfScale(row, group, half);
  for (var w = 0u; w < 4u; w++) {
    let values = fourWeights(row, group, half, w, scale);
    for (var c = 0u; c < 4u; c++) {
      weightTile[(half * 16u + w * 4u + c) * TILE_ROWS + place] = values[c];
    }
  }
}

/// Four activations from `col` (a multiple of 4) on; zeros past the end.
fn xAt(token: u32, col: u32) -> vec4<f32> {
  if (col >= params.cols) {
    return vec4<f32>();
  }
  let at = token * params.cols + col;
  if (ALIGNED) {
    return x[at / 4u];
  }
  var values = vec4<f32>();
  for (var i = 0u; i < min(4u, params.cols - col); i++) {
    values[i] = x[(at + i) / 4u][(at + i) % 4u];
  }
  return values;
}
