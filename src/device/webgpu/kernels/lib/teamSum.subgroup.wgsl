// Sums over teams of TEAM consecutive invocations, which are part of a subgroup or several subgroups. The kernel's block has
// WORKGROUP, TEAM and SUBGROUP; all teams of a workgroup must take part.
var<workgroup> subgroupSums: array<f32, WORKGROUP / SUBGROUP>;

/// The sum of the team's values, in every lane.
fn teamSum(value: f32, local: u32) -> f32 {
  let sum = subgroupAdd(value);
  if (TEAM == SUBGROUP) {
    return sum;
  }
  workgroupBarrier();
  if (local % SUBGROUP == 0u) {
    subgroupSums[local / SUBGROUP] = sum;
  }
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < TEAM / SUBGROUP; i++) {
    total += subgroupSums[local / TEAM * (TEAM / SUBGROUP) + i];
  }
  return total;
}
