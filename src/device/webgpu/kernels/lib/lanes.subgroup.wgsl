// Maximum and sum over rows of 32 consecutive invocations: shuffles within a subgroup (or half of one of 64), workgroup
// memory across smaller ones. The kernel declares WORKGROUP and SUBGROUP; all of a workgroup takes part.
const LANE_REACH: u32 = min(SUBGROUP, 32u);
var<workgroup> laneValues: array<f32, WORKGROUP / LANE_REACH>;

fn lanesMax(value: f32, local: u32) -> f32 {
  var most = value;
  for (var mask = LANE_REACH / 2u; mask > 0u; mask >>= 1u) {
    most = max(most, subgroupShuffleXor(most, mask));
  }
  if (LANE_REACH == 32u) {
    return most;
  }
  // Whoever still reads the last values must be done.
  workgroupBarrier();
  laneValues[local / LANE_REACH] = most;
  workgroupBarrier();
  for (var i = 0u; i < 32u / LANE_REACH; i++) {
    most = max(most, laneValues[(local & ~31u) / LANE_REACH + i]);
  }
  return most;
}

fn lanesSum(value: f32, local: u32) -> f32 {
  var sum = value;
  for (var mask = LANE_REACH / 2u; mask > 0u; mask >>= 1u) {
    sum += subgroupShuffleXor(sum, mask);
  }
  if (LANE_REACH == 32u) {
    return sum;
  }
  workgroupBarrier();
  laneValues[local / LANE_REACH] = sum;
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < 32u / LANE_REACH; i++) {
    total += laneValues[(local & ~31u) / LANE_REACH + i];
  }
  return total;
}
