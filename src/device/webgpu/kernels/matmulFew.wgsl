// Packed weights times a few rows of q8 activations (lib/q8.wgsl): each weight that is read is multiplied with 2 to 16 tokens. A team
// of TEAM invocations owns four rows of weights; lane i takes the groups i, i + TEAM, ... of each. Integer dot products. Sums have
// names, and loops over them are written out: if a loop indexed them, they would be in local memory (matmulVector's loop over 8 tokens
// is three times as slow: lab/LOG.md, 2026-11-28).
// lib: step, weight, codes, teamSum, nibbleCodes, dot16, scalesAt

// <values>
// include: weightValues
const WORKGROUP: u32 = 32u;
const TEAM: u32 = 32u;
const SUBGROUP: u32 = 32u;
// Tokens per workgroup: 2 to 16.
const TOKENS: u32 = 8u;
const OUTPUTS: bool = false;
const HAS_BIAS: bool = false;
// </values>

struct Params {
  rows: u32,
  groups: u32,
  outCols: u32,
  // The column of `out` for row 0.
  firstColumn: u32,
}

// include: q8Bindings
// [tokens][outCols]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

// One group of four rows: int8 codes of elements 0..15 and 16..31, and each row's scalesOf.
struct Group {
  low0: vec4<u32>,
  low1: vec4<u32>,
  low2: vec4<u32>,
  low3: vec4<u32>,
  high0: vec4<u32>,
  high1: vec4<u32>,
  high2: vec4<u32>,
  high3: vec4<u32>,
  scales0: vec4<f32>,
  scales1: vec4<f32>,
  scales2: vec4<f32>,
  scales3: vec4<f32>,
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  let lane = local % TEAM;
  let firstRow = ((place.x + place.y * 65535u) * (WORKGROUP / TEAM) + local / TEAM) * 4u;
  let groups = params.groups;
  let firstToken = place.z * TOKENS;
  // Tokens and rows past the end repeat the last one and are not written.
  let lastToken = select(step.tokens, step.outputs, OUTPUTS) - 1u;
  let lastRow = params.rows - 1u;
  let row0 = min(firstRow, lastRow);
  let row1 = min(firstRow + 1u, lastRow);
  let row2 = min(firstRow + 2u, lastRow);
  let row3 = min(firstRow + 3u, lastRow);
  let x0 = min(firstToken + 0u, lastToken) * 3u * groups;
  let x1 = min(firstToken + 1u, lastToken) * 3u * groups;
  let x2 = min(firstToken + 2u, lastToken) * 3u * groups;
  let x3 = min(firstToken + 3u, lastToken) * 3u * groups;
  let x4 = min(firstToken + 4u, lastToken) * 3u * groups;
  let x5 = min(firstToken + 5u, lastToken) * 3u * groups;
  let x6 = min(firstToken + 6u, lastToken) * 3u * groups;
  let x7 = min(firstToken + 7u, lastToken) * 3u * groups;
  let x8 = min(firstToken + 8u, lastToken) * 3u * groups;
  let x9 = min(firstToken + 9u, lastToken) * 3u * groups;
  let x10 = min(firstToken + 10u, lastToken) * 3u * groups;
  let x11 = min(firstToken + 11u, lastToken) * 3u * groups;
  let x12 = min(firstToken + 12u, lastToken) * 3u * groups;
  let x13 = min(firstToken + 13u, lastToken) * 3u * groups;
  let x14 = min(firstToken + 14u, lastToken) * 3u * groups;
  let x15 = min(firstToken + 15u, lastToken) * 3u * groups;
  var sum0 = vec4<f32>();
  var sum1 = vec4<f32>();
  var sum2 = vec4<f32>();
  var sum3 = vec4<f32>();
  var sum4 = vec4<f32>();
  var sum5 = vec4<f32>();
  var sum6 = vec4<f32>();
  var sum7 = vec4<f32>();
  var sum8 = vec4<f32>();
  var sum9 = vec4<f32>();
  var sum10 = vec4<f32>();
  var sum11 = vec4<f32>();
  var sum12 = vec4<f32>();
  var sum13 = vec4<f32>();
  var sum14 = vec4<f32>();
  var sum15 = vec4<f32>();

