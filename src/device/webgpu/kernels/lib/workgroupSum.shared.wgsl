// Sum over a workgroup of 256, by halving in workgroup memory: for devices without subgroups of one fixed size.
var<workgroup> workgroupSums: array<f32, 256>;

fn workgroupSum(value: f32, lane: u32) -> f32 {
  // The last sum has been read after this barrier.
  workgroupBarrier();
  workgroupSums[lane] = value;
  for (var count = 128u; count > 0u; count >>= 1u) {
    workgroupBarrier();
    if (lane < count) {
      workgroupSums[lane] += workgroupSums[lane + count];
    }
  }
  workgroupBarrier();
  return workgroupSums[0];
}
