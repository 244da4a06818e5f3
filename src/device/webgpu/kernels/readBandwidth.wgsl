// Measures how fast a kernel can read: reads a large buffer once, 16 bytes per load, with LOADS loads of each invocation in flight.
// <values>
const LOADS: u32 = 16u;
// </values>

struct Params {
  // Never true: the values must be used, or the compiler drops the loads.
  never: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = (group.x + group.y * 65535u) * 256u * LOADS + local;
  var sum = vec4<u32>();
  for (var i = 0u; i < LOADS; i++) {
    sum += source[first + i * 256u];
  }
  if (sum.x + sum.y + sum.z + sum.w == params.never) {
    out[local] = sum;
  }
}
