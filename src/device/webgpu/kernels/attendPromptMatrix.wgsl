// attendPrompt with f16 subgroup matrices and f32 sums. The rows of a workgroup are the query heads of one KV head, token by
// token, 16 rows a subgroup, so that they share what is expanded. Tile by tile: keys and values become f16 in workgroup
// memory, S = Q K', online softmax by lanes, O += P V. O stays in matrix registers, whose elements cannot be reached: a row's
// weights are taken against an old maximum until the new one is 2^8 times larger, and only then O goes through memory.
// Columns of a tile are its tokens in the order in which codes unpack (tokenOf), for keys, values and masks alike.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, tiles, spans, softcap, nibbles, planes, channelFours, promptTile, narrow, sinks
// <values>
const KV_HEADS: u32 = 2u;
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 64u;
const INT4: bool = true;
const RQ4: bool = false;
// Keys by channel: a scale and a zero for each dim of a page.
const CHANNEL: bool = false;
const KEY_BITS: u32 = 4u;
const VALUE_BITS: u32 = 4u;
const KEY_WORDS: u32 = 80u;
const KEY_SCALES_AT: u32 = 64u;
const VALUE_WORDS: u32 = 80u;
const VALUE_SCALES_AT: u32 = 64u;
// Blocks of 16 rows, and subgroups that share one, each with a slice of the head's dims.
const ROW_BLOCKS: u32 = 4u;
const SPLIT: u32 = 1u;
// Tokens of a tile: 32, or 16 where a tile of 32 would not fit.
const TOKENS: u32 = 32u;
// Values take the keys' place in workgroup memory.
const ONE_TILE: bool = false;
const HAS_SOFTCAP: bool = false;
const HAS_SINKS: bool = false;
// f16 for the next product; else f32. No sum of values is beyond what a cache holds: the rows' factors are 1.
const OUT_F16: bool = false;
// Over a span of the positions each, z counts them, into partials that attendMerge joins; TILE and MOST_SPANS are attendDecode's.
const SPANS: bool = false;
const TILE: u32 = 32u;
const MOST_SPANS: u32 = 128u;
// Of lib/spans.wgsl.
const PART: u32 = 0u;
const KEPT: u32 = 0u;
// </values>

const SUBGROUP: u32 = 32u;
// 4-bit codes; else f16.
const CODED: bool = INT4 || RQ4;
const SUBGROUPS: u32 = ROW_BLOCKS * SPLIT;
const WORKGROUP: u32 = SUBGROUPS * SUBGROUP;
const ROWS: u32 = ROW_BLOCKS * 16u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const CHUNKS: u32 = HEAD_DIM / 8u;
// 16 x 16 pieces of a row block that a subgroup owns.
const PIECES: u32 = HEAD_DIM / 16u / SPLIT;
const STEPS: u32 = TOKENS / 16u;
// Rows of workgroup memory in words of 16 bytes, odd against bank conflicts: keys [token][dim], values [dim][token] of
// int4 and [token][dim] of f16, scores [row][token].
const KEY_STRIDE: u32 = CHUNKS + 1u;
const VALUE_STRIDE: u32 = select(KEY_STRIDE, TOKENS / 8u + 1u, CODED);
const SCORE_STRIDE: u32 = TOKENS / 4u + 1u;
const KEY_TILE: u32 = TOKENS * KEY_STRIDE;
const VALUE_TILE: u32 = select(TOKENS * KEY_STRIDE, HEAD_DIM * VALUE_STRIDE, CODED);
const VALUES_AT: u32 = select(KEY_TILE, 0u, ONE_TILE);
const TILE_WORDS: u32 = max(ROWS * KEY_STRIDE, select(KEY_TILE + VALUE_TILE, max(KEY_TILE, VALUE_TILE), ONE_TILE));
const SCORE_WORDS: u32 = 16u * SCORE_STRIDE;
// Where constant offsets serve (SPLIT is 1, so tiles have 32 tokens): the second tokens, and from piece to piece of values.
const SECOND: u32 = TOKENS - 16u;
const PIECE: u32 = select(0u, 16u * VALUE_STRIDE, CODED);
// From the first half of a row's weights to the second: where the scores lay that a lane has read itself, unless all have
// been read (SPLIT, which tiles of 16 need).
const WEIGHT_HALF: u32 = select(TOKENS / 8u, TOKENS / 16u, SPLIT > 1u);
const HALF_STEPS: u32 = max(STEPS / 2u, 1u);
// Words of keys, and as many of values, that a workgroup and a thread expand.
const ITEMS: u32 = select(TOKENS * CHUNKS, TOKENS * GROUPS, CODED);
const EACH: u32 = (ITEMS + WORKGROUP - 1u) / WORKGROUP;
const HIDDEN_SCORE: f32 = -1e30;
// Weights may grow to 2^8 before sums are scaled down; f16 holds them.
const HEADROOM: f32 = 8.0;
// Keys have a scale for each token.
const TOKEN_SCALES: bool = RQ4 && !CHANNEL;
// What codes are expanded to, in codes: rotated ones become 2 code - MOST_CODE.
const KEY_CODE: f32 = select(1.0, 0.5, TOKEN_SCALES);
const VALUE_CODE: f32 = select(1.0, 0.5, RQ4);
const MOST_CODE: f16 = f16((1u << VALUE_BITS) - 1u);

