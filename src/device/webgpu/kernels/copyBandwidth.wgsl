// Measures how fast a kernel can read and write: copies a large buffer to another, 16 bytes at a time.
// <values>
const LOADS: u32 = 16u;
// </values>

@group(0) @binding(2) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = (group.x + group.y * 65535u) * 256u * LOADS + local;
  var values: array<vec4<u32>, LOADS>;
  for (var i = 0u; i < LOADS; i++) {
    values[i] = source[first + i * 256u];
  }
  for (var i = 0u; i < LOADS; i++) {
    out[first + i * 256u] = values[i];
  }
}
