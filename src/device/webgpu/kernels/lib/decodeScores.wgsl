// Scores of attendDecodeMatrix's eight heads for a lane's token. The kernel declares `stage`, `headFactors` and HAS_SOFTCAP; it
// appends unpack and softcap.

// A number for each of heads 0..3 and 4..7.
struct EightHeads {
  low: vec4<f32>,
  high: vec4<f32>,
}

// Of a token that the query does not see.
const MASKED = EightHeads(vec4<f32>(-1e30), vec4<f32>(-1e30));

fn headOf(eight: EightHeads, head: u32) -> f32 {
  return select(eight.high[head % 4u], eight.low[head % 4u], head < 4u);
}

fn timesEach(a: EightHeads, b: EightHeads) -> EightHeads {
  return EightHeads(a.low * b.low, a.high * b.high);
}

// 2^(score - maximum).
fn weightsOf(scores: EightHeads, maxima: EightHeads) -> EightHeads {
  return EightHeads(exp2(scores.low - maxima.low), exp2(scores.high - maxima.high));
}

// By how much a score may exceed its maximum before that is raised, as an exponent of 2: f16 holds such weights.
const HEADROOM: f32 = 8.0;
var<workgroup> outgrown: u32;

// Whether any lane's scores do. The same for all lanes, as the compiler has to see.
fn outgrows(scores: EightHeads, maxima: EightHeads, lane: u32) -> bool {
  let own = any(scores.low > maxima.low + HEADROOM) || any(scores.high > maxima.high + HEADROOM);
  let some = subgroupAny(own);
  if (lane == 0u) {
    outgrown = u32(some);
  }
  return workgroupUniformLoad(&outgrown) != 0u;
}

// The products of `stage` as exponents of 2. lift: log2 of what the weight is multiplied by.
fn scoresAt(lane: u32, isScaled: bool, keyScale: f32, cap: f32, lift: f32, visible: bool) -> EightHeads {
  var products = EightHeads(bitcast<vec4<f32>>(stage[lane * SCORE_STRIDE]), bitcast<vec4<f32>>(stage[lane * SCORE_STRIDE + 1u]));
  if (isScaled) {
    products.low *= vec4<f32>(headFactors[0], headFactors[1], headFactors[2], headFactors[3]);
    products.high *= vec4<f32>(headFactors[4], headFactors[5], headFactors[6], headFactors[7]);
  }
  let low = select(MASKED.low, exponents(products.low, keyScale, cap, lift), visible);
  let high = select(MASKED.high, exponents(products.high, keyScale, cap, lift), visible);
  return EightHeads(low, high);
}

fn exponents(products: vec4<f32>, keyScale: f32, cap: f32, lift: f32) -> vec4<f32> {
  var four = products;
  if (TOKEN_SCALES) {
    four *= keyScale;
  }
  if (HAS_SOFTCAP) {
    four = cap * vec4<f32>(boundedTanh(four.x), boundedTanh(four.y), boundedTanh(four.z), boundedTanh(four.w));
  }
  return four + lift;
}
