// Loads a page of the cache, word by word, and expands it to f16 in attendPromptApart's workgroup memory: keys by halves of the tokens,
// values by halves of the dims. Tiles are pages of 32 tokens. The kernel declares the constants, the bindings `keys` and `values` and
// the workgroup's `keyTile` and `valueTile`; it appends promptCodes and apartChannels.

const CHUNKS: u32 = HEAD_DIM / 8u;
// The cache has one scale for each token.
const TOKEN_SCALES: bool = RQ4 && !CHANNEL;
// Rows of workgroup memory in words of 16 bytes, an odd number to avoid bank conflicts: keys [token][dim], values [dim][token] for
// codes and [token][half of the dims] for f16.
const KEY_STRIDE: u32 = CHUNKS + 1u;
const VALUE_STRIDE: u32 = select(CHUNKS / 2u + 1u, 5u, CODED);
const KEY_HALF: u32 = max(16u * KEY_STRIDE, SCORE_WORDS);
const VALUE_HALF: u32 = select(32u, HEAD_DIM / 2u, CODED) * VALUE_STRIDE;
// Words of 16 bytes of a tile that a thread expands, and the threads that share a group's four words of a token.
const EACH: u32 = HEAD_DIM * 4u / WORKGROUP;
const SHARES: u32 = 4u / EACH;
// f16: how far a thread's words are apart, in chunks of eight dims of a key and in tokens of values.
const CHUNK_STEP: u32 = WORKGROUP / 32u;
const TOKEN_STEP: u32 = WORKGROUP / CHUNKS;

// What a thread has loaded of the next tile: codes of a key and of values, or f16 words with names, since an array that a loop indexes
// may be in local memory.
var<private> keyCodes: vec4<u32>;
var<private> keyScale: u32;
var<private> valueCodes: vec4<u32>;
var<private> lowScales: vec4<u32>;
var<private> highScales: vec4<u32>;
// each E 0..3
var<private> keyWord{E}: vec4<u32>;
var<private> valueWord{E}: vec4<u32>;
var<private> valueScale{E}: vec2<f16>;
var<private> valueZero{E}: vec2<f16>;
// end
// Values of f16: the tile's first position, and the last one that any row sees.
var<private> tileFirst: u32;
var<private> lastSeen: u32;

// The token of a column of weights, in the order in which codes unpack.
fn tokenOf(column: u32) -> u32 {
  return column / 8u * 4u + swapMiddle(column & 3u) + (column & 4u) * 4u;
}

// The token of a column of scores: a lane's four scores are the weights that it stores as one word.
fn tokenOfScore(column: u32) -> u32 {
  return tokenOf((column & 19u) | ((column & 4u) << 1u) | ((column & 8u) >> 1u));
}

// Codes: a thread has a share of one group of 32 dims; shares of keys are words, those of values dims.
fn groupOf(local: u32) -> u32 {
  return local / 32u % (HEAD_DIM / 32u);
}

fn shareOf(local: u32) -> u32 {
  return local / HEAD_DIM;
}

// A thread loads a group of 32 dims of one token's key, or half of it; or eight dims of f16 for each word.
fn loadKeys(page: u32, local: u32) {
  let block = page * KEY_WORDS;
  let token = tokenOfScore(local % 32u);
  if (CHANNEL) {
    loadChannels(block, local);
  } else if (CODED) {
    let group = groupOf(local);
    let at = block + group * 32u + token;
    if (SHARES == 1u) {
      keyCodes = keys[at];
    } else {
      keyCodes = vec4<u32>(keys[at][2u * shareOf(local)], keys[at][2u * shareOf(local) + 1u], 0u, 0u);
    }
    if (TOKEN_SCALES) {
      keyScale = keys[block + KEY_SCALES_AT + token / 8u][token % 8u / 2u] >> (token % 2u * 16u);
    } else {
      keyScale = keys[block + KEY_SCALES_AT + group * 8u + token / 4u][token % 4u];
    }
  } else {
    // each E 0..3 if EACH > E
    keyWord{E} = keys[block + (local / 32u + {E}u * CHUNK_STEP) * 32u + token];
    // end
  }
}

// A thread loads some dims, eight apart, of eight tokens' values, or eight dims of f16 for each word.
fn loadValues(page: u32, local: u32) {
  let block = page * VALUE_WORDS;
  if (CODED) {
    let word = local % 32u / 8u;
    let group = groupOf(local);
    let dim = block + group * 32u + shareOf(local) * (8u * EACH) + local % 8u;
    if (SHARES == 1u) {
      valueCodes = vec4<u32>(values[dim][word], values[dim + 8u][word], values[dim + 16u][word], values[dim + 24u][word]);
    } else {
      valueCodes = vec4<u32>(values[dim][word], values[dim + 8u][word], 0u, 0u);
    }
    if (RQ4) {
      let first = values[block + VALUE_SCALES_AT + word / 2u];
      let second = values[block + VALUE_SCALES_AT + word / 2u + 2u];
      lowScales = select(vec4<u32>(first.xy, second.xy), vec4<u32>(first.zw, second.zw), word % 2u == 1u);
    } else {
      lowScales = values[block + VALUE_SCALES_AT + group * 8u + word];
      highScales = values[block + VALUE_SCALES_AT + group * 8u + word + 4u];
    }
  } else {
    // each E 0..3 if EACH > E
    valueWord{E} = values[block + tokenOf(local / CHUNKS + {E}u * TOKEN_STEP) * CHUNKS + local % CHUNKS];
    // end
  }
}

