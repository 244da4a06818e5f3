// A tile of the cache on its way into attendPromptMatrix's workgroup memory: loaded by words, then expanded to f16. The kernel
// declares what is named in capitals, the bindings `keys`, `values` and the workgroup's `tile`, `scores` and `channels`; it appends nibbles,
// planes and channelFours.

// Of what is held as keys, and of queries.
const KEY_DIM: u32 = select(HEAD_DIM, TURNED, TURNED > 0u);
const KEY_GROUPS: u32 = (KEY_DIM + 31u) / 32u;
const KEY_CHUNKS: u32 = KEY_DIM / 8u;
const QUERY_CHUNKS: u32 = (TURNED + HEAD_DIM) / 8u;
// Pieces of turned dims that a subgroup has: its last ones may be none.
const TURNED_PIECES: u32 = (TURNED / 16u + SPLIT - 1u) / SPLIT;
// Rows of workgroup memory in words of 16 bytes, odd against bank conflicts: keys [token][dim], values [dim][token] of
// int4 and [token][dim] of f16, scores [row][token].
const KEY_STRIDE: u32 = KEY_CHUNKS + 1u;
const QUERY_STRIDE: u32 = QUERY_CHUNKS + 1u;
const VALUE_STRIDE: u32 = select(CHUNKS + 1u, TOKENS / 8u + 1u, CODED);
const SCORE_STRIDE: u32 = TOKENS / 4u + 1u;
const KEY_TILE: u32 = TOKENS * KEY_STRIDE;
const VALUE_TILE: u32 = select(TOKENS, HEAD_DIM, CODED) * VALUE_STRIDE;
const TILE_WORDS: u32 = max(STAGED * QUERY_STRIDE, max(KEY_TILE, VALUE_TILE));
const SCORE_WORDS: u32 = 16u * SCORE_STRIDE;
// Where constant offsets serve (SPLIT is 1, so tiles have 32 tokens): the second tokens, and from piece to piece of values.
const SECOND: u32 = TOKENS - 16u;
const PIECE: u32 = select(0u, 16u * VALUE_STRIDE, CODED);
// From the first half of a row's weights to the second: where the scores lay that a lane has read itself, unless all have
// been read (SPLIT, which tiles of 16 need).
const WEIGHT_HALF: u32 = select(TOKENS / 8u, TOKENS / 16u, SPLIT > 1u);
const HALF_STEPS: u32 = max(STEPS / 2u, 1u);
// Words of values that a workgroup and a thread expand, and of keys: as many, but where values end them.
const ITEMS: u32 = select(TOKENS * CHUNKS, TOKENS * GROUPS, CODED);
const EACH: u32 = (ITEMS + WORKGROUP - 1u) / WORKGROUP;
const KEY_ITEMS: u32 = select(TOKENS * KEY_CHUNKS, TOKENS * KEY_GROUPS, CODED);
const KEY_EACH: u32 = (KEY_ITEMS + WORKGROUP - 1u) / WORKGROUP;
// Keys have a scale for each token.
const TOKEN_SCALES: bool = RQ4 && !CHANNEL;
// What codes are expanded to, in codes: rotated ones become 2 code - MOST_CODE.
const KEY_CODE: f32 = select(1.0, 0.5, TOKEN_SCALES);
const VALUE_CODE: f32 = select(1.0, 0.5, RQ4);
const MOST_CODE: f16 = f16((1u << VALUE_BITS) - 1u);

// What a thread has loaded of the next tile.
var<private> keyWords: array<vec4<u32>, KEY_EACH>;
var<private> keyScales: array<u32, KEY_EACH>;
// Scales and zeros of eight dims.
var<private> channelWord: vec4<u32>;
var<private> valueWords: array<vec4<u32>, EACH>;
var<private> lowScales: array<vec4<u32>, EACH>;
var<private> highScales: array<vec4<u32>, EACH>;

// Position in a tile's blocks of 32 that a column holds, if the tile is their `part`: 4 low codes of a word, 4 high ones.
fn tokenOf(column: u32, part: u32) -> u32 {
  let word = column / 8u + part * (TOKENS / 8u);
  return word / 4u * 32u + word % 4u * 4u + swapMiddle(column & 3u) + (column & 4u) * 4u;
}

