// Queries on their way into attendDecodeMatrix, which declares what is named in capitals, and `params` and `queries`.

// Eight of a group's dims of a query head, scaled, in the order of unpacked codes; a head has four lanes. Heads past
// the group's end are done like its last one; nobody reads their sums.
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
