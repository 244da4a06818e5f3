// Loads a tile of the cache, word by word, and expands it to f16 in attendPromptMatrix's workgroup memory. The kernel declares the
// constants, the bindings `keys`, `values` and the workgroup's `tile`, `scores` and `channels`; it appends promptCodes, planes and
// channelFours.

const CHUNKS: u32 = HEAD_DIM / 8u;
// Slices of the head's dims that lie apart, one for each subgroup of a row block, so that a matrix has a constant place in its
// subgroup's slice. Places that are computed cost Dawn's check around each load: 32/16 heads of 256, f16, 2,661 -> 1,389 us (512 tokens
// over 8,192; H200, 2026-11-29).
const SLICES: u32 = select(1u, SPLIT, TURNED == 0u && HEAD_DIM % (32u * SPLIT) == 0u);
const SLICE_CHUNKS: u32 = CHUNKS / SLICES;
// Of a slice, the pieces of keys that a thread expands: groups of dims, or eight dims of f16.
const SLICE_PIECES: u32 = select(SLICE_CHUNKS, max(GROUPS / SLICES, 1u), CODED);
const KEY_SLICE_PIECES: u32 = select(SLICE_PIECES, select(KEY_CHUNKS, KEY_GROUPS, CODED), SLICES == 1u);
const STEPS: u32 = TOKENS / 16u;
// Rows of queries that are in workgroup memory at a time: whole row blocks.
const STAGED: u32 = min(ROWS, select(32u, 16u, SLICES > 1u));
// Dims that the cache holds of a key, and dims of a query.
const KEY_DIM: u32 = select(HEAD_DIM, TURNED, TURNED > 0u);
const KEY_GROUPS: u32 = (KEY_DIM + 31u) / 32u;
const KEY_CHUNKS: u32 = KEY_DIM / 8u;
const QUERY_CHUNKS: u32 = (TURNED + HEAD_DIM) / 8u;
// Pieces of rotated dims per subgroup; the last may not exist.
const TURNED_PIECES: u32 = (TURNED / 16u + SPLIT - 1u) / SPLIT;
// Rows of workgroup memory in words of 16 bytes, an odd number to avoid bank conflicts: keys [token][dim], values [dim][token] for
// codes and [token][dim] for f16, scores [row][token].
const KEY_STRIDE: u32 = KEY_CHUNKS / SLICES + 1u;
const QUERY_STRIDE: u32 = QUERY_CHUNKS / SLICES + 1u;
const VALUE_STRIDE: u32 = select(SLICE_CHUNKS + 1u, TOKENS / 8u + 1u, CODED);
const SCORE_STRIDE: u32 = TOKENS / 4u + 1u;
const KEY_TILE: u32 = TOKENS * KEY_STRIDE;
const VALUE_TILE: u32 = select(TOKENS, HEAD_DIM / SLICES, CODED) * VALUE_STRIDE;
const TILE_WORDS: u32 = max(STAGED * QUERY_STRIDE, max(KEY_TILE, VALUE_TILE));
const SCORE_WORDS: u32 = 16u * SCORE_STRIDE;
// If SPLIT is 1, tiles have 32 tokens and offsets are constants: those of the second 16 tokens, and from one piece of values to the
// next.
const SECOND: u32 = TOKENS - 16u;
const PIECE: u32 = select(0u, 16u * VALUE_STRIDE, CODED);
// The distance from the first half of a row's weights to the second. A lane overwrites the scores that it has read itself, unless all
// have been read (SPLIT, with tiles of 16 tokens).
const WEIGHT_HALF: u32 = select(TOKENS / 8u, TOKENS / 16u, SPLIT > 1u);
const HALF_STEPS: u32 = max(STEPS / 2u, 1u);
// Words of values, and of keys, that a workgroup and a thread expand; the same numbers unless TURNED.
const ITEMS: u32 = select(TOKENS * CHUNKS, TOKENS * GROUPS, CODED);
const EACH: u32 = (ITEMS + WORKGROUP - 1u) / WORKGROUP;
const KEY_ITEMS: u32 = select(TOKENS * KEY_CHUNKS, TOKENS * KEY_GROUPS, CODED);
const KEY_EACH: u32 = (KEY_ITEMS + WORKGROUP - 1u) / WORKGROUP;
// Keys have one scale per token.
const TOKEN_SCALES: bool = RQ4 && !CHANNEL;

