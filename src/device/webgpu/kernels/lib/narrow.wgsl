// float32 -> float16. WGSL's own conversions are undefined outside float16's range, so kernels convert only through this file
// (test/device/webgpu/narrow.test.ts).
const LARGEST_HALF: f32 = 65504.0;
// If the largest number is below this, numbers a thousand times smaller lose bits.
const LEAST_IN_HALVES: f32 = 0.00048828125;

/// Two numbers as float16 in a word. Finite ones beyond 65504 become 65504; infinities and NaN stay, so that they are noticed.
fn halfPair(two: vec2<f32>) -> u32 {
  let finite = (bitcast<vec2<u32>>(two) & vec2<u32>(0x7fffffffu)) < vec2<u32>(0x7f800000u);
  return pack2x16float(select(two, clamp(two, vec2<f32>(-LARGEST_HALF), vec2<f32>(LARGEST_HALF)), finite));
}

fn halvesOf(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(halfPair(a.xy), halfPair(a.zw), halfPair(b.xy), halfPair(b.zw));
}

/// For numbers that cannot exceed 65504, without the cost of clamping; a comment at each call says why they cannot.
fn smallHalfPair(two: vec2<f32>) -> u32 {
  return pack2x16float(two);
}

fn smallHalvesOf(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(smallHalfPair(a.xy), smallHalfPair(a.zw), smallHalfPair(b.xy), smallHalfPair(b.zw));
}

/// 1 / factor, exactly.
fn inverseFactor(factor: f32) -> f32 {
  return bitcast<f32>(0x7f000000u - bitcast<u32>(factor));
}

/// The power of two by which numbers are divided to fit float16, from the bits of their largest magnitude: 1 if they fit already, or
/// if it is an infinity or a NaN.
fn factorOf(bits: u32) -> f32 {
  let largest = bitcast<f32>(bits);
  if (bits == 0u || bits >= 0x7f800000u || (largest >= LEAST_IN_HALVES && largest <= LARGEST_HALF)) {
    return 1.0;
  }
  // Scales it into [2^14, 2^15), as far as float32 can represent the factor.
  let exponent = max(bits >> 23u, 28u);
  return bitcast<f32>((exponent - 14u) << 23u);
}
