// Scales and zeros of a block's keys and values on their way into attendDecodeMatrix. The kernel declares what is named in
// capitals, and the bindings.

// Scale and zero of a lane's token, or the scales of two tokens.
fn keyRangeAt(block: u32, group: u32, lane: u32) -> u32 {
  if (INT4) {
    return keys[block + KEY_SCALES_AT + group * 8u + lane / 4u][lane % 4u];
  }
  return keys[block + KEY_SCALES_AT + lane / 8u][lane % 8u / 2u];
}

// Scales and zeros of four tokens: a lane has a group and those that meet one word of codes.
fn valueRangesAt(block: u32, lane: u32) -> vec4<u32> {
  return values[block + VALUE_SCALES_AT + min(lane / 4u, GROUPS - 1u) * 8u + lane % 4u];
}

// Those of four tokens, the first at `position`: none of slots that the query does not see yet, which may hold anything, NaN too.
fn seenRanges(ranges: vec4<u32>, position: u32, last: u32) -> vec4<u32> {
  return select(vec4<u32>(0u), ranges, vec4<u32>(position) + vec4<u32>(0u, 1u, 2u, 3u) <= vec4<u32>(last));
}

// The scales of two tokens.
fn valueScaleAt(block: u32, lane: u32) -> u32 {
  return values[block + VALUE_SCALES_AT + lane / 8u][lane % 8u / 2u];
}

// Of the two scales in `pair` the lane's, for codes that are expanded to twice what they are, centred.
fn halfScale(pair: u32, lane: u32) -> f32 {
  return 0.5 * unpack2x16float(pair >> (lane % 2u * 16u)).x;
}
