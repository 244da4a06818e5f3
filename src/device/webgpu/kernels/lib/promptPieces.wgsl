// Operations on pieces of 16 dims of attendPromptMatrix's matrices, through `scores`, since elements of matrices cannot be accessed.
// The kernel declares the constants, `tile`, `scores`, `out`, `params` and the aliases; it appends promptWork, promptTile and narrow.

// Multiplies a piece of O by a factor for each row, through memory.
fn rescalePiece(sum: ptr<function, Result>, own: u32, at: u32, factor: f32) {
  subgroupMatrixStore<row_major>(&scores, own, *sum, SCORE_STRIDE);
  workgroupBarrier();
  scores[at] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[at]) * factor);
  scores[at + 1u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[at + 1u]) * factor);
  workgroupBarrier();
  *sum = subgroupMatrixLoad<Result, row_major>(&scores, own, SCORE_STRIDE);
  workgroupBarrier();
}

// Writes eight dims of a row of a piece of O to the output. Rows past the end repeat the last one and write the same.
fn storePiece(sum: ptr<function, Result>, own: u32, at: u32, place: u32, inverse: f32) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores, own, *sum, SCORE_STRIDE);
  workgroupBarrier();
  let a = bitcast<vec4<f32>>(scores[at]) * inverse;
  let b = bitcast<vec4<f32>>(scores[at + 1u]) * inverse;
  if (OUT_F16) {
    out[place / 8u] = halvesOf(a, b);
  } else {
    out[place / 4u] = bitcast<vec4<u32>>(a);
    out[place / 4u + 1u] = bitcast<vec4<u32>>(b);
  }
}

// Where a row's output, or its partials of a span, begin.
fn outAtRow(work: PromptWork, row: u32, kvHead: u32, span: u32) -> u32 {
  let head = kvHead * GROUP + row % GROUP;
  if (SPANS) {
    return (((work.run.spanned + row / GROUP) * KV_HEADS * GROUP + head) * work.places + span) * (HEAD_DIM + 4u);
  }
  return ((work.run.token + row / GROUP) * KV_HEADS * GROUP + head) * HEAD_DIM;
}

// Stores a row's maximum and total, or its factor. at: where its output begins.
fn storeRow(work: PromptWork, row: u32, kvHead: u32, at: u32, maxScore: f32, sumExp: f32) {
  if (SPANS) {
    out[(at + HEAD_DIM) / 4u] = vec4<u32>(bitcast<u32>(maxScore), bitcast<u32>(sumExp), 0u, 0u);
  }
  if (OUT_F16 && kvHead == 0u && row % GROUP == 0u) {
    out[params.factorsAt + work.run.token + row / GROUP] = vec4<u32>(bitcast<u32>(1.0), 0u, 0u, 0u);
  }
}

// The slice of the head's dims that a subgroup owns.
var<private> ownSlice: u32;

// The place of one of the pieces that a subgroup owns, counted in its slice or in the head.
fn placeOf(piece: u32) -> u32 {
  if (SLICES > 1u) {
    return piece;
  }
  return ownSlice * PIECES + piece;
}

fn queryPiece(rowBlock: u32, own: u32) -> Left {
  let piece = TURNED / 16u + placeOf(own);
  return subgroupMatrixLoad<Left, row_major>(&tile[ownSlice % SLICES], rowBlock * 16u * QUERY_STRIDE + piece * 2u, QUERY_STRIDE);
}

// A piece of the query's rotated dims, which come before those for values.
fn turnedPiece(rowBlock: u32, piece: u32) -> Left {
  let at = rowBlock * 16u * QUERY_STRIDE + min(piece, max(TURNED, 16u) / 16u - 1u) * 2u;
  return subgroupMatrixLoad<Left, row_major>(&tile[ownSlice % SLICES], at, QUERY_STRIDE);
}

// Adds the products with 16 dims of 16 tokens' keys.
fn addKeys(product: ptr<function, Result>, query: Left, s: u32, piece: u32) {
  let right = subgroupMatrixLoad<Right, col_major>(&tile[ownSlice % SLICES], s * 16u * KEY_STRIDE + piece * 2u, KEY_STRIDE);
  *product = subgroupMatrixMultiplyAccumulate(query, right, *product);
}

// Adds the products with rotated dims, of which the last subgroup may have fewer.
fn addTurned(product: ptr<function, Result>, query: Left, s: u32, piece: u32) {
  if (piece < TURNED / 16u) {
    addKeys(product, query, s, piece);
  }
}

// Values that are also the end of keys.
fn addValuesAsKeys(product: ptr<function, Result>, query: Left, s: u32, piece: u32) {
  if (CODED) {
    let right = subgroupMatrixLoad<Right, row_major>(&tile[ownSlice % SLICES], piece * 16u * VALUE_STRIDE + s * 2u, VALUE_STRIDE);
    *product = subgroupMatrixMultiplyAccumulate(query, right, *product);
  } else {
    let right = subgroupMatrixLoad<Right, col_major>(&tile[ownSlice % SLICES], s * 16u * VALUE_STRIDE + piece * 2u, VALUE_STRIDE);
    *product = subgroupMatrixMultiplyAccumulate(query, right, *product);
  }
}

fn addValues(sum: ptr<function, Result>, weights: Left, s: u32, piece: u32) {
  if (CODED) {
    let right = subgroupMatrixLoad<Right, col_major>(&tile[ownSlice % SLICES], piece * 16u * VALUE_STRIDE + s * 2u, VALUE_STRIDE);
    *sum = subgroupMatrixMultiplyAccumulate(weights, right, *sum);
  } else {
    let right = subgroupMatrixLoad<Right, row_major>(&tile[ownSlice % SLICES], s * 16u * VALUE_STRIDE + piece * 2u, VALUE_STRIDE);
    *sum = subgroupMatrixMultiplyAccumulate(weights, right, *sum);
  }
}
