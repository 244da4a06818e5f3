// The rotation of rq4, R = 2^-h H D on blocks of a head vector (src/device/rotation.ts): the signs and the factor. The butterflies of
// H are in the kernels, whose vectors are in different memory.

// Dims of a block: the largest power of two that divides the head size.
fn rotationBlock(headDim: u32) -> u32 {
  return headDim & (~headDim + 1u);
}

// 2^-h.
fn rotationFactor(headDim: u32) -> f32 {
  return 1.0 / f32(1u << (firstTrailingBit(headDim) / 2u));
}

fn flippedSign(x: f32, dim: u32) -> f32 {
  let hash = (dim + 0x51edu) * 0x9e3779b1u;
  return select(x, -x, ((hash ^ (hash >> 16u)) * 0x85ebca6bu) >= 0x80000000u);
}

// The first dim of the `i`th butterfly of a stage; the second is `stride` further.
fn butterfly(i: u32, stride: u32) -> u32 {
  return i / stride * 2u * stride + i % stride;
}
