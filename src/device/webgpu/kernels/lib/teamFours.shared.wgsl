// Sums of four numbers each over teams of TEAM consecutive invocations, as many as you like, through workgroup memory. The kernel
// declares WORKGROUP and TEAM; all of a workgroup takes part. Invocations after the last whole team get nothing of use.
var<workgroup> teamValues: array<vec4<f32>, WORKGROUP>;

/// In every lane of a team.
fn teamFours(value: vec4<f32>, local: u32) -> vec4<f32> {
  // The last values have been read after this barrier.
  workgroupBarrier();
  teamValues[local] = value;
  workgroupBarrier();
  var sum = vec4<f32>();
  for (var i = 0u; i < TEAM; i++) {
    sum += teamValues[min(local / TEAM * TEAM + i, WORKGROUP - 1u)];
  }
  return sum;
}
