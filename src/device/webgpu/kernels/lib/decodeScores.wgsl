// Scores of attendDecodeMatrix as exponents of 2. The kernel declares HAS_SOFTCAP and `params`; it appends unpack and softcap.

// The score of a token that the query does not see.
const MASKED: f32 = -1e30;
// How far a score may exceed its maximum before the maximum is raised. f16 can represent such weights.
const HEADROOM: f32 = 8.0;
var<workgroup> outgrown: u32;

// From four heads' products with a lane's token. lift: log2 of the factor of the weight.
fn scoresOf(products: vec4<f32>, keyScale: f32, lift: f32) -> vec4<f32> {
  var four = products;
  if (TOKEN_SCALES) {
    four *= keyScale;
  }
  if (HAS_SOFTCAP) {
    four = params.cap * vec4<f32>(boundedTanh(four.x), boundedTanh(four.y), boundedTanh(four.z), boundedTanh(four.w));
  }
  return four + lift;
}
