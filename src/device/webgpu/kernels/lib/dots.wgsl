// Integer dot products of 16 codes.

fn dotSigned(queries: vec4<u32>, codes: vec4<u32>) -> i32 {
  return dot4I8Packed(queries.x, codes.x) + dot4I8Packed(queries.y, codes.y)
    + dot4I8Packed(queries.z, codes.z) + dot4I8Packed(queries.w, codes.w);
}

fn dotCodes(codes: vec4<u32>, weights: vec4<u32>) -> u32 {
  return dot4U8Packed(codes.x, weights.x) + dot4U8Packed(codes.y, weights.y)
    + dot4U8Packed(codes.z, weights.z) + dot4U8Packed(codes.w, weights.w);
}
