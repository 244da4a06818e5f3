// The sum over a workgroup whose size is a power of two, by halving in workgroup memory: for devices without subgroups of one fixed
// size. The kernel declares WORKGROUP.
var<workgroup> workgroupSums: array<f32, WORKGROUP>;

fn workgroupSum(value: f32, lane: u32) -> f32 {
  // After this barrier, no thread reads the last sum.
  workgroupBarrier();
  workgroupSums[lane] = value;
  for (var count = WORKGROUP / 2u; count > 0u; count >>= 1u) {
    workgroupBarrier();
    if (lane < count) {
      workgroupSums[lane] += workgroupSums[lane + count];
    }
  }
  workgroupBarrier();
  return workgroupSums[0];
}
