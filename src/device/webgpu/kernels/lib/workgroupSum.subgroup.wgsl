// The sum over a workgroup: subgroups add up their lanes, then every thread adds the subgroups' sums. The kernel declares WORKGROUP
// and SUBGROUP, the device's one subgroup size.
var<workgroup> workgroupSums: array<f32, WORKGROUP / SUBGROUP>;

fn workgroupSum(value: f32, lane: u32) -> f32 {
  let sum = subgroupAdd(value);
  // After this barrier, no thread reads the last sums.
  workgroupBarrier();
  if (lane % SUBGROUP == 0u) {
    workgroupSums[lane / SUBGROUP] = sum;
  }
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < WORKGROUP / SUBGROUP; i++) {
    total += workgroupSums[i];
  }
  return total;
}
