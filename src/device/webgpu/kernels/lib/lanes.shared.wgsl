// Maximum, sum and exchange over rows of LANES consecutive invocations, through workgroup memory: for devices without subgroups of one
// fixed size. The kernel declares WORKGROUP and LANES (32 at most); all threads of a workgroup take part.
var<workgroup> laneValues: array<f32, WORKGROUP>;

fn lanesMax(value: f32, local: u32) -> f32 {
  // After this barrier, no thread reads the last values.
  workgroupBarrier();
  laneValues[local] = value;
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (local % LANES < half) {
      laneValues[local] = max(laneValues[local], laneValues[local + half]);
    }
  }
  workgroupBarrier();
  return laneValues[local / LANES * LANES];
}

fn lanesSum(value: f32, local: u32) -> f32 {
  workgroupBarrier();
  laneValues[local] = value;
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (local % LANES < half) {
      laneValues[local] += laneValues[local + half];
    }
  }
  workgroupBarrier();
  return laneValues[local / LANES * LANES];
}

// The value of the invocation whose number differs in the bits of `mask`, which is less than LANES.
fn lanesXor(value: vec4<f32>, mask: u32, local: u32) -> vec4<f32> {
  var other = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    workgroupBarrier();
    laneValues[local] = value[i];
    workgroupBarrier();
    other[i] = laneValues[local ^ mask];
  }
  return other;
}