// Words of the tile at `first` from the cache to this thread. Past the text: whatever a page holds, unused.
fn load(table: u32, kvHead: u32, first: u32, local: u32) {
  let part = first % 32u / TOKENS;
  // A tile lies in one page.
  let page = blockOf(table, first / 32u, KV_HEADS, kvHead);
  let keyBlock = page * KEY_WORDS;
  let block = page * VALUE_WORDS;
  for (var i = 0u; i < KEY_EACH; i++) {
    let item = min(local + i * WORKGROUP, KEY_ITEMS - 1u);
    let token = tokenOf(item % TOKENS, part);
    let piece = item / TOKENS;
    if (CODED) {
      keyWords[i] = keyCodes(keyBlock, piece, token % 32u);
    } else {
      keyWords[i] = keys[keyBlock + piece * 32u + token % 32u];
    }
    if (TOKEN_SCALES) {
      keyScales[i] = keys[keyBlock + KEY_SCALES_AT + token % 32u / 8u][token % 8u / 2u] >> (token % 2u * 16u);
    } else if (INT4) {
      keyScales[i] = keys[keyBlock + KEY_SCALES_AT + piece * 8u + token % 32u / 4u][token % 4u];
    }
  }
  if (CHANNEL) {
    channelWord = keys[keyBlock + KEY_SCALES_AT + min(local, KEY_GROUPS * 4u - 1u)];
  }
  for (var i = 0u; i < EACH; i++) {
    let item = min(local + i * WORKGROUP, ITEMS - 1u);
    if (CODED) {
      // One word, 8 tokens, of 4 dims of a group.
      let words = item % (TOKENS / 8u) + part * (TOKENS / 8u);
      let word = words % 4u;
      let group = item / TOKENS;
      let d = group * 32u + item % TOKENS / (TOKENS / 8u);
      valueWords[i] = vec4<u32>(
        valueNibbles(block, d, word), valueNibbles(block, d + 8u, word),
        valueNibbles(block, d + 16u, word), valueNibbles(block, d + 24u, word));
      if (RQ4) {
        let low = values[block + VALUE_SCALES_AT + word / 2u];
        let high = values[block + VALUE_SCALES_AT + word / 2u + 2u];
        let pairs = select(vec4<u32>(low.xy, high.xy), vec4<u32>(low.zw, high.zw), word % 2u == 1u);
        lowScales[i] = pairs;
      } else {
        lowScales[i] = values[block + VALUE_SCALES_AT + group * 8u + word];
        highScales[i] = values[block + VALUE_SCALES_AT + group * 8u + word + 4u];
      }
    } else {
      let token = tokenOf(item / CHUNKS, part);
      valueWords[i] = values[block + token % 32u * CHUNKS + item % CHUNKS];
    }
  }
}

