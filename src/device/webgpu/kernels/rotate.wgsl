// rotate: multiplies head vectors by the rotation of rq4, or by its transpose. For cases in which no other kernel does it: queries
// that appendKv does not handle, and the sums of attendPrompt. A row of 32 threads does one vector in workgroup memory.
// lib: step, rotation, hadamard, narrow
// <values>
const HEAD_DIM: u32 = 64u;
// If one vector is both key and value: the numbers of a query before those for the value. They are rotated separately.
const TURNED: u32 = 0u;
const ROTATES_TURNED: bool = false;
const BACK: bool = false;
// 0: f32; 1: f16, for sums of values, which float16 can represent, so the rows' factors are 1.
const OUT_FORM: u32 = 0u;
// </values>

const ROWS: u32 = 4u;
const LANES: u32 = 32u;

struct Params {
  heads: u32,
  // f16: the word of `out` where the rows' factors begin.
  factorsAt: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [tokens][heads][TURNED + HEAD_DIM]
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;

var<workgroup> vectors: array<f32, ROWS * HEAD_DIM>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let all = step.tokens * params.heads;
  let vector = (workgroup.x + workgroup.y * 65535u) * ROWS + local / LANES;
  // Rows past the end repeat the last vector.
  let whole = min(vector, all - 1u) * (TURNED + HEAD_DIM);
  if (TURNED > 0u) {
    rotateTurned(whole, vector < all, local);
  }
  let begin = whole + TURNED;
  let mine = local / LANES * HEAD_DIM;
  let lane = local % LANES;
  let factor = rotationFactor(HEAD_DIM);
  for (var d = lane; d < HEAD_DIM; d += LANES) {
    var value = x[begin + d] * factor;
    if (!BACK) {
      value = flippedSign(value, d);
    }
    vectors[mine + d] = value;
  }
  hadamardRow(mine, lane, HEAD_DIM);
  if (vector >= all) {
    return;
  }
  if (OUT_FORM == 1u && vector % params.heads == 0u && lane == 0u) {
    out[params.factorsAt + vector / params.heads * 4u] = bitcast<u32>(1.0);
  }
  for (var pair = lane; pair < HEAD_DIM / 2u; pair += LANES) {
    let d = pair * 2u;
    var two = vec2<f32>(vectors[mine + d], vectors[mine + d + 1u]);
    if (BACK) {
      two = vec2<f32>(flippedSign(two.x, d), flippedSign(two.y, d + 1u));
    }
    if (OUT_FORM == 1u) {
      out[(begin + d) / 2u] = halfPair(two);
    } else {
      out[begin + d] = bitcast<u32>(two.x);
      out[begin + d + 1u] = bitcast<u32>(two.y);
    }
  }
}

// Rotates the first numbers of a query, in the memory of the row's other numbers.
fn rotateTurned(begin: u32, live: bool, local: u32) {
  let mine = local / LANES * HEAD_DIM;
  let lane = local % LANES;
  if (ROTATES_TURNED) {
    for (var d = lane; d < TURNED; d += LANES) {
      vectors[mine + d] = flippedSign(x[begin + d] * rotationFactor(TURNED), d);
    }
    hadamardRow(mine, lane, TURNED);
  }
  if (live) {
    for (var d = lane; d < TURNED; d += LANES) {
      var value = x[begin + d];
      if (ROTATES_TURNED) {
        value = vectors[mine + d];
      }
      out[begin + d] = bitcast<u32>(value);
    }
  }
  // The other numbers follow in the same memory.
  workgroupBarrier();
}
