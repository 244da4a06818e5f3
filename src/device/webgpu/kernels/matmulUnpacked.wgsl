// Packed weights times a few rows of f32 activations, in float arithmetic: for GPUs that emulate integer dot products (Apple's). A
// team of TEAM invocations owns four rows of weights; lane i takes the groups i, i + TEAM, ... of each. Codes become floats once for
// all tokens. Sums have names, as in matmulFew. With experts (expertMatmul), each entry of `picks` is multiplied with its expert's
// rows and is a row of out.
// lib: step, weight, codes, teamSum, floatCodes, picks, nibbleCodes, scalesAt

// <values>
// include: weightValues
const WORKGROUP: u32 = 32u;
const TEAM: u32 = 32u;
const SUBGROUP: u32 = 32u;
// Tokens per workgroup: 1 to 4.
const TOKENS: u32 = 1u;
const OUTPUTS: bool = false;
const HAS_BIAS: bool = false;
// Number of experts, with `rows` rows each; 0: one matrix.
const EXPERTS: u32 = 0u;
const PICKS: u32 = 1u;
// How many picks of a token read the same row of x; 1: each has its own.
const SHARED: u32 = 1u;
// </values>

// Nibbles are used as they are; other codes become int8 first.
const DIRECT: bool = CODES == NIBBLES;
// Subtracted from codes before they are multiplied. 0 if groups have an offset, which includes it.
const MIDDLE: f32 = select(BIAS, 0.0, HAS_OFFSET);

struct Params {
  rows: u32,
  groups: u32,
  outCols: u32,
  // The column of `out` for row 0.
  firstColumn: u32,
  // For experts: rows of all experts before these buffers, and in them.
  partFirst: u32,
  partRows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
// [tokens][groups * 32]
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
// [outCols], or the rows of all experts
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// [tokens][outCols]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
// [tokens][PICKS ids, PICKS weights]
@group(0) @binding(7) var<storage, read> picks: array<f32>;

// Part of a group of four rows, as floats. DIRECT: the eight codes of word w; otherwise four of word w of each half.
struct Part {
  a0: vec4<f32>,
  a1: vec4<f32>,
  a2: vec4<f32>,
  a3: vec4<f32>,
  b0: vec4<f32>,
  b1: vec4<f32>,
  b2: vec4<f32>,
  b3: vec4<f32>,
}

// For four rows: sums of a group's codes times activations, by the code's position in its word.
struct Sums {
  row0: vec4<f32>,
  row1: vec4<f32>,
  row2: vec4<f32>,
  row3: vec4<f32>,
}

// The codes of a group of one row.
struct Words {
  low: vec4<u32>,
  high: vec4<u32>,
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  let lane = local % TEAM;
  let firstRow = ((place.x + place.y * 65535u) * (WORKGROUP / TEAM) + local / TEAM) * 4u;
  let groups = params.groups;
  let firstToken = place.z * TOKENS;
  // Tokens and rows past the end repeat the last one and are not written.
  var lastToken = select(step.tokens, step.outputs, OUTPUTS) - 1u;
  // The first row of weights and bias.
  var base = 0u;
  var biasAt = params.firstColumn;
  if (EXPERTS > 0u) {
    biasAt = pickedExpert(place.z, PICKS, EXPERTS) * params.rows;
    base = biasAt - params.partFirst;
    if (biasAt < params.partFirst || base >= params.partRows) {
      return;
    }
    lastToken = place.z;
  }
  let lastRow = params.rows - 1u;
  let row0 = base + min(firstRow, lastRow);
  let row1 = base + min(firstRow + 1u, lastRow);
  let row2 = base + min(firstRow + 2u, lastRow);
  let row3 = base + min(firstRow + 3u, lastRow);
  let x0 = min(firstToken, lastToken) / SHARED * groups * 8u;
  let x1 = min(firstToken + 1u, lastToken) * groups * 8u;
  let x2 = min(firstToken + 2u, lastToken) * groups * 8u;
  let x3 = min(firstToken + 3u, lastToken) * groups * 8u;
  var all0 = vec4<f32>();
  var all1 = vec4<f32>();
  var all2 = vec4<f32>();
  var all3 = vec4<f32>();