// What a thread has loaded of the next tile. Each has a name, since an array that a loop indexes may be in local memory.
// each E 0..7
var<private> keyWords{E}: vec4<u32>;
var<private> keyScales{E}: u32;
var<private> valueWords{E}: vec4<u32>;
var<private> lowScales{E}: vec4<u32>;
var<private> highScales{E}: vec4<u32>;
// end
// Scales and zeros of eight dims.
var<private> channelWord: vec4<u32>;

// The token that a column holds, within its block of 32, if the tile is this `part` of it: 4 low codes of a word, then 4 high ones.
fn tokenOf(column: u32, part: u32) -> u32 {
  let word = column / 8u + part * (TOKENS / 8u);
  return word / 4u * 32u + word % 4u * 4u + swapMiddle(column & 3u) + (column & 4u) * 4u;
}

fn keyWordOf(block: u32, item: u32, part: u32) -> vec4<u32> {
  let token = tokenOf(item % TOKENS, part) % 32u;
  if (CODED) {
    return keyCodes(block, item / TOKENS, token);
  }
  return keys[block + item / TOKENS * 32u + token];
}

fn keyScaleOf(block: u32, item: u32, part: u32) -> u32 {
  let token = tokenOf(item % TOKENS, part) % 32u;
  if (TOKEN_SCALES) {
    return keys[block + KEY_SCALES_AT + token / 8u][token % 8u / 2u] >> (token % 2u * 16u);
  }
  if (INT4) {
    return keys[block + KEY_SCALES_AT + item / TOKENS * 8u + token / 4u][token % 4u];
  }
  return 0u;
}

// Which word of a dim's codes in the tile an item takes, and its first dim. Eight neighbouring threads have eight dims, so that
// their stores have no bank conflicts: int4 1,756 -> 1,687 us (512 tokens over 16,384, 64/8 heads of 128; H200, 2026-11-29).
fn tileWordOf(item: u32) -> u32 {
  return item % TOKENS / 8u;
}

fn firstDimOf(item: u32) -> u32 {
  return item / TOKENS * 32u + item % 8u;
}

// Codes of 8 tokens, one word for each of 4 dims of a group.
fn valueWordOf(block: u32, item: u32, part: u32) -> vec4<u32> {
  if (CODED) {
    let word = (tileWordOf(item) + part * (TOKENS / 8u)) % 4u;
    let d = firstDimOf(item);
    return vec4<u32>(
      valueNibbles(block, d, word), valueNibbles(block, d + 8u, word),
      valueNibbles(block, d + 16u, word), valueNibbles(block, d + 24u, word));
  }
  return values[block + tokenOf(item / CHUNKS, part) % 32u * CHUNKS + item % CHUNKS];
}

// Scales of tokens 4 word to 4 word + 3, or of the four that are 16 further. rq4: of all tokens, two to a word.
fn valueScaleOf(block: u32, item: u32, part: u32, high: u32) -> vec4<u32> {
  let word = (tileWordOf(item) + part * (TOKENS / 8u)) % 4u;
  if (RQ4) {
    let first = values[block + VALUE_SCALES_AT + word / 2u];
    let second = values[block + VALUE_SCALES_AT + word / 2u + 2u];
    return select(vec4<u32>(first.xy, second.xy), vec4<u32>(first.zw, second.zw), word % 2u == 1u);
  }
  if (INT4) {
    return values[block + VALUE_SCALES_AT + item / TOKENS * 8u + word + high * 4u];
  }
  return vec4<u32>();
}

