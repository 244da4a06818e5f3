// Two sums at once over rows of LANES consecutive invocations. In one chain, written out, gatedDelta takes 277 and 225 us for 48 and 32
// heads and 512 tokens; with two of lanesSum, one after the other, 383 and 334 (H200, 2026-11-29). The kernel appends lanes.

fn lanesTwo(value: vec2<f32>, local: u32) -> vec2<f32> {
  if (LANE_REACH < LANES) {
    return vec2<f32>(lanesSum(value.x, local), lanesSum(value.y, local));
  }
  var sum = value;
  if (LANES > 16u) {
    sum += subgroupShuffleXor(sum, 16u);
  }
  if (LANES > 8u) {
    sum += subgroupShuffleXor(sum, 8u);
  }
  if (LANES > 4u) {
    sum += subgroupShuffleXor(sum, 4u);
  }
  if (LANES > 2u) {
    sum += subgroupShuffleXor(sum, 2u);
  }
  if (LANES > 1u) {
    sum += subgroupShuffleXor(sum, 1u);
  }
  return sum;
}
