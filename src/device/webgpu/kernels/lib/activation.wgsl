// The activations of gated feed-forwards. silu: x * sigmoid(x); geluTanh: the tanh form of GELU (arXiv 1606.08415).
const SILU: u32 = 0u;
const GELU_TANH: u32 = 1u;

fn activation(kind: u32, x: f32) -> f32 {
  if (kind == SILU) {
    return x / (1.0 + exp(-x));
  }
  // tanh overflows in some drivers for large arguments; beyond 10 it is 1 in float32 anyway.
  let inner = clamp(0.7978845608 * (x + 0.044715 * x * x * x), -10.0, 10.0);
  return 0.5 * x * (1.0 + tanh(inner));
}
