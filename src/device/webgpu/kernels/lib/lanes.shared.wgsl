// Maximum and sum over rows of 32 consecutive invocations, through workgroup memory: for devices without subgroups of one
// size. The kernel declares WORKGROUP; all of a workgroup takes part.
var<workgroup> laneValues: array<f32, WORKGROUP>;

fn lanesMax(value: f32, local: u32) -> f32 {
  // Whoever still reads the last values must be done.
  workgroupBarrier();
  laneValues[local] = value;
  for (var half = 16u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (local % 32u < half) {
      laneValues[local] = max(laneValues[local], laneValues[local + half]);
    }
  }
  workgroupBarrier();
  return laneValues[local & ~31u];
}

fn lanesSum(value: f32, local: u32) -> f32 {
  workgroupBarrier();
  laneValues[local] = value;
  for (var half = 16u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (local % 32u < half) {
      laneValues[local] += laneValues[local + half];
    }
  }
  workgroupBarrier();
  return laneValues[local & ~31u];
}
