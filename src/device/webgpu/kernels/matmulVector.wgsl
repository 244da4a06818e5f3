// Packed weights times one token of q8 activations (lib/q8.wgsl). A team of TEAM invocations owns ROWS rows; lane i takes the groups
// i, i + TEAM, ... of each, so that a team reads whole cache lines. Integer dot products, one f32 sum per row and token. With experts
// (expertMatmul), each entry of `picks` is multiplied with its expert's rows, and is a row of x and out. JOIN: the kernel also does
// the operation that reads the products, and a workgroup owns 32 of them, one group of q8. ADD_NORM adds them to a row and stores the
// sum, and as q8 the sum times the next norm's weight. GATE stores activation(gate) * up as q8. The result of ADD_NORM is not yet
// divided by the row's root mean square, which is unknown until all workgroups are done: each group stores its sum of squares, and the
// products that read it (NORMED) add these and divide. (RMSNorm, arXiv 1910.07467)
// lib: weight, codes, teamSum, picks, q8, activation, nibbleCodes, dot16

// <values>
// include: weightValues
const WORKGROUP: u32 = 128u;
const TEAM: u32 = 32u;
const SUBGROUP: u32 = 32u;
const ROWS: u32 = 4u;
// Groups of a row that a lane loads before it computes.
const UNROLL: u32 = 1u;
const HAS_BIAS: bool = false;
// Number of experts, with `rows` rows each; 0: one matrix.
const EXPERTS: u32 = 0u;
const PICKS: u32 = 1u;
// x is divided by its root mean square.
const NORMED: bool = false;
// 0: nothing, 1: ADD_NORM, 2: GATE.
const JOIN: u32 = 0u;
// ADD_NORM: the norm has a weight.
const HAS_GAIN: bool = false;
// GATE: one of lib/activation.wgsl.
const ACTIVATION: u32 = 0u;
// </values>

const ADD_NORM: u32 = 1u;
const GATE: u32 = 2u;
// Columns of `out` per team.
const EACH: u32 = select(ROWS, ROWS / 2u, JOIN == GATE);

struct Params {
  rows: u32,
  groups: u32,
  outCols: u32,
  // The column of `out` for row 0.
  firstColumn: u32,
  // For experts: rows of all experts before these buffers, and in them; groups of x per token, and per pick (0: all picks read the
  // same).
  partFirst: u32,
  partRows: u32,
  xGroups: u32,
  pickGroups: u32,
  // NORMED
  epsilon: f32,
  // ADD_NORM: the factor of the sum.
  factor: f32,
  // GATE: the first rows of gate and up, and the limit of the clamped gate.
  gateRow: u32,
  upRow: u32,
  limit: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;
// [outCols], or the rows of all experts
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// [outCols], or [entries][rows], f32; JOIN: [rows] q8.
@group(0) @binding(6) var<storage, read_write> out: array<u32>;
// [tokens][PICKS ids, PICKS weights]; ADD_NORM: [rows], to which the products are added.
@group(0) @binding(7) var<storage, read> picks: array<f32>;
// ADD_NORM, [rows]: the norm's weight, and the sum.
@group(0) @binding(8) var<storage, read> gain: array<f32>;
@group(0) @binding(9) var<storage, read_write> sum: array<f32>;

// JOIN: the workgroup's products (GATE: those of gate, then those of up); then the values that become q8, and (ADD_NORM) squares.
var<workgroup> made: array<f32, 64>;
var<workgroup> codeSums: array<i32, 8>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  let lane = local % TEAM;
  let firstRow = ((place.x + place.y * 65535u) * (WORKGROUP / TEAM) + local / TEAM) * EACH;
  let groups = params.groups;
  // The first rows of weights, bias, x and out.
  var base = 0u;
  var biasAt = params.firstColumn;
  var outAt = params.firstColumn;
  var xAt = 0u;
  var xGroups = groups;
  if (EXPERTS > 0u) {
    let row = pickedExpert(place.z, PICKS, EXPERTS) * params.rows;
    base = row - params.partFirst;
    if (row < params.partFirst || base >= params.partRows) {
      return;
    }
    biasAt = row;
    outAt = place.z * params.rows;
    xGroups = params.xGroups;
    xAt = place.z / PICKS * 3u * xGroups + place.z % PICKS * params.pickGroups;
  }

