// Softmax weights of attendDecode times the values' scales, as 8-bit codes. The kernel declares INT4 and VALUE_BITS.

// Subtracted from values' codes, to centre them.
const VALUE_MIDDLE: f32 = f32((1u << VALUE_BITS) - 1u) / 2.0;

struct QuantizedWeights {
  // For 16 tokens.
  codes: vec4<u32>,
  scale: f32,
  // The sum over tokens of weight times middle, with the correction for centred codes.
  middle: f32,
}

// weights: of 16 tokens. loaded: scale and zero, or scale, of each; for tokens with the weight 0 these may be anything, NaN too.
fn quantizeWeights(weights: array<vec4<f32>, 4>, loaded: array<vec4<u32>, 4>) -> QuantizedWeights {
  var scaled = array<vec4<f32>, 4>();
  var middle = 0.0;
  var largest = 0.0;
  for (var i = 0u; i < 4u; i++) {
    let packed = select(loaded[i], vec4<u32>(0u), weights[i] == vec4<f32>(0.0));
    let a = unpack2x16float(packed.x);
    let b = unpack2x16float(packed.y);
    let c = unpack2x16float(packed.z);
    let d = unpack2x16float(packed.w);
    let scale = vec4<f32>(a.x, b.x, c.x, d.x);
    if (INT4) {
      middle += dot(weights[i], vec4<f32>(a.y, b.y, c.y, d.y) + 7.5 * scale);
    }
    scaled[i] = weights[i] * scale;
    let two = max(scaled[i].xy, scaled[i].zw);
    largest = max(largest, max(two.x, two.y));
  }
  let inverse = select(0.0, 255.0 / largest, largest > 1e-30);
  let unit = largest / 255.0;
  var count = 0.0;
  var words = vec4<u32>();
  for (var i = 0u; i < 4u; i++) {
    let rounded = floor(scaled[i] * inverse + 0.5);
    count += dot(rounded, vec4<f32>(1.0));
    words[i] = pack4xU8(vec4<u32>(rounded));
  }
  return QuantizedWeights(words, unit, middle - VALUE_MIDDLE * unit * count);
}
