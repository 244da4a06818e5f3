// Sums of four numbers each over rows of LANES consecutive invocations. Written out: in loops, a sum of one number each, they took a
// hundred of gatedDelta's 383 us (48 heads, 512 tokens, H200, 2026-11-29). The kernel appends lanes.

fn lanesTotal(value: vec4<f32>, local: u32) -> vec4<f32> {
  var sum = value;
  if (LANES > 16u) {
    sum += lanesXor(sum, 16u, local);
  }
  if (LANES > 8u) {
    sum += lanesXor(sum, 8u, local);
  }
  if (LANES > 4u) {
    sum += lanesXor(sum, 4u, local);
  }
  if (LANES > 2u) {
    sum += lanesXor(sum, 2u, local);
  }
  if (LANES > 1u) {
    sum += lanesXor(sum, 1u, local);
  }
  return sum;
}