// Each expands one of a thread's words; beyond EACH they do nothing.
// each E 0..3
fn expandKey{E}(local: u32) {
  let half = local % 32u / 16u;
  let row = local % 16u * KEY_STRIDE;
  if (CHANNEL) {
    expandChannels{E}(local);
  } else if (CODED) {
    let scale = bitcast<vec2<f16>>(keyScale).xx;
    let zero = bitcast<vec2<f16>>(keyScale).yy;
    if (SHARES == 1u) {
      // only E 0..0
      keyTile[half][row + groupOf(local) * 4u] = fourCodes(keyCodes.x, keyCodes.y, 0u, scale, zero);
      // end
      // only E 1..1
      keyTile[half][row + groupOf(local) * 4u + 1u] = fourCodes(keyCodes.z, keyCodes.w, 0u, scale, zero);
      // end
      // only E 2..2
      keyTile[half][row + groupOf(local) * 4u + 2u] = fourCodes(keyCodes.x, keyCodes.y, 4u, scale, zero);
      // end
      // only E 3..3
      keyTile[half][row + groupOf(local) * 4u + 3u] = fourCodes(keyCodes.z, keyCodes.w, 4u, scale, zero);
      // end
    }
    if (SHARES == 2u) {
      // only E 0..1
      keyTile[half][row + groupOf(local) * 4u + {2 * E}u + shareOf(local)] = fourCodes(keyCodes.x, keyCodes.y, {4 * E}u, scale, zero);
      // end
    }
  } else if (EACH > {E}u) {
    keyTile[half][row + local / 32u + {E}u * CHUNK_STEP] = keyWord{E};
  }
}

fn expandValue{E}(local: u32) {
  if (CODED) {
    if (EACH > {E}u) {
      let dim = groupOf(local) * 32u + shareOf(local) * (8u * EACH) + local % 8u + {8 * E}u;
      valueTile[dim / (HEAD_DIM / 2u)][dim % (HEAD_DIM / 2u) * VALUE_STRIDE + local % 32u / 8u] = fourValues(valueCodes[{E}]);
    }
  } else if (EACH > {E}u) {
    let token = local / CHUNKS + {E}u * TOKEN_STEP;
    valueTile[local % CHUNKS / (CHUNKS / 2u)][token * VALUE_STRIDE + local % (CHUNKS / 2u)] =
      select(vec4<u32>(0u), valueWord{E}, tileFirst + tokenOf(token) <= lastSeen);
  }
}
// end

fn expandKeys(local: u32) {
  // each E 0..3 if EACH > E
  expandKey{E}(local);
  // end
}

fn expandValues(local: u32) {
  // each E 0..3 if EACH > E
  expandValue{E}(local);
  // end
}

// Call this before values are expanded. Those of tokens after position `last` become 0: what the cache holds there may be anything.
fn prepareValues(first: u32, last: u32, local: u32) {
  tileFirst = first;
  lastSeen = last;
  if (CODED) {
    let word = local % 32u / 8u;
    var low = lowScales;
    var high = highScales;
    if (RQ4) {
      low = vec4<u32>(lowScales.x, lowScales.x >> 16u, lowScales.y, lowScales.y >> 16u);
      high = vec4<u32>(lowScales.z, lowScales.z >> 16u, lowScales.w, lowScales.w >> 16u);
    }
    if (first + 31u > last) {
      let token = vec4<u32>(first + word * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
      low = select(vec4<u32>(0u), low, token <= vec4<u32>(last));
      high = select(vec4<u32>(0u), high, token + vec4<u32>(16u) <= vec4<u32>(last));
    }
    valueScale0 = lowHalves(low.x, low.z);
    valueZero0 = highHalves(low.x, low.z);
    valueScale1 = lowHalves(low.y, low.w);
    valueZero1 = highHalves(low.y, low.w);
    valueScale2 = lowHalves(high.x, high.z);
    valueZero2 = highHalves(high.x, high.z);
    valueScale3 = lowHalves(high.y, high.w);
    valueZero3 = highHalves(high.y, high.w);
  }
}

fn fourValues(word: u32) -> vec4<u32> {
  return vec4<u32>(
    code(word, 0u, valueScale0, valueZero0), code(word, 8u, valueScale1, valueZero1),
    code(word, 4u, valueScale2, valueZero2), code(word, 12u, valueScale3, valueZero3));
}