struct Params {
  // Where the pool's tables begin in `batch`.
  table: u32,
  // 0: all positions.
  window: u32,
  // With log2(e), since powers are of 2; with a soft cap instead scale / cap, and cap * log2(e).
  scale: f32,
  cap: f32,
  // f16: the 16-byte word of `out` where the rows' factors begin.
  factorsAt: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [tokens][heads][HEAD_DIM] f32
@group(0) @binding(2) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
// [tokens][heads][HEAD_DIM]; SPANS: [spanned][heads][spans] of HEAD_DIM sums, maximum, total, 0, 0.
@group(0) @binding(5) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;
// [heads]
@group(0) @binding(7) var<storage, read> sinks: array<f32>;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

// Queries at first; then keys and values.
var<workgroup> tile: array<vec4<u32>, TILE_WORDS>;
// Of each subgroup: scores f32, weights f16, pieces of O.
var<workgroup> scores: array<vec4<u32>, SUBGROUPS * SCORE_WORDS>;
var<workgroup> grown: array<u32, SUBGROUPS>;
// CHANNEL: of each four dims of the next keys.
var<workgroup> channels: array<vec4<u32>, select(1u, GROUPS * 8u, CHANNEL)>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let kvHead = workgroup.y;
  let place = tileOf(workgroup.x, ROWS, GROUP);
  let table = tableOf(params.table, place.token);
  let gap = gapOf(place.packed);
  // Rows are query heads, counted from the run's first token.
  let firstRow = place.firstRow;
  let rows = place.tokens * GROUP;
  let subgroup = local / SUBGROUP;
  let lane = local % SUBGROUP;
  let rowBlock = subgroup / SPLIT;
  let slice = subgroup % SPLIT * PIECES;
  let own = subgroup * SCORE_WORDS;
  // Two lanes a row, each with half of the columns.
  let row = min(firstRow + rowBlock * 16u + lane / 2u, rows - 1u);
  let half = lane % 2u;
  let mine = lane / 2u * SCORE_STRIDE;
  let query = place.position + row / GROUP;

  let firstQuery = place.position + firstRow / GROUP;
  let lastQuery = place.position + (min(firstRow + ROWS, rows) - 1u) / GROUP;
  var oldest = 0u;
  if (params.window > 0u && firstQuery + 1u > params.window) {
    oldest = firstQuery + 1u - params.window;
  }
  var start = oldest / 32u * 32u;
  var end = (lastQuery / 32u + 1u) * 32u;
  let places = placesOf(MOST_SPANS);
  if (SPANS) {
    let spans = spansOf(place.position, place.position + place.tokens - 1u, place.packed, PART, params.window, TILE, places);
    if (workgroup.z >= spans.count) {
      return;
    }
    // Of what the run sees; rows of this tile may see nothing of it.
    let begin = spans.first + workgroup.z * spans.tokens;
    start = max(slotOf(gap, start), begin);
    end = min(slotOf(gap, end), begin + spans.tokens);
    if (PART == PACKED) {
      end = min(end, spans.end);
    }
  }
  load(table, kvHead, positionAt(gap, start), local);

