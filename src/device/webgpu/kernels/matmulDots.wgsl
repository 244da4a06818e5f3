// Packed weights times 2 to 4 rows of q8 activations (lib/q8.wgsl), by integer dot products: weights stream past activations in
// workgroup memory. A subgroup goes through rows of weights, 16 at a time: a team of eight lanes owns four of them, each lane every
// eighth group, so that memory accesses have 128 bytes. A workgroup owns the columns of 32 groups; sums of several workgroups are
// added by sumSplits or by the kernel that reads them. matmulFew is slower because it loads activations again for every four rows of
// weights. Registers have names: see matmulFew.
diagnostic(off, subgroup_uniformity);
// lib: step, weight, codes, nibbleCodes, dot16, storedGroup

// <values>
// include: weightValues
// Subgroups per workgroup.
const SUBGROUPS: u32 = 8u;
// Tokens of the step: 2 to 4.
const TOKENS: u32 = 4u;
const OUTPUTS: bool = false;
const HAS_BIAS: bool = false;
// </values>

// include: splitParams

// include: q8Bindings
// [splits][tokens][outCols]; a split is the columns of one workgroup.
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

const SUBGROUP: u32 = 32u;
const WORKGROUP: u32 = SUBGROUP * SUBGROUPS;
// Rows per subgroup, lanes per team, groups per split.
const ROWS: u32 = 16u;
const TEAM: u32 = 8u;
const SPLIT: u32 = 32u;
// [TOKENS][codes of values 0..15, of 16..31, scales][SPLIT], as in `x`.
var<workgroup> staged: array<vec4<u32>, TOKENS * 3u * SPLIT>;

// A group of a token: int8 codes; scale, scale * sum of the low codes, scale * sum of the high codes.
struct Column {
  low: vec4<u32>,
  high: vec4<u32>,
  facts: vec3<f32>,
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  let lane = local % SUBGROUP;
  let tokens = select(step.tokens, step.outputs, OUTPUTS);
  let firstGroup = place.x * SPLIT;
  let rowTiles = (params.rows + ROWS - 1u) / ROWS;
  let turns = min(SPLIT / TEAM, (params.groups - firstGroup + TEAM - 1u) / TEAM);
  let firstTile = place.y * SUBGROUPS + local / SUBGROUP;
  let stride = grid.y * SUBGROUPS;
  let team = lane / TEAM * 4u;
  let member = lane % TEAM;
  // Past the last group it repeats that one, and activations are 0.
  // each R 0..3
  var next{R} = groupAt(min(firstTile, rowTiles - 1u) * ROWS + team + {R}u, min(firstGroup + member, params.groups - 1u));
  // end
  // Loaded together with the activations. Tokens past the end repeat the last one and are not written.
  for (var i = local; i < TOKENS * 3u * SPLIT; i += WORKGROUP) {
    let group = firstGroup + i % SPLIT;
    let plane = min(i / (3u * SPLIT), tokens - 1u) * 3u + i / SPLIT % 3u;
    staged[i] = select(vec4<u32>(0u), x[plane * params.groups + min(group, params.groups - 1u)], group < params.groups);
  }
  workgroupBarrier();

