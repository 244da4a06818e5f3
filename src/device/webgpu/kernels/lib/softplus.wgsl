// ln(1 + e^value). Near 1 a logarithm loses the digits that decays over thousands of tokens depend on: a series there.
fn softplus(value: f32) -> f32 {
  let y = exp(-abs(value));
  let series = y * (1.0 - y * (0.5 - y * (1.0 / 3.0 - y * (0.25 - y * (0.2 - y / 6.0)))));
  return max(value, 0.0) + select(log(1.0 + y), series, y < 0.1);
}