  let factor = queryFactor(place.token, kvHead, row, half);
  // Of a score while the maximum is sought and subtracted; a power of two, so that fma rounds nothing that max does not.
  let unit = select(factor, 1.0, HAS_SOFTCAP);
  scores[rowBlock * 16u + lane / 2u] = vec4<u32>(bitcast<u32>(inverseFactor(factor)));
  workgroupBarrier();
  for (var i = local; i < ROWS * CHUNKS; i += WORKGROUP) {
    let back = bitcast<f32>(scores[i / CHUNKS].x);
    storeQueries(place.token, kvHead, min(firstRow + i / CHUNKS, rows - 1u), i % CHUNKS, i / CHUNKS * KEY_STRIDE, back);
  }
  workgroupBarrier();
  // Pieces have names, written out wherever they are used: indexed in loops that a compiler does not unroll, they would live in
  // local memory. Those past PIECES are never touched and cost nothing.
  var q0: Left;
  var q1: Left;
  var q2: Left;
  var q3: Left;
  var q4: Left;
  var q5: Left;
  var q6: Left;
  var q7: Left;
  var sum0: Result;
  var sum1: Result;
  var sum2: Result;
  var sum3: Result;
  var sum4: Result;
  var sum5: Result;
  var sum6: Result;
  var sum7: Result;
  q0 = queryPiece(rowBlock, slice);
  if (PIECES > 1u) { q1 = queryPiece(rowBlock, slice + 1u); }
  if (PIECES > 2u) { q2 = queryPiece(rowBlock, slice + 2u); }
  if (PIECES > 3u) { q3 = queryPiece(rowBlock, slice + 3u); }
  if (PIECES > 4u) { q4 = queryPiece(rowBlock, slice + 4u); }
  if (PIECES > 5u) { q5 = queryPiece(rowBlock, slice + 5u); }
  if (PIECES > 6u) { q6 = queryPiece(rowBlock, slice + 6u); }
  if (PIECES > 7u) { q7 = queryPiece(rowBlock, slice + 7u); }
  var most = HIDDEN_SCORE;
  var total = 0.0;
  if (CHANNEL) {
    storeChannels(local);
  }

