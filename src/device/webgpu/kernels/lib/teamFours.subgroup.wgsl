// Sums of four numbers each over teams of TEAM consecutive invocations, a power of two and at most a subgroup.

/// In every lane of a team.
fn teamFours(value: vec4<f32>, local: u32) -> vec4<f32> {
  var sum = value;
  if (TEAM > 16u) {
    sum += subgroupShuffleXor(sum, 16u);
  }
  if (TEAM > 8u) {
    sum += subgroupShuffleXor(sum, 8u);
  }
  if (TEAM > 4u) {
    sum += subgroupShuffleXor(sum, 4u);
  }
  if (TEAM > 2u) {
    sum += subgroupShuffleXor(sum, 2u);
  }
  if (TEAM > 1u) {
    sum += subgroupShuffleXor(sum, 1u);
  }
  return sum;
}
