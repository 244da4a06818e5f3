// q8, the form of activations that are multiplied with quantized weights: int8 codes of 32 values with one scale, and the sums of the
// codes, so that a weight's offset costs one multiplication per group. Each group has three vec4s, each in its own plane.
struct Q8Group {
  // int8 codes of values 0..15, four to a word.
  low: vec4<u32>,
  // Those of values 16..31.
  high: vec4<u32>,
  // bitcast f32: scale, scale * sum of the low codes, scale * sum of the high codes, 0 (matmulVector: a sum of squares).
  scales: vec4<u32>,
}

// 0x01010101: a dot product with it sums four codes.
const Q8_ONES: u32 = 16843009u;

// The bits of magnitudes have the order of the magnitudes, with infinity and NaN last: either of these reaches the scale, and so every
// product with the group, whatever its codes.
fn q8Magnitudes(values: vec4<f32>) -> vec4<u32> {
  return bitcast<vec4<u32>>(values) & vec4<u32>(0x7fffffffu);
}

fn q8Most(magnitudes: vec4<u32>) -> f32 {
  let two = max(magnitudes.xy, magnitudes.zw);
  return bitcast<f32>(max(two.x, two.y));
}

// The factor from values to codes; 0 if it would not be finite.
fn q8Inverse(most: f32) -> f32 {
  let bits = bitcast<u32>(most);
  return select(0.0, 127.0 / most, bits > 0x0d000000u && bits < 0x7f800000u);
}

// The third plane of a group with these codes.
fn q8Scales(scale: f32, low: vec4<u32>, high: vec4<u32>) -> vec4<u32> {
  let lowSum = q8Sum(low.x) + q8Sum(low.y) + q8Sum(low.z) + q8Sum(low.w);
  let highSum = q8Sum(high.x) + q8Sum(high.y) + q8Sum(high.z) + q8Sum(high.w);
  return vec4<u32>(bitcast<u32>(scale), bitcast<u32>(scale * f32(lowSum)), bitcast<u32>(scale * f32(highSum)), 0u);
}

fn q8Sum(codes: u32) -> i32 {
  return dot4I8Packed(codes, Q8_ONES);
}
