// Packed weights times one token of q8 activations (lib/q8.wgsl). A team of TEAM invocations owns ROWS rows; lane i takes the
// groups i, i + TEAM, ... of each, so that a team reads whole cache lines. Integer dot products, one f32 sum a row and token.
// Of experts (expertMatmul): the rows of one expert for each entry of `picks`, which are rows of x and out.
// lib: weight, codes, teamSum, picks

// <values>
const CODES: u32 = 0u;
const SCALES: u32 = 0u;
const BIAS: f32 = 8.0;
const CODES_0: u32 = 0u;
const CODES_1: u32 = 0u;
const CODES_2: u32 = 0u;
const CODES_3: u32 = 0u;
const WORKGROUP: u32 = 128u;
const TEAM: u32 = 32u;
const SUBGROUP: u32 = 32u;
const ROWS: u32 = 4u;
// Groups of a row that a lane loads before it computes.
const UNROLL: u32 = 1u;
const HAS_BIAS: bool = false;
// Experts of the weights, with `rows` each; 0: it is one matrix.
const EXPERTS: u32 = 0u;
const PICKS: u32 = 1u;
// </values>

struct Params {
  rows: u32,
  groups: u32,
  outCols: u32,
  // Of `out`, where row 0 goes.
  firstColumn: u32,
  // Of experts: rows of all of them before these buffers, and in them; groups of a token of x, and of a pick's (0: all picks
  // read the same).
  partFirst: u32,
  partRows: u32,
  xGroups: u32,
  pickGroups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;
// [outCols], or of all experts
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// [outCols], or [entries][rows]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
// [tokens][PICKS ids, PICKS weights]
@group(0) @binding(7) var<storage, read> picks: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) place: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  prepareCodes(local);
  let lane = local % TEAM;
  let firstRow = ((place.x + place.y * 65535u) * (WORKGROUP / TEAM) + local / TEAM) * ROWS;
  let groups = params.groups;
  // Of weights, bias, x and out.
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
  }

  var acc: array<f32, ROWS>;
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

  for (var r = 0u; r < ROWS; r++) {
    var value = teamSum(acc[r], local);
    let row = firstRow + r;
    if (lane == 0u && row < params.rows) {
      if (HAS_BIAS) {
        value += bias[biasAt + row];
      }
      out[outAt + row] = value;
    }
  }
}

fn nibbleCodes(words: vec4<u32>) -> vec4<u32> {
  let nibbles = words & vec4<u32>(0x0f0f0f0fu);
  return vec4<u32>(codesOf(nibbles.x), codesOf(nibbles.y), codesOf(nibbles.z), codesOf(nibbles.w));
}

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
  return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}