// Loads this thread's words of keys of the tile at `first`, which is in one page. After the text's end these are whatever the page
// holds; they are not used.
fn loadKeys(page: u32, first: u32, local: u32) {
  let part = first % 32u / TOKENS;
  let block = page * KEY_WORDS;
  // each E 0..7 if KEY_EACH > E
  keyWords{E} = keyWordOf(block, min(local + {E}u * WORKGROUP, KEY_ITEMS - 1u), part);
  keyScales{E} = keyScaleOf(block, min(local + {E}u * WORKGROUP, KEY_ITEMS - 1u), part);
  // end
  if (CHANNEL) {
    channelWord = keys[block + KEY_SCALES_AT + min(local, KEY_GROUPS * 4u - 1u)];
  }
}

fn loadValues(page: u32, first: u32, local: u32) {
  let part = first % 32u / TOKENS;
  let block = page * VALUE_WORDS;
  // each E 0..7 if EACH > E
  valueWords{E} = valueWordOf(block, min(local + {E}u * WORKGROUP, ITEMS - 1u), part);
  lowScales{E} = valueScaleOf(block, min(local + {E}u * WORKGROUP, ITEMS - 1u), part, 0u);
  highScales{E} = valueScaleOf(block, min(local + {E}u * WORKGROUP, ITEMS - 1u), part, 1u);
  // end
}

fn load(page: u32, first: u32, local: u32) {
  loadKeys(page, first, local);
  loadValues(page, first, local);
}

// Clears values and weights, which are multiplied once before any are stored.
fn clearTile(local: u32) {
  for (var i = local; i < SLICES * TILE_WORDS; i += WORKGROUP) {
    tile[i / TILE_WORDS][i % TILE_WORDS] = vec4<u32>(0u);
  }
  for (var i = local; i < SUBGROUPS * SCORE_WORDS; i += WORKGROUP) {
    scores[i] = vec4<u32>(0u);
  }
}

// Call this after all threads have read those of the last keys.
fn storeChannels(local: u32) {
  if (CHANNEL && local < KEY_GROUPS * 4u) {
    storeChannel(local * 2u, channelFour(channelWord.x, channelWord.y));
    storeChannel(local * 2u + 1u, channelFour(channelWord.z, channelWord.w));
  }
}

// Scales of channels are stored in the padding words of scores' rows: half a KiB less of workgroup memory, which decides how many
// workgroups a core holds.
const IN_ROWS: bool = KEY_GROUPS * 8u <= SUBGROUPS * 16u;

fn storeChannel(four: u32, ranges: vec4<u32>) {
  if (IN_ROWS) {
    scores[four * SCORE_STRIDE + SCORE_STRIDE - 1u] = ranges;
  } else {
    channels[four] = ranges;
  }
}

fn channelAt(four: u32) -> vec4<u32> {
  if (IN_ROWS) {
    return scores[four * SCORE_STRIDE + SCORE_STRIDE - 1u];
  }
  return channels[four];
}

