// Softmax weights of attendDecodeFloat, and their products with codes. Weights are multiplied by the scales of values, arranged for
// floatCodes.wgsl, and stored in `weighed` and `middles`. The kernel declares these and its values.

// Stores a thread's eight weights times the scales of a group of dims. block: where the scales of their block begin. Scales of tokens
// with the weight 0 may be anything, NaN too.
fn weigh(block: u32, group: u32, head: u32, lane: u32, low: vec4<f32>, high: vec4<f32>, shrink: f32) {
  let quarter = lane % 4u;
  var lowScales = vec4<f32>();
  var highScales = vec4<f32>();
  var middle = 0.0;
  if (RQ4) {
    lowScales = weighing(halvesOf(values[block + quarter / 2u], quarter % 2u == 1u), low);
    highScales = weighing(halvesOf(values[block + 2u + quarter / 2u], quarter % 2u == 1u), high);
    middle = -VALUE_MIDDLE * (dot(low, lowScales) + dot(high, highScales));
  } else {
    let lowRanges = rangesOf(values[block + group * 8u + quarter]);
    let highRanges = rangesOf(values[block + group * 8u + 4u + quarter]);
    lowScales = weighing(lowRanges[0], low);
    highScales = weighing(highRanges[0], high);
    middle = dot(low, weighing(lowRanges[1], low)) + dot(high, weighing(highRanges[1], high));
  }
  let a = low * lowScales;
  let b = high * highScales;
  let at = (((lane / 4u) * WEIGHT_GROUPS + group) * HEADS + head) * 8u + quarter * 2u;
  weighed[at] = bitcast<vec4<u32>>(arranged(a.xy, b.xy));
  weighed[at + 1u] = bitcast<vec4<u32>>(arranged(a.zw, b.zw));
  let place = (head * WEIGHT_GROUPS + group) * LANES + lane;
  middles[place] = middles[place] * shrink + middle;
}

fn weighing(four: vec4<f32>, weights: vec4<f32>) -> vec4<f32> {
  return select(four, vec4<f32>(0.0), weights == vec4<f32>(0.0));
}

// The first or the second four of eight halves.
fn halvesOf(eight: vec4<u32>, second: bool) -> vec4<f32> {
  let two = select(eight.xy, eight.zw, second);
  return vec4<f32>(unpack2x16float(two.x), unpack2x16float(two.y));
}

// Scales and zeros of four tokens.
fn rangesOf(four: vec4<u32>) -> array<vec4<f32>, 2> {
  let a = unpack2x16float(four.x);
  let b = unpack2x16float(four.y);
  let c = unpack2x16float(four.z);
  let d = unpack2x16float(four.w);
  return array<vec4<f32>, 2>(vec4<f32>(a.x, b.x, c.x, d.x), vec4<f32>(a.y, b.y, c.y, d.y));
}

// For four heads: products of weights with a dim's codes of one block.
fn weightedCodes(words: vec4<u32>, b: u32, dim: u32, first: u32) -> vec4<f32> {
  let at = ((b * WEIGHT_GROUPS + select(dim / 32u, 0u, RQ4)) * HEADS + first) * 8u;
  return weightedWord(words.x, at) + weightedWord(words.y, at + 2u) + weightedWord(words.z, at + 4u) + weightedWord(words.w, at + 6u);
}

fn weightedWord(word: u32, at: u32) -> vec4<f32> {
  let a = nibbleFloats(word, 0.0);
  let b = nibbleFloats(word >> 16u, 0.0);
  let most = TILE / 32u * WEIGHT_GROUPS * HEADS * 8u - 2u;
  let second = min(at + 8u, most);
  let third = min(at + 16u, most);
  let fourth = min(at + 24u, most);
  return vec4<f32>(
    dot(a, weightsAt(at)) + dot(b, weightsAt(at + 1u)),
    dot(a, weightsAt(second)) + dot(b, weightsAt(second + 1u)),
    dot(a, weightsAt(third)) + dot(b, weightsAt(third + 1u)),
    dot(a, weightsAt(fourth)) + dot(b, weightsAt(fourth + 1u)));
}

fn weightsAt(at: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(weighed[at]);
}