  for (var first = start; first < end; first += TOKENS) {
    workgroupBarrier();
    expandKeys(local);
    if (!ONE_TILE) {
      expandValues(local);
      load(table, kvHead, positionAt(gap, first + TOKENS), local);
    }
    workgroupBarrier();
    if (SPLIT == 1u) {
      var low = Result();
      var high = Result();
      low = subgroupMatrixMultiplyAccumulate(q0, subgroupMatrixLoad<Right, col_major>(&tile, 0u, KEY_STRIDE), low);
      high = subgroupMatrixMultiplyAccumulate(q0, subgroupMatrixLoad<Right, col_major>(&tile, SECOND * KEY_STRIDE + 0u, KEY_STRIDE), high);
      if (PIECES > 1u) {
        low = subgroupMatrixMultiplyAccumulate(q1, subgroupMatrixLoad<Right, col_major>(&tile, 2u, KEY_STRIDE), low);
        high = subgroupMatrixMultiplyAccumulate(q1, subgroupMatrixLoad<Right, col_major>(&tile, SECOND * KEY_STRIDE + 2u, KEY_STRIDE), high);
      }
      if (PIECES > 2u) {
        low = subgroupMatrixMultiplyAccumulate(q2, subgroupMatrixLoad<Right, col_major>(&tile, 4u, KEY_STRIDE), low);
        high = subgroupMatrixMultiplyAccumulate(q2, subgroupMatrixLoad<Right, col_major>(&tile, SECOND * KEY_STRIDE + 4u, KEY_STRIDE), high);
      }
      if (PIECES > 3u) {
        low = subgroupMatrixMultiplyAccumulate(q3, subgroupMatrixLoad<Right, col_major>(&tile, 6u, KEY_STRIDE), low);
        high = subgroupMatrixMultiplyAccumulate(q3, subgroupMatrixLoad<Right, col_major>(&tile, SECOND * KEY_STRIDE + 6u, KEY_STRIDE), high);
      }
      if (PIECES > 4u) {
        low = subgroupMatrixMultiplyAccumulate(q4, subgroupMatrixLoad<Right, col_major>(&tile, 8u, KEY_STRIDE), low);
        high = subgroupMatrixMultiplyAccumulate(q4, subgroupMatrixLoad<Right, col_major>(&tile, SECOND * KEY_STRIDE + 8u, KEY_STRIDE), high);
      }
      if (PIECES > 5u) {
        low = subgroupMatrixMultiplyAccumulate(q5, subgroupMatrixLoad<Right, col_major>(&tile, 10u, KEY_STRIDE), low);
        high = subgroupMatrixMultiplyAccumulate(q5, subgroupMatrixLoad<Right, col_major>(&tile, SECOND * KEY_STRIDE + 10u, KEY_STRIDE), high);
      }
      if (PIECES > 6u) {
        low = subgroupMatrixMultiplyAccumulate(q6, subgroupMatrixLoad<Right, col_major>(&tile, 12u, KEY_STRIDE), low);
        high = subgroupMatrixMultiplyAccumulate(q6, subgroupMatrixLoad<Right, col_major>(&tile, SECOND * KEY_STRIDE + 12u, KEY_STRIDE), high);
      }
      if (PIECES > 7u) {
        low = subgroupMatrixMultiplyAccumulate(q7, subgroupMatrixLoad<Right, col_major>(&tile, 14u, KEY_STRIDE), low);
        high = subgroupMatrixMultiplyAccumulate(q7, subgroupMatrixLoad<Right, col_major>(&tile, SECOND * KEY_STRIDE + 14u, KEY_STRIDE), high);
      }
      subgroupMatrixStore<row_major>(&scores, own, low, SCORE_STRIDE);
      subgroupMatrixStore<row_major>(&scores, own + 4u, high, SCORE_STRIDE);
    } else {
      for (var s = 0u; s < STEPS; s++) {
        var product = Result();
        addKeys(&product, q0, s, slice);
        if (PIECES > 1u) { addKeys(&product, q1, s, slice + 1u); }
        if (PIECES > 2u) { addKeys(&product, q2, s, slice + 2u); }
        if (PIECES > 3u) { addKeys(&product, q3, s, slice + 3u); }
        if (PIECES > 4u) { addKeys(&product, q4, s, slice + 4u); }
        if (PIECES > 5u) { addKeys(&product, q5, s, slice + 5u); }
        if (PIECES > 6u) { addKeys(&product, q6, s, slice + 6u); }
        if (PIECES > 7u) { addKeys(&product, q7, s, slice + 7u); }
        subgroupMatrixStore<row_major>(&scores, own + s * 4u, product, SCORE_STRIDE);
      }
    }
    workgroupBarrier();

    var mineScores = array<vec4<f32>, TOKENS / 8u>();
    var highest = HIDDEN_SCORE;
    // Tiles that every row sees whole need no masks.
    let block = positionAt(gap, first) / 32u * 32u;
    let last = block + max(TOKENS, 32u) - 1u;
    let clear = last <= firstQuery && (params.window == 0u || lastQuery - block < params.window);
    for (var i = 0u; i < TOKENS / 8u; i++) {
      var four = vec4<f32>(0.0);
      for (var part = 0u; part < SPLIT; part++) {
        four += bitcast<vec4<f32>>(scores[(rowBlock * SPLIT + part) * SCORE_WORDS + mine + half * (TOKENS / 8u) + i]);
      }
      if (HAS_SOFTCAP) {
        four *= factor;
        four = params.cap * vec4<f32>(boundedTanh(four.x), boundedTanh(four.y), boundedTanh(four.z), boundedTanh(four.w));
      }
      if (!clear) {
        for (var c = 0u; c < 4u; c++) {
          let position = block + tokenOf(half * (TOKENS / 2u) + i * 4u + c, first % 32u / TOKENS);
          let visible = position <= query && (params.window == 0u || query - position < params.window);
          four[c] = select(HIDDEN_SCORE, four[c], visible);
        }
      }
      mineScores[i] = four;
      let two = max(four.xy, four.zw);
      highest = max(highest, max(two.x, two.y));
    }
    highest = max(highest, subgroupShuffleXor(highest, 1u)) * unit;
    let grows = subgroupAny(highest > most + HEADROOM);
    if (lane == 0u) {
      grown[subgroup] = u32(grows);
    }
    if (ONE_TILE) {
      // All products with keys are done: see the barrier before the scores were read.
      expandValues(local);
      load(table, kvHead, positionAt(gap, first + TOKENS), local);
    }
    if (SPLIT > 1u) {
      // The other subgroups of the row block read this one's scores.
      workgroupBarrier();
    }
    // Written as if no maximum had grown, which is rare after the first tiles.
    var added = storeWeights(mineScores, unit, most, own + mine + half * WEIGHT_HALF);
    let flags = workgroupUniformLoad(&grown);
    var any = 0u;
    for (var i = 0u; i < SUBGROUPS; i++) {
      any |= flags[i];
    }
    if (any != 0u) {
      let next = max(most, highest);
      let shrink = exp2(most - next);
      most = next;
      total *= shrink;
      let at = own + mine + half * 2u;
      shrinkPiece(&sum0, own, at, shrink);
      if (PIECES > 1u) { shrinkPiece(&sum1, own, at, shrink); }
      if (PIECES > 2u) { shrinkPiece(&sum2, own, at, shrink); }
      if (PIECES > 3u) { shrinkPiece(&sum3, own, at, shrink); }
      if (PIECES > 4u) { shrinkPiece(&sum4, own, at, shrink); }
      if (PIECES > 5u) { shrinkPiece(&sum5, own, at, shrink); }
      if (PIECES > 6u) { shrinkPiece(&sum6, own, at, shrink); }
      if (PIECES > 7u) { shrinkPiece(&sum7, own, at, shrink); }
      added = storeWeights(mineScores, unit, most, own + mine + half * WEIGHT_HALF);
      workgroupBarrier();
    }
    total += added;
    if (SPLIT == 1u && CODED) {
      let lowWeights = subgroupMatrixLoad<Left, row_major>(&scores, own, SCORE_STRIDE);
      let highWeights = subgroupMatrixLoad<Left, row_major>(&scores, own + WEIGHT_HALF, SCORE_STRIDE);
      sum0 = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT, VALUE_STRIDE), sum0);
      sum0 = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + SECOND / 8u, VALUE_STRIDE), sum0);
      if (PIECES > 1u) {
        sum1 = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(1u, PIECES - 1u) * PIECE, VALUE_STRIDE), sum1);
        sum1 = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(1u, PIECES - 1u) * PIECE + SECOND / 8u, VALUE_STRIDE), sum1);
      }
      if (PIECES > 2u) {
        sum2 = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(2u, PIECES - 1u) * PIECE, VALUE_STRIDE), sum2);
        sum2 = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(2u, PIECES - 1u) * PIECE + SECOND / 8u, VALUE_STRIDE), sum2);
      }
      if (PIECES > 3u) {
        sum3 = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(3u, PIECES - 1u) * PIECE, VALUE_STRIDE), sum3);
        sum3 = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(3u, PIECES - 1u) * PIECE + SECOND / 8u, VALUE_STRIDE), sum3);
      }
      if (PIECES > 4u) {
        sum4 = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(4u, PIECES - 1u) * PIECE, VALUE_STRIDE), sum4);
        sum4 = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(4u, PIECES - 1u) * PIECE + SECOND / 8u, VALUE_STRIDE), sum4);
      }
      if (PIECES > 5u) {
        sum5 = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(5u, PIECES - 1u) * PIECE, VALUE_STRIDE), sum5);
        sum5 = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(5u, PIECES - 1u) * PIECE + SECOND / 8u, VALUE_STRIDE), sum5);
      }
      if (PIECES > 6u) {
        sum6 = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(6u, PIECES - 1u) * PIECE, VALUE_STRIDE), sum6);
        sum6 = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(6u, PIECES - 1u) * PIECE + SECOND / 8u, VALUE_STRIDE), sum6);
      }
      if (PIECES > 7u) {
        sum7 = subgroupMatrixMultiplyAccumulate(lowWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(7u, PIECES - 1u) * PIECE, VALUE_STRIDE), sum7);
        sum7 = subgroupMatrixMultiplyAccumulate(highWeights, subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + min(7u, PIECES - 1u) * PIECE + SECOND / 8u, VALUE_STRIDE), sum7);
      }
    } else {
      for (var s = 0u; s < STEPS; s++) {
        let weights = subgroupMatrixLoad<Left, row_major>(
          &scores, own + s / HALF_STEPS * WEIGHT_HALF + s % HALF_STEPS * 2u, SCORE_STRIDE);
        addValues(&sum0, weights, s, slice);
        if (PIECES > 1u) { addValues(&sum1, weights, s, slice + 1u); }
        if (PIECES > 2u) { addValues(&sum2, weights, s, slice + 2u); }
        if (PIECES > 3u) { addValues(&sum3, weights, s, slice + 3u); }
        if (PIECES > 4u) { addValues(&sum4, weights, s, slice + 4u); }
        if (PIECES > 5u) { addValues(&sum5, weights, s, slice + 5u); }
        if (PIECES > 6u) { addValues(&sum6, weights, s, slice + 6u); }
        if (PIECES > 7u) { addValues(&sum7, weights, s, slice + 7u); }
      }
    }
    if (CHANNEL) {
      storeChannels(local);
    }
  }

  total += subgroupShuffleXor(total, 1u);
  let head = kvHead * GROUP + row % GROUP;
  if (HAS_SINKS) {
    total += sinkWeight(sinks[head], most);
  }
  var inverse = VALUE_CODE / total;
  var outAt = ((place.token + row / GROUP) * KV_HEADS * GROUP + head) * HEAD_DIM;
  if (SPANS) {
    inverse = VALUE_CODE;
    outAt = (((place.spanned + row / GROUP) * KV_HEADS * GROUP + head) * places + workgroup.z) * (HEAD_DIM + 4u);
    if (half == 0u && slice == 0u) {
      out[(outAt + HEAD_DIM) / 4u] = vec4<u32>(bitcast<u32>(most), bitcast<u32>(total), 0u, 0u);
    }
  }
  outAt += slice * 16u + half * 8u;
  let piece = own + mine + half * 2u;
  if (OUT_F16 && kvHead == 0u && half == 0u && row % GROUP == 0u) {
    out[params.factorsAt + place.token + row / GROUP] = vec4<u32>(bitcast<u32>(1.0), 0u, 0u, 0u);
  }
  storePiece(&sum0, own, piece, outAt, inverse);
  if (PIECES > 1u) { storePiece(&sum1, own, piece, outAt + 16u, inverse); }
  if (PIECES > 2u) { storePiece(&sum2, own, piece, outAt + 32u, inverse); }
  if (PIECES > 3u) { storePiece(&sum3, own, piece, outAt + 48u, inverse); }
  if (PIECES > 4u) { storePiece(&sum4, own, piece, outAt + 64u, inverse); }
  if (PIECES > 5u) { storePiece(&sum5, own, piece, outAt + 80u, inverse); }
  if (PIECES > 6u) { storePiece(&sum6, own, piece, outAt + 96u, inverse); }
  if (PIECES > 7u) { storePiece(&sum7, own, piece, outAt + 112u, inverse); }
}

