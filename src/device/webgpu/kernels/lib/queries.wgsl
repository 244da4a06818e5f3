// Loads queries for attendDecodeMatrix, which declares the constants, `params` and `queries`.

// Eight dims of a group of a query head, scaled, in the order of unpacked codes; each head has four lanes. Heads past the last one of
// the KV head repeat it; their sums are never read.
fn queriesAt(heads: u32, firstHead: u32, group: u32, lane: u32) -> array<vec4<f32>, 2> {
  if (group >= GROUPS) {
    return array<vec4<f32>, 2>();
  }
  let d = group * 32u + lane % 4u * 4u;
  let first = (heads + min(firstHead + lane / 4u, GROUP - 1u)) * HEAD_DIM;
  let a = queries[(first + d) / 4u] * params.scale;
  var b = vec4<f32>(0.0);
  if (d + 16u < HEAD_DIM) {
    b = queries[(first + d + 16u) / 4u] * (params.scale * KEY_HIGH);
  }
  return array<vec4<f32>, 2>(a.xzyw, b.xzyw);
}

fn largestOf(query: array<vec4<f32>, 2>) -> f32 {
  let four = max(abs(query[0]), abs(query[1]));
  return max(max(four.x, four.y), max(four.z, four.w));
}

// The factor by which a head's query is divided to fit f16. The head's four lanes hold all of its dims.
fn headFactor(a: array<vec4<f32>, 2>, b: array<vec4<f32>, 2>, c: array<vec4<f32>, 2>, d: array<vec4<f32>, 2>) -> f32 {
  let own = max(max(largestOf(a), largestOf(b)), max(largestOf(c), largestOf(d)));
  let pair = max(own, subgroupShuffleXor(own, 1u));
  return factorOf(bitcast<u32>(max(pair, subgroupShuffleXor(pair, 2u))));
}