  // Rows past the end repeat the last one and are not written.
  var rows: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    rows[r] = base + min(firstRow + r, params.rows - 1u);
    if (JOIN == GATE) {
      rows[r] = select(params.upRow - EACH, params.gateRow, r < EACH) + firstRow + r;
    }
  }

  // Loaded early, to hide their latency.
  var addedTo = 0.0;
  var weight = 1.0;
  if (JOIN == ADD_NORM) {
    let row = (place.x + place.y * 65535u) * 32u + local % 32u;
    addedTo = picks[row];
    if (HAS_GAIN) {
      weight = gain[row];
    }
  }

  var acc: array<f32, ROWS>;
  var squares = 0.0;
  for (var base = lane; base - lane < groups; base += TEAM * UNROLL) {
    var first: array<vec4<u32>, ROWS * UNROLL>;
    var second: array<vec4<u32>, ROWS * UNROLL>;
    var scale: array<vec2<u32>, ROWS * UNROLL>;
    for (var u = 0u; u < UNROLL; u++) {
      let group = min(base + u * TEAM, groups - 1u);
      for (var r = 0u; r < ROWS; r++) {
        let i = u * ROWS + r;
        first[i] = codes[firstAt(rows[r], group, groups)];
        if (HAS_SECOND) {
          second[i] = codes[secondAt(rows[r], group, groups)];
        }
        let at = scaleAt(rows[r], group, groups);
        scale[i].x = scales[at];
        if (HAS_NEXT) {
          scale[i].y = scales[nextAt(at, group)];
        }
      }
    }
    for (var u = 0u; u < UNROLL; u++) {
      let group = min(base + u * TEAM, groups - 1u);
      let inside = base + u * TEAM < groups;
      let x0 = x[xAt + group];
      let x1 = x[xAt + xGroups + group];
      var facts = bitcast<vec4<f32>>(x[xAt + 2u * xGroups + group]);
      if (!inside) {
        facts = vec4<f32>();
      }
      if (NORMED) {
        squares += facts.w;
      }
      for (var r = 0u; r < ROWS; r++) {
        let i = u * ROWS + r;
        var low = first[i];
        var high = second[i];
        if (CODES != BYTES && !IS_JOINED) {
          let nibbles = nibblesOf(first[i], second[i], group);
          low = nibbleCodes(nibbles);
          high = nibbleCodes(nibbles >> vec4<u32>(4u));
        }
        if (IS_JOINED) {
          let upper = upperOf(second[i], group);
          low = joinLows(first[i], upper);
          high = joinHighs(first[i], upper);
        }
        let dot0 = dot16(low, x0);
        let dot1 = dot16(high, x1);
        let s = scalesOf(scale[i].x, scale[i].y, group);
        if (BY_HALVES) {
          acc[r] += facts.x * (s.x * f32(dot0) + s.z * f32(dot1)) + s.y * facts.y + s.w * facts.z;
        } else {
          acc[r] += s.x * (facts.x * f32(dot0 + dot1)) + s.y * (facts.y + facts.z);
        }
      }
    }
  }

  var inverse = 1.0;
  if (NORMED) {
    inverse = inverseSqrt(teamSum(squares, local) / f32(32u * groups) + params.epsilon);
  }
  for (var r = 0u; r < ROWS; r++) {
    var value = teamSum(acc[r], local) * inverse;
    if (JOIN != 0u) {
      if (lane == 0u) {
        if (HAS_BIAS) {
          value += bias[rows[r]];
        }
        made[local / TEAM * EACH + r % EACH + r / EACH * 32u] = value;
      }
    } else {
      let row = firstRow + r;
      if (lane == 0u && row < params.rows) {
        if (HAS_BIAS) {
          value += bias[biasAt + row];
        }
        out[outAt + row] = bitcast<u32>(value);
      }
    }
  }

  if (JOIN != 0u) {
    let group = place.x + place.y * 65535u;
    workgroupBarrier();
    if (local < 32u) {
      if (JOIN == ADD_NORM) {
        let value = (addedTo + made[local]) * params.factor;
        sum[group * 32u + local] = value;
        made[local] = value * weight;
        made[32u + local] = value * value;
      } else {
        made[local] = gated(ACTIVATION, made[local], made[32u + local], params.limit);
      }
    }
    workgroupBarrier();
    storeGroup(group, params.rows / 32u, local);
  }
}

// Stores the 32 values in `made` as a group of q8; one thread per word of codes.
fn storeGroup(group: u32, groups: u32, local: u32) {
  let first = 4u * group;
  var largest = vec4<u32>(0u);
  for (var i = 0u; i < 8u; i++) {
    largest = max(largest, q8Magnitudes(madeFour(i)));
  }
  let most = q8Most(largest);
  if (local < 8u) {
    let word = pack4xI8(vec4<i32>(round(madeFour(local) * q8Inverse(most))));
    out[first + local / 4u * 4u * groups + local % 4u] = word;
    codeSums[local] = q8Sum(word);
  }
  workgroupBarrier();
  if (local == 0u) {
    let scale = most / 127.0;
    let at = first + 8u * groups;
    out[at] = bitcast<u32>(scale);
    out[at + 1u] = bitcast<u32>(scale * f32(codeSums[0] + codeSums[1] + codeSums[2] + codeSums[3]));
    out[at + 2u] = bitcast<u32>(scale * f32(codeSums[4] + codeSums[5] + codeSums[6] + codeSums[7]));
    var squares = 0.0;
    if (JOIN == ADD_NORM) {
      for (var i = 32u; i < 64u; i++) {
        squares += made[i];
      }
    }
    out[at + 3u] = bitcast<u32>(squares);
  }
}

fn madeFour(i: u32) -> vec4<f32> {
  return vec4<f32>(made[4u * i], made[4u * i + 1u], made[4u * i + 2u], made[4u * i + 3u]);
}