// A piece of O by a factor for each row: through memory, since elements of matrices cannot be reached.
fn shrinkPiece(sum: ptr<function, Result>, own: u32, at: u32, factor: f32) {
  subgroupMatrixStore<row_major>(&scores, own, *sum, SCORE_STRIDE);
  workgroupBarrier();
  scores[at] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[at]) * factor);
  scores[at + 1u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[at + 1u]) * factor);
  workgroupBarrier();
  *sum = subgroupMatrixLoad<Result, row_major>(&scores, own, SCORE_STRIDE);
  workgroupBarrier();
}

// Eight dims of a row of a piece of O to the output. Rows past the end hold copies of the last one: they write the same.
fn storePiece(sum: ptr<function, Result>, own: u32, at: u32, place: u32, inverse: f32) {
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores, own, *sum, SCORE_STRIDE);
  workgroupBarrier();
  let a = bitcast<vec4<f32>>(scores[at]) * inverse;
  let b = bitcast<vec4<f32>>(scores[at + 1u]) * inverse;
  if (OUT_F16) {
    out[place / 8u] = halvesOf(a, b);
  } else {
    out[place / 4u] = bitcast<vec4<u32>>(a);
    out[place / 4u + 1u] = bitcast<vec4<u32>>(b);
  }
}

