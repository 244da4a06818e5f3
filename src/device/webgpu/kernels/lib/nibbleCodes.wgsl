// int8 codes of a group's low nibbles, as words of four. The kernel appends codes.

fn nibbleCodes(words: vec4<u32>) -> vec4<u32> {
  let nibbles = words & vec4<u32>(0x0f0f0f0fu);
  return vec4<u32>(codesOf(nibbles.x), codesOf(nibbles.y), codesOf(nibbles.z), codesOf(nibbles.w));
}
