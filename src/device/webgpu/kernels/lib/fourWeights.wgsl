// Weights of any type as floats, four at a time. The kernel declares `codes: array<u32>`, `scales`, and Params with groups; it appends
// weight and codes.

/// Scale and offset of half a group.
fn halfScale(row: u32, group: u32, half: u32) -> vec2<f32> {
  if (CODES >= F32) {
    return vec2<f32>(1.0, 0.0);
  }
  let at = scaleAt(row, group, params.groups);
  var next = 0u;
  if (HAS_NEXT) {
    next = scales[nextAt(at, group)];
  }
  let all = scalesOf(scales[at], next, group);
  return select(all.xy, all.zw, half == 1u);
}

/// Columns 4 w to 4 w + 3 of half a group.
fn fourWeights(row: u32, group: u32, half: u32, w: u32, scale: vec2<f32>) -> vec4<f32> {
  let groups = params.groups;
  if (CODES == F32) {
    let at = (row * groups + group) * 32u + half * 16u + w * 4u;
    return bitcast<vec4<f32>>(vec4<u32>(codes[at], codes[at + 1u], codes[at + 2u], codes[at + 3u]));
  }
  if (CODES == F16 || CODES == BF16) {
    let at = (row * groups + group) * 16u + half * 8u + w * 2u;
    return vec4<f32>(floatsOf(codes[at]), floatsOf(codes[at + 1u]));
  }
  return vec4<f32>(unpack4xI8(fourCodes(row, group, half, w))) * scale.x + scale.y;
}

/// The same, of a packed type, as int8 codes.
fn fourCodes(row: u32, group: u32, half: u32, w: u32) -> u32 {
  let groups = params.groups;
  if (CODES == BYTES) {
    return codes[((row * 2u + half) * groups + group) * 4u + w];
  }
  var upper = 0u;
  if (HAS_UPPER) {
    upper = codes[upperAt(row, group, groups, w)];
  }
  let nibbles = nibbleWord(codes[wordAt(row, group, groups, w)], upper, w);
  if (IS_JOINED) {
    let bits = upperWord(upper, w);
    return select(joinLow(nibbles, bits), joinHigh(nibbles, bits), half == 1u);
  }
  return codesOf((nibbles >> (4u * half)) & 0x0f0f0f0fu);
}