  for (var group = lane; group < groups; group += TEAM) {
    let words0 = wordsAt(row0, group);
    let words1 = wordsAt(row1, group);
    let words2 = wordsAt(row2, group);
    let words3 = wordsAt(row3, group);
    let scales0 = scalesAt(row0, group);
    let scales1 = scalesAt(row1, group);
    let scales2 = scalesAt(row2, group);
    let scales3 = scalesAt(row3, group);
    var sums0 = Sums();
    var sums1 = Sums();
    var sums2 = Sums();
    var sums3 = Sums();
    // Sums of the tokens' activations, for each half of the group.
    var halves0 = vec2<f32>();
    var halves1 = vec2<f32>();
    var halves2 = vec2<f32>();
    var halves3 = vec2<f32>();
    // Written out, because codes indexed at run time would be in memory.
    let at = group * 8u;
    let part0 = partOf(words0, words1, words2, words3, 0u);
    sums0 = product(part0, sums0, x[x0 + at + 0u], x[x0 + at + 4u], &halves0);
    if (TOKENS > 1u) { sums1 = product(part0, sums1, x[x1 + at + 0u], x[x1 + at + 4u], &halves1); }
    if (TOKENS > 2u) { sums2 = product(part0, sums2, x[x2 + at + 0u], x[x2 + at + 4u], &halves2); }
    if (TOKENS > 3u) { sums3 = product(part0, sums3, x[x3 + at + 0u], x[x3 + at + 4u], &halves3); }
    let part1 = partOf(words0, words1, words2, words3, 1u);
    sums0 = product(part1, sums0, x[x0 + at + 1u], x[x0 + at + 5u], &halves0);
    if (TOKENS > 1u) { sums1 = product(part1, sums1, x[x1 + at + 1u], x[x1 + at + 5u], &halves1); }
    if (TOKENS > 2u) { sums2 = product(part1, sums2, x[x2 + at + 1u], x[x2 + at + 5u], &halves2); }
    if (TOKENS > 3u) { sums3 = product(part1, sums3, x[x3 + at + 1u], x[x3 + at + 5u], &halves3); }
    let part2 = partOf(words0, words1, words2, words3, 2u);
    sums0 = product(part2, sums0, x[x0 + at + 2u], x[x0 + at + 6u], &halves0);
    if (TOKENS > 1u) { sums1 = product(part2, sums1, x[x1 + at + 2u], x[x1 + at + 6u], &halves1); }
    if (TOKENS > 2u) { sums2 = product(part2, sums2, x[x2 + at + 2u], x[x2 + at + 6u], &halves2); }
    if (TOKENS > 3u) { sums3 = product(part2, sums3, x[x3 + at + 2u], x[x3 + at + 6u], &halves3); }
    let part3 = partOf(words0, words1, words2, words3, 3u);
    sums0 = product(part3, sums0, x[x0 + at + 3u], x[x0 + at + 7u], &halves0);
    if (TOKENS > 1u) { sums1 = product(part3, sums1, x[x1 + at + 3u], x[x1 + at + 7u], &halves1); }
    if (TOKENS > 2u) { sums2 = product(part3, sums2, x[x2 + at + 3u], x[x2 + at + 7u], &halves2); }
    if (TOKENS > 3u) { sums3 = product(part3, sums3, x[x3 + at + 3u], x[x3 + at + 7u], &halves3); }
    all0 += scaled(sums0, scales0, scales1, scales2, scales3, halves0);
    if (TOKENS > 1u) { all1 += scaled(sums1, scales0, scales1, scales2, scales3, halves1); }
    if (TOKENS > 2u) { all2 += scaled(sums2, scales0, scales1, scales2, scales3, halves2); }
    if (TOKENS > 3u) { all3 += scaled(sums3, scales0, scales1, scales2, scales3, halves3); }
  }
  store(firstRow, biasAt, firstToken, lastToken, all0, lane, local);
  if (TOKENS > 1u) { store(firstRow, biasAt, firstToken + 1u, lastToken, all1, lane, local); }
  if (TOKENS > 2u) { store(firstRow, biasAt, firstToken + 2u, lastToken, all2, lane, local); }
  if (TOKENS > 3u) { store(firstRow, biasAt, firstToken + 3u, lastToken, all3, lane, local); }
}

fn wordsAt(row: u32, group: u32) -> Words {
  let first = codes[firstAt(row, group, params.groups)];
  var second = vec4<u32>();
  if (HAS_SECOND) {
    second = codes[secondAt(row, group, params.groups)];
  }
  if (CODES == BYTES) {
    return Words(first, second);
  }
  if (IS_JOINED) {
    let upper = upperOf(second, group);
    return Words(joinLows(first, upper), joinHighs(first, upper));
  }
  let nibbles = nibblesOf(first, second, group);
  if (DIRECT) {
    return Words(nibbles, nibbles);
  }
  return Words(nibbleCodes(nibbles), nibbleCodes(nibbles >> vec4<u32>(4u)));
}

fn partOf(words0: Words, words1: Words, words2: Words, words3: Words, w: u32) -> Part {
  return Part(
    lowFloats(words0, w), lowFloats(words1, w), lowFloats(words2, w), lowFloats(words3, w),
    highFloats(words0, w), highFloats(words1, w), highFloats(words2, w), highFloats(words3, w));
}

fn lowFloats(words: Words, w: u32) -> vec4<f32> {
  if (DIRECT) {
    return nibbleFloats(words.low[w], MIDDLE);
  }
  return byteFloats(words.low[w], MIDDLE);
}

fn highFloats(words: Words, w: u32) -> vec4<f32> {
  if (DIRECT) {
    return nibbleFloats(words.low[w] >> 16u, MIDDLE);
  }
  return byteFloats(words.high[w], MIDDLE);
}

// Four activations of a group's first half and of its second.
fn product(part: Part, sums: Sums, low: vec4<f32>, high: vec4<f32>, halves: ptr<function, vec2<f32>>) -> Sums {
  var a = arranged(low.xy, high.xy);
  var b = arranged(low.zw, high.zw);
  if (!DIRECT) {
    a = low * SHARES.xzxz;
    b = high * SHARES.xzxz;
  }
  if (HAS_OFFSET) {
    *halves += vec2<f32>(dot(low, vec4<f32>(1.0)), dot(high, vec4<f32>(1.0)));
  }
  if (DIRECT) {
    return Sums(
      fma(part.b0, b, fma(part.a0, a, sums.row0)), fma(part.b1, b, fma(part.a1, a, sums.row1)),
      fma(part.b2, b, fma(part.a2, a, sums.row2)), fma(part.b3, b, fma(part.a3, a, sums.row3)));
  }
  return Sums(
    byHalves(part.a0 * a, part.b0 * b, sums.row0), byHalves(part.a1 * a, part.b1 * b, sums.row1),
    byHalves(part.a2 * a, part.b2 * b, sums.row2), byHalves(part.a3 * a, part.b3 * b, sums.row3));
}

// Nibbles of a group's first half are in x and z, those of the second in y and w.
fn byHalves(low: vec4<f32>, high: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
  return sum + vec4<f32>(low.x + low.y, high.x + high.y, low.z + low.w, high.z + high.w);
}

fn scaled(sums: Sums, s0: vec4<f32>, s1: vec4<f32>, s2: vec4<f32>, s3: vec4<f32>, halves: vec2<f32>) -> vec4<f32> {
  return vec4<f32>(
    scaledRow(sums.row0, s0, halves), scaledRow(sums.row1, s1, halves),
    scaledRow(sums.row2, s2, halves), scaledRow(sums.row3, s3, halves));
}

fn scaledRow(sum: vec4<f32>, s: vec4<f32>, halves: vec2<f32>) -> f32 {
  let two = sum.xy + sum.zw;
  var value = s.x * two.x + s.z * two.y;
  if (HAS_OFFSET) {
    value += s.y * halves.x + s.w * halves.y;
  }
  return value;
}

fn store(row: u32, biasAt: u32, token: u32, lastToken: u32, sum: vec4<f32>, lane: u32, local: u32) {
  let all = vec4<f32>(teamSum(sum.x, local), teamSum(sum.y, local), teamSum(sum.z, local), teamSum(sum.w, local));
  if (lane < 4u && token <= lastToken && row + lane < params.rows) {
    var value = all[lane];
    if (HAS_BIAS) {
      value += bias[biasAt + row + lane];
    }
    out[token * params.outCols + params.firstColumn + row + lane] = value;
  }
}