  for (var tile = firstTile; tile < rowTiles; tile += stride) {
    // each T 0..3
    var sum{T} = vec4<f32>();
    // end
    for (var turn = 0u; turn < turns; turn++) {
      let mine = turn * TEAM + member;
      let group = min(firstGroup + mine, params.groups - 1u);
      // each R 0..3
      let low{R} = lowCodes(next{R}, group);
      let high{R} = highCodes(next{R}, group);
      let scales{R} = scalesOf(next{R}.scales.x, next{R}.scales.y, group);
      // end
      // Past the last tile, that one is loaded again; it is in the cache by then.
      let isLast = turn + 1u == turns;
      let row = min(select(tile, tile + stride, isLast), rowTiles - 1u) * ROWS + team;
      let nextGroup = min(firstGroup + select(mine + TEAM, member, isLast), params.groups - 1u);
      // each R 0..3
      next{R} = groupAt(row + {R}u, nextGroup);
      // end
      // Scales and offsets of the four rows, for each half of a group.
      let lowScale = vec4<f32>(scales0.x, scales1.x, scales2.x, scales3.x);
      let lowOffset = vec4<f32>(scales0.y, scales1.y, scales2.y, scales3.y);
      let highScale = vec4<f32>(scales0.z, scales1.z, scales2.z, scales3.z);
      let highOffset = vec4<f32>(scales0.w, scales1.w, scales2.w, scales3.w);
      // each T 0..3
      if (TOKENS > {T}u) {
        let column = columnAt({T}u, mine);
        if (BY_HALVES) {
          let low = vec4<f32>(dotOf(low0, column.low), dotOf(low1, column.low), dotOf(low2, column.low), dotOf(low3, column.low));
          let high = vec4<f32>(dotOf(high0, column.high), dotOf(high1, column.high), dotOf(high2, column.high), dotOf(high3, column.high));
          sum{T} += column.facts.x * (lowScale * low + highScale * high) + lowOffset * column.facts.y + highOffset * column.facts.z;
        } else {
          let both = vec4<f32>(
            dotBoth(low0, high0, column), dotBoth(low1, high1, column), dotBoth(low2, high2, column), dotBoth(low3, high3, column));
          let sums = column.facts.y + column.facts.z;
          if (HAS_OFFSET) {
            sum{T} = fma(lowOffset, vec4<f32>(sums), fma(lowScale, column.facts.x * both, sum{T}));
          } else {
            sum{T} = fma(lowScale, fma(vec4<f32>(column.facts.x), both, vec4<f32>(-BIAS * sums)), sum{T});
          }
        }
      }
      // end
    }
    // Adds up a team's sums: first its two halves; then, twice, lanes exchange the sums of half of their tokens, so that each has one
    // token's.
    // each T 0..3
    sum{T} += subgroupShuffleXor(sum{T}, 4u);
    // end
    let isUpper = (lane & 2u) != 0u;
    let first = met(sum0, sum2, isUpper, 2u);
    let second = met(sum1, sum3, isUpper, 2u);
    let all = met(first, second, (lane & 1u) != 0u, 1u);
    write(place.x, tile * ROWS + team, member, tokens, all);
  }
}

// Adds the other lane's sum to the one of two sums that this lane keeps.
fn met(first: vec4<f32>, second: vec4<f32>, keepsSecond: bool, mask: u32) -> vec4<f32> {
  return select(first, second, keepsSecond) + subgroupShuffleXor(select(second, first, keepsSecond), mask);
}

fn columnAt(token: u32, mine: u32) -> Column {
  let at = token * 3u * SPLIT + mine;
  return Column(staged[at], staged[at + SPLIT], bitcast<vec3<f32>>(staged[at + 2u * SPLIT].xyz));
}

fn lowCodes(group: Group, at: u32) -> vec4<u32> {
  if (CODES == BYTES) {
    return group.first;
  }
  let words = nibblesOf(group.first, group.second, at);
  if (IS_JOINED) {
    return joinLows(words, upperOf(group.second, at));
  }
  return nibbleCodes(words);
}

fn highCodes(group: Group, at: u32) -> vec4<u32> {
  if (CODES == BYTES) {
    return group.second;
  }
  let words = nibblesOf(group.first, group.second, at);
  if (IS_JOINED) {
    return joinHighs(words, upperOf(group.second, at));
  }
  return nibbleCodes(words >> vec4<u32>(4u));
}

fn dotOf(a: vec4<u32>, b: vec4<u32>) -> f32 {
  return f32(dot16(a, b));
}

fn dotBoth(low: vec4<u32>, high: vec4<u32>, column: Column) -> f32 {
  return f32(dot16(low, column.low) + dot16(high, column.high));
}

// Writes four rows' sums of one token.
fn write(split: u32, firstRow: u32, token: u32, tokens: u32, sums: vec4<f32>) {
  if (token >= min(TOKENS, tokens)) {
    return;
  }
  for (var i = 0u; i < 4u; i++) {
    let row = firstRow + i;
    if (row < params.rows) {
      let column = params.firstColumn + row;
      var value = sums[i];
      if (HAS_BIAS) {
        value += bias[column];
      }
      out[(split * params.tokens + token) * params.outCols + column] = value;
    }
  }
}