fn queryPiece(rowBlock: u32, piece: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&tile, rowBlock * 16u * KEY_STRIDE + piece * 2u, KEY_STRIDE);
}

// 16 dims of 16 tokens' keys, and of values.
fn addKeys(product: ptr<function, Result>, query: Left, s: u32, piece: u32) {
  let right = subgroupMatrixLoad<Right, col_major>(&tile, s * 16u * KEY_STRIDE + piece * 2u, KEY_STRIDE);
  *product = subgroupMatrixMultiplyAccumulate(query, right, *product);
}

fn addValues(sum: ptr<function, Result>, weights: Left, s: u32, piece: u32) {
  if (CODED) {
    let right = subgroupMatrixLoad<Right, col_major>(&tile, VALUES_AT + piece * 16u * VALUE_STRIDE + s * 2u, VALUE_STRIDE);
    *sum = subgroupMatrixMultiplyAccumulate(weights, right, *sum);
  } else {
    let right = subgroupMatrixLoad<Right, row_major>(&tile, VALUES_AT + s * 16u * VALUE_STRIDE + piece * 2u, VALUE_STRIDE);
    *sum = subgroupMatrixMultiplyAccumulate(weights, right, *sum);
  }
}

// 2^(score * unit - most) of a lane's columns as f16; gives their sum. Hidden scores weigh nothing, whatever the maximum. Weights are
// at most 2^HEADROOM; those against a maximum that has grown are written again before they are read.
fn storeWeights(mineScores: array<vec4<f32>, TOKENS / 8u>, unit: f32, most: f32, at: u32) -> f32 {
  var total = 0.0;
  let units = vec4<f32>(unit);
  let offsets = vec4<f32>(-most);
  for (var i = 0u; i < TOKENS / 16u; i++) {
    let a = select(vec4<f32>(0.0), exp2(fma(mineScores[i * 2u], units, offsets)), mineScores[i * 2u] > vec4<f32>(HIDDEN_SCORE));
    let b = select(vec4<f32>(0.0), exp2(fma(mineScores[i * 2u + 1u], units, offsets)), mineScores[i * 2u + 1u] > vec4<f32>(HIDDEN_SCORE));
    total += dot(a + b, vec4<f32>(1.0));
    scores[at + i] = smallHalvesOf(a, b);
  }
  return total;
}

