// Gates. silu: g * sigmoid(g) * u; geluTanh: the tanh form of GELU (arXiv 1606.08415) times u; sigmoid: u * sigmoid(g); swigluOai
// (gpt-oss): g * sigmoid(1.702 g) * (u + 1), with g and |u| limited to `limit` first (0: no limit).
const SILU: u32 = 0u;
const GELU_TANH: u32 = 1u;
const SIGMOID: u32 = 2u;

fn gated(kind: u32, gate: f32, up: f32, limit: f32) -> f32 {
  if (kind == SILU) {
    return gate / (1.0 + exp(-gate)) * up;
  }
  if (kind == GELU_TANH) {
    // tanh overflows in some drivers for large arguments; beyond 10 it is 1 in float32 anyway.
    let inner = clamp(0.7978845608 * (gate + 0.044715 * gate * gate * gate), -10.0, 10.0);
    return 0.5 * gate * (1.0 + tanh(inner)) * up;
  }
  if (kind == SIGMOID) {
    return up / (1.0 + exp(-gate));
  }
  var g = gate;
  var u = up;
  if (limit > 0.0) {
    g = min(g, limit);
    u = clamp(u, -limit, limit);
  }
  return g / (1.0 + exp(-1.702 * g)) * (u + 1.0);
}