  for (var group = lane; group < groups; group += TEAM) {
    let weights = Group(
      lowCodes(row0, group), lowCodes(row1, group), lowCodes(row2, group), lowCodes(row3, group),
      highCodes(row0, group), highCodes(row1, group), highCodes(row2, group), highCodes(row3, group),
      scalesAt(row0, group), scalesAt(row1, group), scalesAt(row2, group), scalesAt(row3, group));
    sum0 += product(weights, x0 + group);
    sum1 += product(weights, x1 + group);
    if (TOKENS > 2u) { sum2 += product(weights, x2 + group); }
    if (TOKENS > 3u) { sum3 += product(weights, x3 + group); }
    if (TOKENS > 4u) { sum4 += product(weights, x4 + group); }
    if (TOKENS > 5u) { sum5 += product(weights, x5 + group); }
    if (TOKENS > 6u) { sum6 += product(weights, x6 + group); }
    if (TOKENS > 7u) { sum7 += product(weights, x7 + group); }
    if (TOKENS > 8u) { sum8 += product(weights, x8 + group); }
    if (TOKENS > 9u) { sum9 += product(weights, x9 + group); }
    if (TOKENS > 10u) { sum10 += product(weights, x10 + group); }
    if (TOKENS > 11u) { sum11 += product(weights, x11 + group); }
    if (TOKENS > 12u) { sum12 += product(weights, x12 + group); }
    if (TOKENS > 13u) { sum13 += product(weights, x13 + group); }
    if (TOKENS > 14u) { sum14 += product(weights, x14 + group); }
    if (TOKENS > 15u) { sum15 += product(weights, x15 + group); }
  }
  store(firstRow, firstToken, lastToken, sum0, lane, local);
  store(firstRow, firstToken + 1u, lastToken, sum1, lane, local);
  if (TOKENS > 2u) { store(firstRow, firstToken + 2u, lastToken, sum2, lane, local); }
  if (TOKENS > 3u) { store(firstRow, firstToken + 3u, lastToken, sum3, lane, local); }
  if (TOKENS > 4u) { store(firstRow, firstToken + 4u, lastToken, sum4, lane, local); }
  if (TOKENS > 5u) { store(firstRow, firstToken + 5u, lastToken, sum5, lane, local); }
  if (TOKENS > 6u) { store(firstRow, firstToken + 6u, lastToken, sum6, lane, local); }
  if (TOKENS > 7u) { store(firstRow, firstToken + 7u, lastToken, sum7, lane, local); }
  if (TOKENS > 8u) { store(firstRow, firstToken + 8u, lastToken, sum8, lane, local); }
  if (TOKENS > 9u) { store(firstRow, firstToken + 9u, lastToken, sum9, lane, local); }
  if (TOKENS > 10u) { store(firstRow, firstToken + 10u, lastToken, sum10, lane, local); }
  if (TOKENS > 11u) { store(firstRow, firstToken + 11u, lastToken, sum11, lane, local); }
  if (TOKENS > 12u) { store(firstRow, firstToken + 12u, lastToken, sum12, lane, local); }
  if (TOKENS > 13u) { store(firstRow, firstToken + 13u, lastToken, sum13, lane, local); }
  if (TOKENS > 14u) { store(firstRow, firstToken + 14u, lastToken, sum14, lane, local); }
  if (TOKENS > 15u) { store(firstRow, firstToken + 15u, lastToken, sum15, lane, local); }
}

fn lowCodes(row: u32, group: u32) -> vec4<u32> {
  if (CODES == BYTES) {
    return codes[firstAt(row, group, params.groups)];
  }
  if (IS_JOINED) {
    return joinLows(nibblesAt(row, group), upperOf(codes[secondAt(row, group, params.groups)], group));
  }
  return nibbleCodes(nibblesAt(row, group));
}

fn highCodes(row: u32, group: u32) -> vec4<u32> {
  if (CODES == BYTES) {
    return codes[secondAt(row, group, params.groups)];
  }
  if (IS_JOINED) {
    return joinHighs(nibblesAt(row, group), upperOf(codes[secondAt(row, group, params.groups)], group));
  }
  return nibbleCodes(nibblesAt(row, group) >> vec4<u32>(4u));
}

fn nibblesAt(row: u32, group: u32) -> vec4<u32> {
  var second = vec4<u32>();
  if (HAS_SECOND) {
    second = codes[secondAt(row, group, params.groups)];
  }
  return nibblesOf(codes[firstAt(row, group, params.groups)], second, group);
}

// The products of the four rows with a group of one token. at: the group's first plane.
fn product(weights: Group, at: u32) -> vec4<f32> {
  let low = x[at];
  let high = x[at + params.groups];
  let facts = bitcast<vec4<f32>>(x[at + 2u * params.groups]);
  return vec4<f32>(
    dotGroup(weights.low0, weights.high0, weights.scales0, low, high, facts),
    dotGroup(weights.low1, weights.high1, weights.scales1, low, high, facts),
    dotGroup(weights.low2, weights.high2, weights.scales2, low, high, facts),
    dotGroup(weights.low3, weights.high3, weights.scales3, low, high, facts));
}

fn dotGroup(low: vec4<u32>, high: vec4<u32>, s: vec4<f32>, xLow: vec4<u32>, xHigh: vec4<u32>, facts: vec4<f32>) -> f32 {
  let dot0 = dot16(low, xLow);
  let dot1 = dot16(high, xHigh);
  if (BY_HALVES) {
    return facts.x * (s.x * f32(dot0) + s.z * f32(dot1)) + s.y * facts.y + s.w * facts.z;
  }
  return s.x * (facts.x * f32(dot0 + dot1)) + s.y * (facts.y + facts.z);
}

fn store(row: u32, token: u32, lastToken: u32, sum: vec4<f32>, lane: u32, local: u32) {
  let all = vec4<f32>(teamSum(sum.x, local), teamSum(sum.y, local), teamSum(sum.z, local), teamSum(sum.w, local));
  if (lane < 4u && token <= lastToken && row + lane < params.rows) {
    let column = params.firstColumn + row + lane;
    var value = all[lane];
    if (HAS_BIAS) {
      value += bias[column];
    }
    out[token * params.outCols + column] = value;
  }
}
