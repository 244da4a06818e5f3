// Operations on attendDecodeMatrix's sums, through workgroup memory, since elements of matrices cannot be accessed. The kernel
// declares `stage`, `partials`, Result and the strides.

// Words of partials per head: its sums, then the maximum and the sum of weights.
const FOURS: u32 = HEAD_DIM / 4u;
const SPAN_STRIDE: u32 = FOURS + 1u;

// Multiplies the columns of 16 dims of O' by a factor each.
fn rescalePiece(sum: ptr<function, Result>, lowFactors: vec4<f32>, highFactors: vec4<f32>, lane: u32) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&stage, 0u, *sum, SCORE_STRIDE);
  workgroupBarrier();
  if (lane < 16u) {
    let low = bitcast<vec4<f32>>(stage[lane * SCORE_STRIDE]) * lowFactors;
    let high = bitcast<vec4<f32>>(stage[lane * SCORE_STRIDE + 1u]) * highFactors;
    stage[lane * SCORE_STRIDE] = bitcast<vec4<u32>>(low);
    stage[lane * SCORE_STRIDE + 1u] = bitcast<vec4<u32>>(high);
  }
  workgroupBarrier();
  *sum = subgroupMatrixLoad<Result, row_major>(&stage, 0u, SCORE_STRIDE);
  workgroupBarrier();
}

// Writes 32 dims of the workgroup's heads from `stage` to their partials.
fn storeSums(span: u32, places: u32, group: u32, heads: u32, lane: u32) {
  let four = group * 8u + lane % 8u;
  if (four < FOURS) {
    if (lane / 8u < heads) {
      partials[span + lane / 8u * places * SPAN_STRIDE + four] = bitcast<vec4<f32>>(stage[lane / 8u * SUM_STRIDE + lane % 8u]);
    }
    if (lane / 8u + 4u < heads) {
      partials[span + (lane / 8u + 4u) * places * SPAN_STRIDE + four] = bitcast<vec4<f32>>(stage[(lane / 8u + 4u) * SUM_STRIDE + lane % 8u]);
    }
  }
}
