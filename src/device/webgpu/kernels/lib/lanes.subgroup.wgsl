// Maximum and sum over rows of LANES consecutive invocations: shuffles within a subgroup (or part of a wider one), workgroup
// memory across smaller ones. The kernel declares WORKGROUP, LANES, 32 at most, and SUBGROUP; all of a workgroup takes part.
const LANE_REACH: u32 = min(SUBGROUP, LANES);
var<workgroup> laneValues: array<f32, WORKGROUP / LANE_REACH>;

fn lanesMax(value: f32, local: u32) -> f32 {
  var most = value;
  for (var mask = LANE_REACH / 2u; mask > 0u; mask >>= 1u) {
    most = max(most, subgroupShuffleXor(most, mask));
  }
  if (LANE_REACH == LANES) {
    return most;
  }
  // Whoever still reads the last values must be done.
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
