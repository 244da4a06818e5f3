// The int4 format: 4-bit codes with a scale and a zero for each group of 32 values. The kernel appends half.

// The scale and zero of `count` floats, as halves, and the constants for encoding: zero, 1 / scale.
struct Range {
  bits: u32,
  zero: f32,
  inverse: f32,
}

// The largest magnitude that int4 can represent.
const LARGEST: f32 = 65000.0;

fn rangeOf(smallest: f32, largest: f32) -> Range {
  let least = clamp(smallest, -LARGEST, LARGEST);
  let most = clamp(largest, -LARGEST, LARGEST);
  let scale = halfBits(fifteenth(most - least));
  // A minimum of -0 becomes 0, since which of the two is found depends on the order of comparisons.
  let zero = select(halfBits(least), 0u, least == 0.0);
  return Range(scale | (zero << 16u), halfValue(zero), inverseOfHalf(scale));
}

fn code(x: f32, zero: f32, inverse: f32) -> u32 {
  // The clamp between product and sum changes no code, but keeps compilers from fusing both into one rounding.
  let steps = clamp((x - zero) * inverse, 0.0, 16.0);
  return u32(min(15.0, floor(steps + 0.5)));
}