// Of the tile at `first`, once its words are there: slots after `last`, the last position that any row sees, may hold anything, NaN
// too, which no weight of 0 undoes, so that nothing is taken of their values.
fn hideValues(first: u32, last: u32, local: u32) {
  let part = first % 32u / TOKENS;
  let block = first / 32u * 32u;
  for (var i = 0u; i < EACH; i++) {
    let item = min(local + i * WORKGROUP, ITEMS - 1u);
    if (CODED) {
      let word = item % (TOKENS / 8u) + part * (TOKENS / 8u);
      let low = vec4<u32>(block + word % 4u * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
      let lowSeen = low <= vec4<u32>(last);
      let highSeen = low + vec4<u32>(16u) <= vec4<u32>(last);
      if (RQ4) {
        // Two tokens a word.
        lowScales[i] &= vec4<u32>(
          select(0u, 0xffffu, lowSeen.x) | select(0u, 0xffff0000u, lowSeen.y),
          select(0u, 0xffffu, lowSeen.z) | select(0u, 0xffff0000u, lowSeen.w),
          select(0u, 0xffffu, highSeen.x) | select(0u, 0xffff0000u, highSeen.y),
          select(0u, 0xffffu, highSeen.z) | select(0u, 0xffff0000u, highSeen.w));
      } else {
        lowScales[i] = select(vec4<u32>(0u), lowScales[i], lowSeen);
        highScales[i] = select(vec4<u32>(0u), highScales[i], highSeen);
      }
    } else {
      valueWords[i] = select(vec4<u32>(0u), valueWords[i], block + tokenOf(item / CHUNKS, part) <= last);
    }
  }
}

// Called when all threads have read those of the last keys.
fn storeChannels(local: u32) {
  if (local < KEY_GROUPS * 4u) {
    storeChannel(local * 2u, channelFour(channelWord.x, channelWord.y));
    storeChannel(local * 2u + 1u, channelFour(channelWord.z, channelWord.w));
  }
}

// Each row of scores has a word that keeps it apart from the next one: half a KiB less of workgroup memory, which decides how many
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

// Codes in the low four bits of each half of `word >> shift`.
fn code(word: u32, shift: u32, scale: vec2<f16>, zero: vec2<f16>) -> u32 {
  if (RQ4) {
    // Times 2 code - MOST_CODE: twice the value. Half of a scale that is subnormal would lose a bit.
    let place = select(word >> (max(shift, 1u) - 1u), word << 1u, shift == 0u);
    return bitcast<u32>(bitcast<vec2<f16>>(centre(place, MOST_CODE)) * scale);
  }
  return expand(word >> shift, scale, zero);
}

fn expandKeys(local: u32) {
  for (var i = 0u; i < KEY_EACH; i++) {
    let item = local + i * WORKGROUP;
    if (item < KEY_ITEMS) {
      let at = item % TOKENS * KEY_STRIDE;
      let piece = item / TOKENS;
      let words = nibbleWords(keyWords[i], KEY_BITS);
      if (CHANNEL) {
        for (var high = 0u; high < 2u; high++) {
          if (piece * 4u + high * 2u < KEY_CHUNKS) {
            let four = piece * 8u + high * 4u;
            let codes = words >> vec4<u32>(high * 4u);
            let a = channelHalf(codes.x, channelAt(four));
            let b = channelHalf(codes.y, channelAt(four + 1u));
            let c = channelHalf(codes.z, channelAt(four + 2u));
            let d = channelHalf(codes.w, channelAt(four + 3u));
            tile[at + piece * 4u + high * 2u] = vec4<u32>(a, b);
            tile[at + piece * 4u + high * 2u + 1u] = vec4<u32>(c, d);
          }
        }
      } else if (CODED) {
        let range = bitcast<vec2<f16>>(keyScales[i]);
        let scale = range.xx;
        let zero = range.yy;
        for (var high = 0u; high < 2u; high++) {
          let codes = words >> vec4<u32>(high * 4u);
          if (piece * 4u + high * 2u < KEY_CHUNKS) {
            tile[at + piece * 4u + high * 2u] = vec4<u32>(
              code(codes.x, 0u, scale, zero), code(codes.x, 8u, scale, zero),
              code(codes.y, 0u, scale, zero), code(codes.y, 8u, scale, zero));
            tile[at + piece * 4u + high * 2u + 1u] = vec4<u32>(
              code(codes.z, 0u, scale, zero), code(codes.z, 8u, scale, zero),
              code(codes.w, 0u, scale, zero), code(codes.w, 8u, scale, zero));
          }
        }
      } else {
        tile[at + piece] = words;
      }
    }
  }
}

fn expandValues(local: u32) {
  for (var i = 0u; i < EACH; i++) {
    let item = local + i * WORKGROUP;
    if (item < ITEMS) {
      let words = valueWords[i];
      if (CODED) {
        var low = lowScales[i];
        var high = highScales[i];
        if (RQ4) {
          // Two tokens a word; scales alone.
          let pairs = lowScales[i];
          low = vec4<u32>(pairs.x, pairs.x >> 16u, pairs.y, pairs.y >> 16u);
          high = vec4<u32>(pairs.z, pairs.z >> 16u, pairs.w, pairs.w >> 16u);
        }
        let s0 = lowHalves(low.x, low.z);
        let z0 = highHalves(low.x, low.z);
        let s1 = lowHalves(low.y, low.w);
        let z1 = highHalves(low.y, low.w);
        let s2 = lowHalves(high.x, high.z);
        let z2 = highHalves(high.x, high.z);
        let s3 = lowHalves(high.y, high.w);
        let z3 = highHalves(high.y, high.w);
        let d = item / TOKENS * 32u + item % TOKENS / (TOKENS / 8u);
        for (var j = 0u; j < 4u; j++) {
          if (d + j * 8u < HEAD_DIM) {
            let word = words[j];
            tile[(d + j * 8u) * VALUE_STRIDE + item % (TOKENS / 8u)] = vec4<u32>(
              code(word, 0u, s0, z0), code(word, 8u, s1, z1), code(word, 4u, s2, z2), code(word, 12u, s3, z3));
          }
        }
      } else {
        tile[item / CHUNKS * VALUE_STRIDE + item % CHUNKS] = words;
      }
    }
  }
}

// Of the tile at `first`, without what no row sees. last: the last position that any does. Tiles of 16 have tokens of both halves
// of their page.
fn expandSeen(first: u32, last: u32, local: u32) {
  if (first / 32u * 32u + 31u > last) {
    hideValues(first, last, local);
  }
  expandValues(local);
}
