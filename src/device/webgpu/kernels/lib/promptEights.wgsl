// The work of attendPromptMatrix8 between its products: codes of 16 tokens become rows of floats in its `tile`, and matrices, whose
// elements cannot be accessed, go through `scores`. side: the first (0) or second (1) half of a block's 32 tokens. The kernel declares
// the constants, its bindings and arrays; it appends kvCodes, planes, channels and floatCodes.

// Four codes of a word, from the low or the high halves of its bytes (side), as floats that are 1 / sideShares times as large.
fn sideFloats(word: u32, side: u32) -> vec4<f32> {
  let masks = vec2<u32>(0x0fu, 0x0f00u) << vec2<u32>(4u * side);
  let two = vec2<u32>(word, word >> 16u);
  return bitcast<vec4<f32>>((two.xxyy & masks.xyxy) | vec4<u32>(CODE_BITS)) - vec4<f32>(CODE_BASE);
}

fn sideShares(side: u32) -> vec4<f32> {
  return select(SHARES.xzxz, SHARES.ywyw, side == 1u);
}

fn stageChannels(at: u32, local: u32) {
  if (local < GROUPS * 8u) {
    let four = channelRanges(at, local * 4u);
    channels[local * 2u] = four[0];
    channels[local * 2u + 1u] = four[1];
  }
}

fn stageKeys(block: u32, side: u32, local: u32) {
  if (!CODED) {
    for (var i = local; i < TOKENS * HEAD_DIM / 8u; i += WORKGROUP) {
      let eight = keys[block + i / TOKENS * 32u + side * TOKENS + i % TOKENS];
      stageHalves(eight, i % TOKENS, i / TOKENS);
    }
    return;
  }
  // Each lane has two of the four words of a token's group.
  for (var i = local; i < TOKENS * GROUPS * 2u; i += WORKGROUP) {
    let group = i / (2u * TOKENS);
    let isUpper = i / TOKENS % 2u == 1u;
    let token = side * TOKENS + i % TOKENS;
    let words = nibbleWords(keyCodes(block, group, token), KEY_BITS);
    let two = select(words.xy, words.zw, isUpper);
    var range = vec2<f32>(1.0, 0.0);
    if (!CHANNEL) {
      range = rangeOf(keys[block + KEY_SCALES_AT + scaleWord(group, token)][scalePart(token)], token);
    }
    let four = group * 8u + select(0u, 2u, isUpper);
    stageWord(two.x, four, range, i % TOKENS);
    stageWord(two.y, four + 1u, range, i % TOKENS);
  }
}

// Stores eight dims of a token: four, and the four that are 16 further.
fn stageWord(word: u32, four: u32, range: vec2<f32>, line: u32) {
  let at = line * KEY_STRIDE + four;
  if (four * 4u < HEAD_DIM) {
    tile[at] = fma(sideFloats(word, 0u), keyScales(four, range.x) * sideShares(0u), keyOffsets(four, range.y));
  }
  if (four * 4u + 16u < HEAD_DIM) {
    tile[at + 4u] = fma(sideFloats(word, 1u), keyScales(four + 4u, range.x) * sideShares(1u), keyOffsets(four + 4u, range.y));
  }
}

fn keyScales(four: u32, scale: f32) -> vec4<f32> {
  if (CHANNEL) {
    return channels[four * 2u];
  }
  return vec4<f32>(scale);
}

fn keyOffsets(four: u32, offset: f32) -> vec4<f32> {
  if (CHANNEL) {
    return channels[four * 2u + 1u];
  }
  return vec4<f32>(offset);
}

// Stores scales and zeros of the tokens' values for stageValues. seen: the block's tokens that any row sees; others may hold anything,
// NaN too.
fn stageRanges(at: u32, side: u32, seen: u32, local: u32) {
  let group = local / TOKENS;
  if (group < select(GROUPS, 1u, RQ4)) {
    let token = side * TOKENS + local % TOKENS;
    let range = select(vec2<f32>(0.0), rangeOf(values[at + scaleWord(group, token)][scalePart(token)], token), token < seen);
    let place = group * 8u + local % TOKENS / 4u;
    ranges[place][token % 4u] = range.x * sideShares(side)[token % 4u];
    ranges[place + 4u][token % 4u] = range.y;
  }
}

fn stageValues(block: u32, side: u32, seen: u32, local: u32) {
  if (!CODED) {
    for (var i = local; i < TOKENS * HEAD_DIM / 8u; i += WORKGROUP) {
      let token = i / (HEAD_DIM / 8u);
      let chunk = i % (HEAD_DIM / 8u);
      let eight = values[block + (side * TOKENS + token) * (HEAD_DIM / 8u) + chunk];
      stageHalves(select(vec4<u32>(0u), eight, side * TOKENS + token < seen), token, chunk);
    }
    return;
  }
  for (var d = local; d < HEAD_DIM; d += WORKGROUP) {
    let words = nibbleWords(valueCodes(block, d), VALUE_BITS);
    let group = select(d / 32u * 8u, 0u, RQ4);
    // each W 0..3
    tile[d * VALUE_STRIDE + {W}u] = fma(sideFloats(words[{W}u], side), ranges[group + {W}u], ranges[group + {W + 4}u]);
    // end
  }
}

// Stores eight dims of a token.
fn stageHalves(eight: vec4<u32>, token: u32, chunk: u32) {
  tile[token * KEY_STRIDE + chunk * 2u] = vec4<f32>(unpack2x16float(eight.x), unpack2x16float(eight.y));
  tile[token * KEY_STRIDE + chunk * 2u + 1u] = vec4<f32>(unpack2x16float(eight.z), unpack2x16float(eight.w));
}

// Eight dims of eight tokens' values.
fn valuePiece(eight: u32, piece: u32) -> Right {
  if (CODED) {
    return subgroupMatrixLoad<Right, col_major>(&tile, piece * 8u * VALUE_STRIDE + eight * 2u, VALUE_STRIDE);
  }
  return subgroupMatrixLoad<Right, row_major>(&tile, eight * 8u * KEY_STRIDE + piece * 2u, KEY_STRIDE);
}

fn noteGrowth(grows: bool, subgroup: u32, lane: u32) {
  let some = subgroupAny(grows);
  if (lane == 0u) {
    growths[subgroup] = u32(some);
  }
}

// Whether any subgroup of the workgroup has growth. Uniform, and written so that the compiler can see it.
fn anyGrowth() -> bool {
  return any(workgroupUniformLoad(&growths) != vec4<u32>());
}

// Multiplies 8 dims of 16 rows of O by a factor for each row. at: the word of this lane's half of a row.
fn rescalePiece(sum: ptr<function, Result>, more: ptr<function, Result>, own: u32, at: u32, factor: f32) {
  storePiece(sum, more, own);
  scores[own + at] *= factor;
  workgroupBarrier();
  *sum = subgroupMatrixLoad<Result, row_major>(&scores, own, SCORE_STRIDE);
  *more = subgroupMatrixLoad<Result, row_major>(&scores, own + 8u * SCORE_STRIDE, SCORE_STRIDE);
  workgroupBarrier();
}

fn storePiece(sum: ptr<function, Result>, more: ptr<function, Result>, own: u32) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores, own, *sum, SCORE_STRIDE);
  subgroupMatrixStore<row_major>(&scores, own + 8u * SCORE_STRIDE, *more, SCORE_STRIDE);
  workgroupBarrier();
}
