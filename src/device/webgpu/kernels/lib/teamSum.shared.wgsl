// Sums over teams of TEAM (a power of two) consecutive invocations, for devices without subgroups of one fixed size. The kernel's
// block has WORKGROUP and TEAM; all teams of a workgroup must take part.
var<workgroup> laneSums: array<f32, WORKGROUP>;

/// The sum of the team's values, in every lane.
fn teamSum(value: f32, local: u32) -> f32 {
  workgroupBarrier();
  laneSums[local] = value;
  for (var half = TEAM / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (local % TEAM < half) {
      laneSums[local] += laneSums[local + half];
    }
  }
  workgroupBarrier();
  return laneSums[local / TEAM * TEAM];
}
