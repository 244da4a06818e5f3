// Expands 32 dims of a block of 32 tokens, from a cache of any format, to f32 in attendPrompt's `right`, [token][dim]. The kernel
// declares the constants, the bindings and `right`; it appends kvCodes, planes and channels.

// Expands 32 dims of a block's keys into `right`.
fn expandKeys(block: u32, group: u32, local: u32) {
  if (local >= 128u) {
    return;
  }
  let token = local % 32u;
  let part = local / 32u;
  if (INT4 || RQ4) {
    let codes = codesApart(keyCodes(block, group, token), KEY_BITS);
    let lows = unpack4xU8(codes[0][part]);
    let highs = unpack4xU8(codes[1][part]);
    if (CHANNEL) {
      let low = channelRanges(block + KEY_SCALES_AT, group * 32u + part * 4u);
      let high = channelRanges(block + KEY_SCALES_AT, group * 32u + part * 4u + 16u);
      for (var c = 0u; c < 4u; c++) {
        let d = part * 4u + c;
        right[token * STRIDE + d] = low[0][c] * f32(lows[c]) + low[1][c];
        right[token * STRIDE + d + 16u] = high[0][c] * f32(highs[c]) + high[1][c];
      }
      return;
    }
    let range = rangeOf(keys[block + KEY_SCALES_AT + scaleWord(group, token)][scalePart(token)], token);
    for (var c = 0u; c < 4u; c++) {
      let d = part * 4u + c;
      right[token * STRIDE + d] = range.x * f32(lows[c]) + range.y;
      right[token * STRIDE + d + 16u] = range.x * f32(highs[c]) + range.y;
    }
    return;
  }
  let chunk = group * 4u + part;
  var eight = vec4<u32>(0u);
  if (chunk * 8u < KEY_DIM) {
    eight = keys[block + chunk * 32u + token];
  }
  spread(eight, token, part);
}

// Expands 32 dims of the values of a block's first `seen` tokens into `right`; other tokens may hold anything, NaN too.
fn expandValues(block: u32, group: u32, seen: u32, local: u32) {
  if (local >= 128u) {
    return;
  }
  if (INT4 || RQ4) {
    let d = local % 32u;
    let part = local / 32u;
    let codes = codesApart(valueCodes(block, group * 32u + d), VALUE_BITS);
    let lows = unpack4xU8(codes[0][part]);
    let highs = unpack4xU8(codes[1][part]);
    for (var c = 0u; c < 4u; c++) {
      let token = part * 4u + c;
      let low = rangeOf(values[block + VALUE_SCALES_AT + scaleWord(group, token)][scalePart(token)], token);
      let high = rangeOf(values[block + VALUE_SCALES_AT + scaleWord(group, token + 16u)][scalePart(token)], token);
      right[token * STRIDE + d] = select(0.0, low.x * f32(lows[c]) + low.y, token < seen);
      right[(token + 16u) * STRIDE + d] = select(0.0, high.x * f32(highs[c]) + high.y, token + 16u < seen);
    }
    return;
  }
  let token = local / 4u;
  let part = local % 4u;
  let chunk = group * 4u + part;
  var eight = vec4<u32>(0u);
  if (chunk * 8u < HEAD_DIM && token < seen) {
    eight = values[block + token * (HEAD_DIM / 8u) + chunk];
  }
  spread(eight, token, part);
}

// Stores eight halves of one token.
fn spread(eight: vec4<u32>, token: u32, part: u32) {
  for (var c = 0u; c < 4u; c++) {
    let two = unpack2x16float(eight[c]);
    right[token * STRIDE + part * 8u + c * 2u] = two.x;
    right[token * STRIDE + part * 8u + c * 2u + 1u] = two.y;
  }
}
