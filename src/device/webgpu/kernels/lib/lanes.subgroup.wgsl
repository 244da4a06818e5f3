// Maximum, sum and exchange over rows of LANES consecutive invocations: by shuffles within a subgroup (or part of a wider one),
// through workgroup memory across smaller ones. The kernel declares WORKGROUP, LANES (32 at most) and SUBGROUP; all threads of a
// workgroup take part.
const LANE_REACH: u32 = min(SUBGROUP, LANES);
var<workgroup> laneValues: array<f32, WORKGROUP / LANE_REACH>;
var<workgroup> laneFours: array<vec4<f32>, select(WORKGROUP, 1u, LANE_REACH == LANES)>;

fn lanesMax(value: f32, local: u32) -> f32 {
  var most = value;
  for (var mask = LANE_REACH / 2u; mask > 0u; mask >>= 1u) {
    most = max(most, subgroupShuffleXor(most, mask));
  }
  if (LANE_REACH == LANES) {
    return most;
  }
  // After this barrier, no thread reads the last values.
  workgroupBarrier();
  laneValues[local / LANE_REACH] = most;
  workgroupBarrier();
  for (var i = 0u; i < LANES / LANE_REACH; i++) {
    most = max(most, laneValues[local / LANES * (LANES / LANE_REACH) + i]);
  }
  return most;
}

fn lanesSum(value: f32, local: u32) -> f32 {
  var sum = value;
  for (var mask = LANE_REACH / 2u; mask > 0u; mask >>= 1u) {
    sum += subgroupShuffleXor(sum, mask);
  }
  if (LANE_REACH == LANES) {
    return sum;
  }
  workgroupBarrier();
  laneValues[local / LANE_REACH] = sum;
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < LANES / LANE_REACH; i++) {
    total += laneValues[local / LANES * (LANES / LANE_REACH) + i];
  }
  return total;
}

// The value of the invocation whose number differs in the bits of `mask`, which is less than LANES.
fn lanesXor(value: vec4<f32>, mask: u32, local: u32) -> vec4<f32> {
  if (LANE_REACH == LANES) {
    return subgroupShuffleXor(value, mask);
  }
  workgroupBarrier();
  laneFours[local] = value;
  workgroupBarrier();
  return laneFours[local ^ mask];
}
