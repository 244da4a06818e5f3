// tanh that neither overflows nor gives NaN when exp2 is infinite.
fn boundedTanh(x: f32) -> f32 {
  return 1.0 - 2.0 / (exp2(x * 2.8853900817779268) + 1.0);
}
