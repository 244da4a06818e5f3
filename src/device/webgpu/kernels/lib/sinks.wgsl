// A sink is an additional score of a head, without a value. It is added once, after all positions.

// What a sink adds to a softmax's total of powers of 2, relative to a maximum; bounded, so that no total is infinite.
fn sinkWeight(sink: f32, most: f32) -> f32 {
  return exp2(min(sink * 1.4426950408889634 - most, 120.0));
}
