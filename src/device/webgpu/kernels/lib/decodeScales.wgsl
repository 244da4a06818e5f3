// Loads scales and zeros of a block's keys and values for attendDecodeMatrix. The kernel declares the constants and the bindings.

// The scale and zero of a lane's token, or the scales of two tokens.
fn keyRangeAt(block: u32, group: u32, lane: u32) -> u32 {
  if (INT4) {
    return keys[block + KEY_SCALES_AT + group * 8u + lane / 4u][lane % 4u];
  }
  return keys[block + KEY_SCALES_AT + lane / 8u][lane % 8u / 2u];
}

// Scales and zeros of the four tokens of one word of codes, for one group of dims.
fn valueRangesAt(block: u32, lane: u32) -> vec4<u32> {
  return values[block + VALUE_SCALES_AT + min(lane / 4u, GROUPS - 1u) * 8u + lane % 4u];
}

// The same for four tokens from `position` on, with 0 for slots that the query does not see, which may hold anything, NaN too.
fn seenRanges(ranges: vec4<u32>, position: u32, last: u32) -> vec4<u32> {
  return select(vec4<u32>(0u), ranges, vec4<u32>(position) + vec4<u32>(0u, 1u, 2u, 3u) <= vec4<u32>(last));
}

// The scales of two tokens.
fn valueScaleAt(block: u32, lane: u32) -> u32 {
  return values[block + VALUE_SCALES_AT + lane / 8u][lane % 8u / 2u];
}

// The lane's scale of the two in `pair`, halved: codes are expanded to twice their centred value.
fn halfScale(pair: u32, lane: u32) -> f32 {
  return 0.5 * unpack2x16float(pair >> (lane % 2u * 16u)).x;
}