fn expandKey(item: u32, loaded: vec4<u32>, range: u32) {
  let piece = item / TOKENS;
  let part = piece / KEY_SLICE_PIECES;
  let at = item % TOKENS * KEY_STRIDE + piece % KEY_SLICE_PIECES * select(1u, 4u, CODED);
  if (!CODED) {
    tile[part][at] = loaded;
    return;
  }
  let words = nibbleWords(loaded, KEY_BITS);
  if (CHANNEL) {
    let four = piece * 8u;
    tile[part][at] = vec4<u32>(channelHalf(words.x, channelAt(four)), channelHalf(words.y, channelAt(four + 1u)));
    tile[part][at + 1u] = vec4<u32>(channelHalf(words.z, channelAt(four + 2u)), channelHalf(words.w, channelAt(four + 3u)));
    if (KEY_DIM % 32u == 0u || piece * 4u + 2u < KEY_CHUNKS) {
      let high = words >> vec4<u32>(4u);
      tile[part][at + 2u] = vec4<u32>(channelHalf(high.x, channelAt(four + 4u)), channelHalf(high.y, channelAt(four + 5u)));
      tile[part][at + 3u] = vec4<u32>(channelHalf(high.z, channelAt(four + 6u)), channelHalf(high.w, channelAt(four + 7u)));
    }
    return;
  }
  let scale = bitcast<vec2<f16>>(range).xx;
  let zero = bitcast<vec2<f16>>(range).yy;
  tile[part][at] = fourCodes(words.x, words.y, 0u, scale, zero);
  tile[part][at + 1u] = fourCodes(words.z, words.w, 0u, scale, zero);
  if (KEY_DIM % 32u == 0u || piece * 4u + 2u < KEY_CHUNKS) {
    tile[part][at + 2u] = fourCodes(words.x, words.y, 4u, scale, zero);
    tile[part][at + 3u] = fourCodes(words.z, words.w, 4u, scale, zero);
  }
}

fn expandKeys(local: u32) {
  // each E 0..7 if KEY_EACH > E
  if (KEY_ITEMS % WORKGROUP == 0u || local + {E}u * WORKGROUP < KEY_ITEMS) {
    expandKey(local + {E}u * WORKGROUP, keyWords{E}, keyScales{E});
  }
  // end
}

// first: the first position of the tile's page. last: the last position that any row sees. Slots after it may hold anything, NaN too,
// which a weight of 0 does not cancel, so their values are not used. Tiles of 16 have tokens of both halves of their page.
fn expandValue(item: u32, first: u32, part: u32, last: u32, words: vec4<u32>, lowRanges: vec4<u32>, highRanges: vec4<u32>) {
  if (!CODED) {
    let isSeen = first + tokenOf(item / CHUNKS, part) <= last;
    tile[item % CHUNKS / SLICE_CHUNKS][item / CHUNKS * VALUE_STRIDE + item % SLICE_CHUNKS] = select(vec4<u32>(0u), words, isSeen);
    return;
  }
  var low = lowRanges;
  var high = highRanges;
  if (RQ4) {
    // Two tokens to a word; only scales.
    low = vec4<u32>(lowRanges.x, lowRanges.x >> 16u, lowRanges.y, lowRanges.y >> 16u);
    high = vec4<u32>(lowRanges.z, lowRanges.z >> 16u, lowRanges.w, lowRanges.w >> 16u);
  }
  if (first + 31u > last) {
    let word = (tileWordOf(item) + part * (TOKENS / 8u)) % 4u;
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
  let d = firstDimOf(item);
  let slice = select(0u, d / (HEAD_DIM / SLICES), SLICES > 1u);
  let at = (d - slice * (HEAD_DIM / SLICES)) * VALUE_STRIDE + tileWordOf(item);
  // each J 0..3
  if (HEAD_DIM % 32u == 0u || d + {8 * J}u < HEAD_DIM) {
    tile[slice][at + {8 * J}u * VALUE_STRIDE] = vec4<u32>(
      code(words[{J}], 0u, s0, z0), code(words[{J}], 8u, s1, z1), code(words[{J}], 4u, s2, z2), code(words[{J}], 12u, s3, z3));
  }
  // end
}

// Expands the values of the tile at `first`.
fn expandValues(first: u32, last: u32, local: u32) {
  let page = first / 32u * 32u;
  let part = first % 32u / TOKENS;
  // each E 0..7 if EACH > E
  if (ITEMS % WORKGROUP == 0u || local + {E}u * WORKGROUP < ITEMS) {
    expandValue(local + {E}u * WORKGROUP, page, part, last, valueWords{E}, lowScales{E}, highScales{E});
  }
  // end
}
