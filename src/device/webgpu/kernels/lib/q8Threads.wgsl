// q8 (lib/q8.wgsl) of values that neighbouring threads hold: eight threads make a group of 32, four values each, so that they read and
// write whole cache lines. The kernel declares WORKGROUP, a multiple of 8, and appends q8.
var<workgroup> threadMagnitudes: array<u32, WORKGROUP>;
var<workgroup> threadCodes: array<u32, WORKGROUP>;

// All threads call this. The first of every eight gets the group; the others get zeros.
fn q8OfThreads(values: vec4<f32>, local: u32) -> Q8Group {
  let magnitudes = q8Magnitudes(values);
  let two = max(magnitudes.xy, magnitudes.zw);
  threadMagnitudes[local] = max(two.x, two.y);
  // After this barrier, no thread reads the codes of the previous call.
  workgroupBarrier();
  let first = local & ~7u;
  var bits = 0u;
  for (var i = 0u; i < 8u; i++) {
    bits = max(bits, threadMagnitudes[first + i]);
  }
  let most = bitcast<f32>(bits);
  threadCodes[local] = pack4xI8(vec4<i32>(round(values * q8Inverse(most))));
  workgroupBarrier();
  var group: Q8Group;
  if (local == first) {
    group.low = vec4<u32>(threadCodes[first], threadCodes[first + 1u], threadCodes[first + 2u], threadCodes[first + 3u]);
    group.high = vec4<u32>(threadCodes[first + 4u], threadCodes[first + 5u], threadCodes[first + 6u], threadCodes[first + 7u]);
    group.scales = q8Scales(most / 127.0, group.low, group.high);
  }
  return group;
}
