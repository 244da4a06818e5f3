// Codes of numbers between a minimum and a maximum, as src/cache/codec-int4.ts and codec-channel.ts define them. The kernel
// appends half.

// Scale and zero of `count` floats as halves, and the constants of coding: zero, 1 / scale.
struct Range {
  bits: u32,
  zero: f32,
  inverse: f32,
}

// What these formats hold at most.
const LARGEST: f32 = 65000.0;

// most: the largest code.
fn rangeOf(smallest: f32, largest: f32, most: u32) -> Range {
  let low = clamp(smallest, -LARGEST, LARGEST);
  let high = clamp(largest, -LARGEST, LARGEST);
  let scale = halfBits(dividedBy(high - low, most));
  // A minimum of -0 is 0: which of the two it is depends on the order of comparing.
  let zero = select(halfBits(low), 0u, low == 0.0);
  return Range(scale | (zero << 16u), halfValue(zero), inverseOfHalf(scale));
}

fn code(x: f32, zero: f32, inverse: f32, most: f32) -> u32 {
  // The clamp between product and sum changes no code and keeps compilers from fusing the two into one rounding.
  let steps = clamp((x - zero) * inverse, 0.0, most + 1.0);
  return u32(min(most, floor(steps + 0.5)));
}
