// Loads a page of the cache, word by word, and expands it to f16 in attendPromptApart's workgroup memory: keys and values have places
// of their own. Heads have 128 dims and tiles are pages of 32 tokens. The kernel declares the constants, the bindings `keys` and
// `values` and the workgroup's `keyTile` and `valueTile`; it appends promptCodes.

const CHUNKS: u32 = HEAD_DIM / 8u;
// The cache has one scale for each token.
const TOKEN_SCALES: bool = RQ4;
// Rows of workgroup memory in words of 16 bytes, an odd number to avoid bank conflicts: keys [token][dim], values [dim][token] for
// codes and [token][dim] for f16.
const KEY_STRIDE: u32 = CHUNKS + 1u;
const VALUE_STRIDE: u32 = select(CHUNKS + 1u, 5u, CODED);
const KEY_TILE: u32 = 32u * KEY_STRIDE;
const VALUE_TILE: u32 = select(32u, HEAD_DIM, CODED) * VALUE_STRIDE;

// What a thread has loaded of the next tile: codes of a key and of four values, or f16 words with names, since an array that a loop
// indexes may be in local memory.
var<private> keyCodes: vec4<u32>;
var<private> keyScale: u32;
var<private> valueCodes: vec4<u32>;
var<private> lowScales: vec4<u32>;
var<private> highScales: vec4<u32>;
// each E 0..3
var<private> keyWord{E}: vec4<u32>;
var<private> valueWord{E}: vec4<u32>;
// end

// The token of a column of weights, in the order in which codes unpack.
fn tokenOf(column: u32) -> u32 {
  return column / 8u * 4u + swapMiddle(column & 3u) + (column & 4u) * 4u;
}

// The token of a column of scores: a lane's four scores are the weights that it stores as one word.
fn tokenOfScore(column: u32) -> u32 {
  return tokenOf((column & 19u) | ((column & 4u) << 1u) | ((column & 8u) >> 1u));
}

// A thread loads a group of 32 dims of one token's key, or four times eight dims of f16.
fn loadKeys(page: u32, local: u32) {
  let block = page * KEY_WORDS;
  let token = tokenOfScore(local % 32u);
  let group = local / 32u;
  if (CODED) {
    keyCodes = keys[block + group * 32u + token];
    if (TOKEN_SCALES) {
      keyScale = keys[block + KEY_SCALES_AT + token / 8u][token % 8u / 2u] >> (token % 2u * 16u);
    } else {
      keyScale = keys[block + KEY_SCALES_AT + group * 8u + token / 4u][token % 4u];
    }
  } else {
    // each E 0..3
    keyWord{E} = keys[block + (group + {4 * E}u) * 32u + token];
    // end
  }
}

// A thread loads four dims, eight apart, of eight tokens' values, or four tokens' eight dims of f16.
fn loadValues(page: u32, local: u32) {
  let block = page * VALUE_WORDS;
  if (CODED) {
    let word = local % 32u / 8u;
    let group = local / 32u;
    let dim = block + group * 32u + local % 8u;
    valueCodes = vec4<u32>(values[dim][word], values[dim + 8u][word], values[dim + 16u][word], values[dim + 24u][word]);
    if (RQ4) {
      let first = values[block + VALUE_SCALES_AT + word / 2u];
      let second = values[block + VALUE_SCALES_AT + word / 2u + 2u];
      lowScales = select(vec4<u32>(first.xy, second.xy), vec4<u32>(first.zw, second.zw), word % 2u == 1u);
    } else {
      lowScales = values[block + VALUE_SCALES_AT + group * 8u + word];
      highScales = values[block + VALUE_SCALES_AT + group * 8u + word + 4u];
    }
  } else {
    // each E 0..3
    valueWord{E} = values[block + tokenOf(local / 16u + {8 * E}u) * CHUNKS + local % 16u];
    // end
  }
}

fn expandKeys(local: u32) {
  let row = local % 32u * KEY_STRIDE;
  let group = local / 32u;
  if (CODED) {
    let place = row + group * 4u;
    let scale = bitcast<vec2<f16>>(keyScale).xx;
    let zero = bitcast<vec2<f16>>(keyScale).yy;
    keyTile[place] = fourCodes(keyCodes.x, keyCodes.y, 0u, scale, zero);
    keyTile[place + 1u] = fourCodes(keyCodes.z, keyCodes.w, 0u, scale, zero);
    keyTile[place + 2u] = fourCodes(keyCodes.x, keyCodes.y, 4u, scale, zero);
    keyTile[place + 3u] = fourCodes(keyCodes.z, keyCodes.w, 4u, scale, zero);
  } else {
    // each E 0..3
    keyTile[row + group + {4 * E}u] = keyWord{E};
    // end
  }
}

// Values of tokens after position `last` become 0: what the cache holds there may be anything.
fn expandValues(first: u32, last: u32, local: u32) {
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
    let s0 = lowHalves(low.x, low.z);
    let z0 = highHalves(low.x, low.z);
    let s1 = lowHalves(low.y, low.w);
    let z1 = highHalves(low.y, low.w);
    let s2 = lowHalves(high.x, high.z);
    let z2 = highHalves(high.x, high.z);
    let s3 = lowHalves(high.y, high.w);
    let z3 = highHalves(high.y, high.w);
    let at = (local / 32u * 32u + local % 8u) * VALUE_STRIDE + word;
    // each J 0..3
    valueTile[at + {8 * J}u * VALUE_STRIDE] = vec4<u32>(
      code(valueCodes[{J}], 0u, s0, z0), code(valueCodes[{J}], 8u, s1, z1), code(valueCodes[{J}], 4u, s2, z2), code(valueCodes[{J}], 12u, s3, z3));
    // end
  } else {
    // each E 0..3
    valueTile[(local / 16u + {8 * E}u) * VALUE_STRIDE + local % 16u] =
      select(vec4<u32>(0u), valueWord{E}, first + tokenOf(local / 16u + {8 * E}u) <= last);
    // end
  }
}
