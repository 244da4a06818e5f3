// Two sums over rows of LANES consecutive invocations, through workgroup memory. The kernel appends lanes.

fn lanesTwo(value: vec2<f32>, local: u32) -> vec2<f32> {
  return vec2<f32>(lanesSum(value.x, local), lanesSum(value.y, local));
}