// Where a row's query begins.
fn queryAt(token: u32, kvHead: u32, row: u32) -> u32 {
  return ((token + row / GROUP) * KV_HEADS * GROUP + kvHead * GROUP + row % GROUP) * (HEAD_DIM / 4u);
}

// What a row's scaled query is divided by to be f16; its two lanes look at half of it each.
fn queryFactor(token: u32, kvHead: u32, row: u32, half: u32) -> f32 {
  var largest = vec4<f32>(0.0);
  for (var i = 0u; i < HEAD_DIM / 8u; i++) {
    largest = max(largest, abs(queries[queryAt(token, kvHead, row) + half * (HEAD_DIM / 8u) + i]));
  }
  let most = max(max(largest.x, largest.y), max(largest.z, largest.w)) * params.scale * KEY_CODE;
  return factorOf(bitcast<u32>(max(most, subgroupShuffleXor(most, 1u))));
}

// Eight dims of a row's query as f16, scaled; int4: in the order of unpacked codes.
fn storeQueries(token: u32, kvHead: u32, row: u32, chunk: u32, at: u32, back: f32) {
  let word = queryAt(token, kvHead, row) + chunk * 2u;
  var a = queries[word] * (params.scale * KEY_CODE * back);
  var b = queries[word + 1u] * (params.scale * KEY_CODE * back);
  if (CODED) {
    a = a.xzyw;
    b = b.xzyw;
  }
  tile[at + chunk] = halvesOf(a, b);
}
