// A rung that does not ship yet: attendPromptMatrix with keys and values in places of their own, for heads of 128 without soft cap
// and sinks. Its blocks `// each` and constants are those of src/device/webgpu/kernels. See README.md.
diagnostic(off, chromium.subgroup_matrix_uniformity);
// lib: step, batch, tiles, spans, promptWork, nibbles, planes, channelFours
// lib: narrow
// <values>
const KV_HEADS: u32 = 2u;
// Query heads of a KV head.
const GROUP: u32 = 2u;
const HEAD_DIM: u32 = 64u;
// 0: keys are numbers of their own. Else so many that turn by position, which are held as keys, and then the value.
const TURNED: u32 = 0u;
// How a cache packs keys and values (kv.ts): int4, rq4, or keys by channel, with a scale and a zero for each dim of a page. Lengths
// and places are in words of 16 bytes, of one head's page.
const INT4: bool = true;
const RQ4: bool = false;
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
const CODED: bool = INT4 || RQ4;
const SUBGROUPS: u32 = ROW_BLOCKS;
const WORKGROUP: u32 = SUBGROUPS * SUBGROUP;
const ROWS: u32 = ROW_BLOCKS * 16u;
const GROUPS: u32 = (HEAD_DIM + 31u) / 32u;
const KEY_GROUPS: u32 = GROUPS;
const CHUNKS: u32 = HEAD_DIM / 8u;
const MASKED_SCORE: f32 = -1e30;
const TOKEN_SCALES: bool = RQ4 && !CHANNEL;
const KEY_CODE: f32 = select(1.0, 0.5, TOKEN_SCALES);
const VALUE_CODE: f32 = select(1.0, 0.5, RQ4);
const MOST_CODE: f16 = f16((1u << VALUE_BITS) - 1u);
const MOST_ADDED: f32 = 4096.0;
// Rows of 8 halves: keys [16 tokens][dims], values [64 dims][tokens] or [tokens][64 dims], scores [16][16 tokens].
const KS: u32 = CHUNKS + 1u;
const VS: u32 = select(CHUNKS + 1u, 5u, CODED);
const SS: u32 = 5u;
const KEY_TILE: u32 = 32u * KS;
const VALUE_TILE: u32 = select(32u, HEAD_DIM, CODED) * VS;
// What attendPrompt is told, with matrices and without.
struct Params {
  // Where the pool's tables begin in `batch`.
  table: u32,
  // 0: all positions.
  window: u32,
  // With log2(e), since powers are of 2; with a soft cap instead scale / cap, and cap * log2(e).
  scale: f32,
  cap: f32,
  // f16: the item of `out` where the rows' factors begin.
  factorsAt: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;

@group(0) @binding(2) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> batch: array<u32>;
@group(0) @binding(7) var<storage, read> sinks: array<f32>;
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;
var<workgroup> keyTile: array<vec4<u32>, KEY_TILE>;
var<workgroup> valueTile: array<vec4<u32>, VALUE_TILE>;
var<workgroup> scores: array<array<vec4<u32>, 16u * SS>, SUBGROUPS>;
var<workgroup> grown: atomic<u32>;

var<private> keyWord: vec4<u32>;
// each E 0..3
var<private> kw{E}: vec4<u32>;
var<private> vw{E}: vec4<u32>;
// end
var<private> keyMore: vec4<u32>;
var<private> keyScale: u32;
var<private> valueWord: vec4<u32>;
var<private> valueMore: vec4<u32>;
var<private> lowScale: vec4<u32>;
var<private> highScale: vec4<u32>;
var<private> channelWord: vec4<u32>;

// A column of weights -> the token; a column of scores -> the column of weights.
fn tokenOf(column: u32) -> u32 {
  return column / 8u * 4u + swapMiddle(column & 3u) + (column & 4u) * 4u;
}
fn tokenOfScore(c: u32) -> u32 {
  return tokenOf((c & 19u) | ((c & 4u) << 1u) | ((c & 8u) >> 1u));
}
fn pageAt(table: u32, kvHead: u32, position: u32) -> u32 {
  return blockOf(table, position / 32u, KV_HEADS, kvHead);
}
fn loadKeys(page: u32, local: u32) {
  let block = page * KEY_WORDS;
  let token = tokenOfScore(local % 32u);
  if (!CODED) {
    // each E 0..3
    kw{E} = keys[block + (local / 32u + {4 * E}u) * 32u + token];
    // end
    return;
  }
  let g = local / 32u;
  keyWord = keys[block + g * 32u + token];
  if (INT4) { keyScale = keys[block + KEY_SCALES_AT + g * 8u + token / 4u][token % 4u]; }
  if (TOKEN_SCALES) { keyScale = keys[block + KEY_SCALES_AT + token / 8u][token % 8u / 2u] >> (token % 2u * 16u); }
  if (CHANNEL) { channelWord = keys[block + KEY_SCALES_AT + min(local, KEY_GROUPS * 4u - 1u)]; }
}
fn loadValues(page: u32, local: u32) {
  let block = page * VALUE_WORDS;
  if (!CODED) {
    // each E 0..3
    vw{E} = values[block + tokenOf(local / 16u + {8 * E}u) * CHUNKS + local % 16u];
    // end
    return;
  }
  let word = local % 32u / 8u;
  let d = local / 32u * 32u + local % 8u;
  valueWord = vec4<u32>(values[block + d][word], values[block + d + 8u][word], values[block + d + 16u][word], values[block + d + 24u][word]);
  if (RQ4) {
    let first = values[block + VALUE_SCALES_AT + word / 2u];
    let second = values[block + VALUE_SCALES_AT + word / 2u + 2u];
    lowScale = select(vec4<u32>(first.xy, second.xy), vec4<u32>(first.zw, second.zw), word % 2u == 1u);
  } else {
    lowScale = values[block + VALUE_SCALES_AT + local / 32u * 8u + word];
    highScale = values[block + VALUE_SCALES_AT + local / 32u * 8u + word + 4u];
  }
}
fn storeChannels(local: u32) {
  if (CHANNEL && local < KEY_GROUPS * 4u) {
    storeChannel(local * 2u, channelFour(channelWord.x, channelWord.y));
    storeChannel(local * 2u + 1u, channelFour(channelWord.z, channelWord.w));
  }
}
fn storeChannel(four: u32, ranges: vec4<u32>) {
  scores[four / 16u][four % 16u * SS + 4u] = ranges;
}
fn channelAt(four: u32) -> vec4<u32> {
  return scores[four / 16u][four % 16u * SS + 4u];
}
fn code(word: u32, shift: u32, scale: vec2<f16>, zero: vec2<f16>) -> u32 {
  if (RQ4) {
    let place = select(word >> (max(shift, 1u) - 1u), word << 1u, shift == 0u);
    return bitcast<u32>(bitcast<vec2<f16>>(centre(place, MOST_CODE)) * scale);
  }
  return expand(word >> shift, scale, zero);
}
fn fourCodes(a: u32, b: u32, shift: u32, scale: vec2<f16>, zero: vec2<f16>) -> vec4<u32> {
  return vec4<u32>(
    code(a, shift, scale, zero), code(a, shift + 8u, scale, zero), code(b, shift, scale, zero), code(b, shift + 8u, scale, zero));
}
fn expandKeys(local: u32) {
  let row = local % 32u;
  if (!CODED) {
    // each E 0..3
    keyTile[row * KS + local / 32u + {4 * E}u] = kw{E};
    // end
    return;
  }
  let g = local / 32u;
  let place = row * KS + g * 4u;
  if (CHANNEL) {
    let four = g * 8u;
    let high = keyWord >> vec4<u32>(4u);
    keyTile[place] = vec4<u32>(channelHalf(keyWord.x, channelAt(four)), channelHalf(keyWord.y, channelAt(four + 1u)));
    keyTile[place + 1u] = vec4<u32>(channelHalf(keyWord.z, channelAt(four + 2u)), channelHalf(keyWord.w, channelAt(four + 3u)));
    keyTile[place + 2u] = vec4<u32>(channelHalf(high.x, channelAt(four + 4u)), channelHalf(high.y, channelAt(four + 5u)));
    keyTile[place + 3u] = vec4<u32>(channelHalf(high.z, channelAt(four + 6u)), channelHalf(high.w, channelAt(four + 7u)));
    return;
  }
  let scale = bitcast<vec2<f16>>(keyScale).xx;
  let zero = bitcast<vec2<f16>>(keyScale).yy;
  keyTile[place] = fourCodes(keyWord.x, keyWord.y, 0u, scale, zero);
  keyTile[place + 1u] = fourCodes(keyWord.z, keyWord.w, 0u, scale, zero);
  keyTile[place + 2u] = fourCodes(keyWord.x, keyWord.y, 4u, scale, zero);
  keyTile[place + 3u] = fourCodes(keyWord.z, keyWord.w, 4u, scale, zero);
}
fn expandValues(first: u32, last: u32, local: u32) {
  if (!CODED) {
    // each E 0..3
    valueTile[(local / 16u + {8 * E}u) * VS + local % 16u] = select(vec4<u32>(0u), vw{E}, first + tokenOf(local / 16u + {8 * E}u) <= last);
    // end
    return;
  }
  let word = local % 32u / 8u;
  var low = lowScale;
  var high = highScale;
  if (RQ4) {
    low = vec4<u32>(lowScale.x, lowScale.x >> 16u, lowScale.y, lowScale.y >> 16u);
    high = vec4<u32>(lowScale.z, lowScale.z >> 16u, lowScale.w, lowScale.w >> 16u);
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
  let at = (local / 32u * 32u + local % 8u) * VS + word;
  // each J 0..3
  valueTile[at + {8 * J}u * VS] = vec4<u32>(
    code(valueWord[{J}], 0u, s0, z0), code(valueWord[{J}], 8u, s1, z1), code(valueWord[{J}], 4u, s2, z2), code(valueWord[{J}], 12u, s3, z3));
  // end
}

fn queryAt(token: u32, kvHead: u32, row: u32) -> u32 {
  return ((token + row / GROUP) * KV_HEADS * GROUP + kvHead * GROUP + row % GROUP) * (CHUNKS * 2u);
}
fn queryFactor(token: u32, kvHead: u32, row: u32, half: u32) -> f32 {
  var largest = vec4<f32>(0.0);
  for (var i = 0u; i < CHUNKS; i++) {
    largest = max(largest, abs(queries[queryAt(token, kvHead, row) + half * CHUNKS + i]));
  }
  let own = max(max(largest.x, largest.y), max(largest.z, largest.w)) * params.scale * KEY_CODE;
  return factorOf(bitcast<u32>(max(own, subgroupShuffleXor(own, 16u))));
}
fn stageQueries(work: PromptWork, kvHead: u32, firstRow: u32, local: u32) {
  for (var i = local; i < 32u * CHUNKS; i += WORKGROUP) {
    let staged = firstRow + i / CHUNKS;
    let source = min(work.run.firstRow + staged, work.rows - 1u);
    let back = bitcast<f32>(scores[staged / 16u][staged % 16u].x);
    let word = queryAt(work.run.token, kvHead, source) + i % CHUNKS * 2u;
    let factor = params.scale * KEY_CODE * back;
    var a = queries[word] * factor;
    var b = queries[word + 1u] * factor;
    if (CODED) {
      a = a.xzyw;
      b = b.xzyw;
    }
    keyTile[i / CHUNKS * KS + i % CHUNKS] = halvesOf(a, b);
  }
}
fn sees4(query: u32, block: u32, column: u32) -> vec4<bool> {
  return vec4<bool>(
    sees(query, block + tokenOf(column), params.window), sees(query, block + tokenOf(column + 1u), params.window),
    sees(query, block + tokenOf(column + 2u), params.window), sees(query, block + tokenOf(column + 3u), params.window));
}
fn powers(four: vec4<f32>, unit: f32, maxScore: f32) -> vec4<f32> {
  return exp2(fma(four, vec4<f32>(unit), vec4<f32>(-maxScore)));
}
fn seenPowers(four: vec4<f32>, unit: f32, maxScore: f32) -> vec4<f32> {
  return select(vec4<f32>(0.0), powers(four, unit, maxScore), four > vec4<f32>(MASKED_SCORE));
}
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let work = promptWorkOf(workgroup, params.table, params.window, ROWS);
  if (work.isNone) {
    return;
  }
  let kvHead = workgroup.y;
  let subgroup = local / SUBGROUP;
  let lane = local % SUBGROUP;
  let rowBlock = subgroup;
  // Two lanes a row, each with eight of the subgroup's 16 tokens.
  let half = lane / 16u;
  let mine = lane % 16u * SS;
  let row = min(work.run.firstRow + rowBlock * 16u + lane % 16u, work.rows - 1u);
  let query = work.run.position + row / GROUP;
  let begin = positionAt(work.gap, work.start);
  let firstPage = pageAt(work.table, kvHead, begin);
  loadKeys(firstPage, local);
  loadValues(firstPage, local);
  var page = pageAt(work.table, kvHead, positionAt(work.gap, work.start + 32u));

  let factor = queryFactor(work.run.token, kvHead, row, half);
  let unit = factor;
  scores[rowBlock][lane % 16u] = vec4<u32>(bitcast<u32>(inverseFactor(factor)));
  workgroupBarrier();
  // each P 0..7
  var q{P}: Left;
  // end
  // each P 0..7
  var sum{P}: Result;
  // end
  for (var firstRow = 0u; firstRow < ROWS; firstRow += 32u) {
    stageQueries(work, kvHead, firstRow, local);
    workgroupBarrier();
    if (rowBlock / 2u == firstRow / 32u) {
      // each P 0..7
      q{P} = subgroupMatrixLoad<Left, row_major>(&keyTile, rowBlock % 2u * 16u * KS + {2 * P}u, KS);
      // end
    }
    workgroupBarrier();
  }
  var maxScore = MASKED_SCORE;
  var sumExp = 0.0;
  for (var i = local; i < VALUE_TILE; i += WORKGROUP) {
    valueTile[i] = vec4<u32>(0u);
  }
  if (local == 0u) {
    atomicStore(&grown, 0u);
  }
  for (var i = local; i < SUBGROUPS * 16u * SS; i += WORKGROUP) {
    scores[i / (16u * SS)][i % (16u * SS)] = vec4<u32>(0u);
  }
  workgroupBarrier();
  storeChannels(local);
  workgroupBarrier();
  var a = vec4<f32>();
  var b = vec4<f32>();
  var c = vec4<f32>();
  var d = vec4<f32>();
  var first = work.start;
  loop {
    var grows = 0u;
    loop {
      // O += P V of the tile before, beside the expansion of keys.
      {
        let low = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 0u, SS);
        let high = subgroupMatrixLoad<Left, row_major>(&scores[subgroup], 2u, SS);
        // each P 0..7
        if (CODED) {
          sum{P} = subgroupMatrixMultiplyAccumulate(low, subgroupMatrixLoad<Right, col_major>(&valueTile, {16 * P}u * VS, VS), sum{P});
          sum{P} = subgroupMatrixMultiplyAccumulate(high, subgroupMatrixLoad<Right, col_major>(&valueTile, {16 * P}u * VS + 2u, VS), sum{P});
        } else {
          sum{P} = subgroupMatrixMultiplyAccumulate(low, subgroupMatrixLoad<Right, row_major>(&valueTile, {2 * P}u, VS), sum{P});
          sum{P} = subgroupMatrixMultiplyAccumulate(high, subgroupMatrixLoad<Right, row_major>(&valueTile, 16u * VS + {2 * P}u, VS), sum{P});
        }
        // end
      }
      if (first >= work.end) {
        break;
      }
      expandKeys(local);
      loadKeys(page, local);
      workgroupBarrier();

      // S = Q K', beside the expansion of values.
      let position = positionAt(work.gap, first);
      let block = position / 32u * 32u;
      var high = Result();
      {
        var low = Result();
        // each P 0..7
        low = subgroupMatrixMultiplyAccumulate(q{P}, subgroupMatrixLoad<Right, col_major>(&keyTile, {2 * P}u, KS), low);
        high = subgroupMatrixMultiplyAccumulate(q{P}, subgroupMatrixLoad<Right, col_major>(&keyTile, 16u * KS + {2 * P}u, KS), high);
        // end
        expandValues(position, work.lastQuery, local);
        loadValues(page, local);
        subgroupMatrixStore<row_major>(&scores[subgroup], 0u, low, SS);
      }
      let nextPage = pageAt(work.table, kvHead, positionAt(work.gap, first + 64u));
      page = nextPage;
      workgroupBarrier();
      subgroupMatrixStore<row_major>(&keyTile, subgroup * 16u * SS, high, SS);
      a = bitcast<vec4<f32>>(scores[subgroup][mine + half]);
      b = bitcast<vec4<f32>>(scores[subgroup][mine + 2u + half]);
      workgroupBarrier();

      c = bitcast<vec4<f32>>(keyTile[subgroup * 16u * SS + mine + half]);
      d = bitcast<vec4<f32>>(keyTile[subgroup * 16u * SS + mine + 2u + half]);
      var added = 0.0;
      if (block + 31u <= work.firstQuery && (params.window == 0u || work.lastQuery - block < params.window)) {
        let pa = powers(a, unit, maxScore);
        let pb = powers(b, unit, maxScore);
        let pc = powers(c, unit, maxScore);
        let pd = powers(d, unit, maxScore);
        scores[subgroup][mine + half] = smallHalvesOf(pa, pb);
        scores[subgroup][mine + half + 2u] = smallHalvesOf(pc, pd);
        added = dot((pa + pb) + (pc + pd), vec4<f32>(1.0));
      } else {
        let column = half * 8u;
        a = select(vec4<f32>(MASKED_SCORE), a, sees4(query, block, column));
        b = select(vec4<f32>(MASKED_SCORE), b, sees4(query, block, column + 4u));
        c = select(vec4<f32>(MASKED_SCORE), c, sees4(query, block, column + 16u));
        d = select(vec4<f32>(MASKED_SCORE), d, sees4(query, block, column + 20u));
        let pa = seenPowers(a, unit, maxScore);
        let pb = seenPowers(b, unit, maxScore);
        let pc = seenPowers(c, unit, maxScore);
        let pd = seenPowers(d, unit, maxScore);
        scores[subgroup][mine + half] = smallHalvesOf(pa, pb);
        scores[subgroup][mine + half + 2u] = smallHalvesOf(pc, pd);
        added = dot((pa + pb) + (pc + pd), vec4<f32>(1.0));
      }
      if (added > MOST_ADDED) {
        atomicStore(&grown, 1u);
      }
      storeChannels(local);
      first += 32u;
      grows = workgroupUniformLoad(&grown);
      if (grows != 0u) {
        break;
      }
      sumExp += added;
    }
    if (grows == 0u) {
      break;
    }
    let four = max(max(a, b), max(c, d));
    var highest = max(max(four.x, four.y), max(four.z, four.w));
    highest = max(highest, subgroupShuffleXor(highest, 16u));
    if (local == 0u) {
      atomicStore(&grown, 0u);
    }
    let next = max(maxScore, highest * unit);
    let rescale = exp2(maxScore - next);
    maxScore = next;
    sumExp *= rescale;
    // each P 0..7
    subgroupMatrixStore<row_major>(&scores[subgroup], 0u, sum{P}, SS);
    workgroupBarrier();
    scores[subgroup][mine + half * 2u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[subgroup][mine + half * 2u]) * rescale);
    scores[subgroup][mine + half * 2u + 1u] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(scores[subgroup][mine + half * 2u + 1u]) * rescale);
    workgroupBarrier();
    sum{P} = subgroupMatrixLoad<Result, row_major>(&scores[subgroup], 0u, SS);
    workgroupBarrier();
    // end
    let pa = seenPowers(a, unit, maxScore);
    let pb = seenPowers(b, unit, maxScore);
    let pc = seenPowers(c, unit, maxScore);
    let pd = seenPowers(d, unit, maxScore);
    scores[subgroup][mine + half] = smallHalvesOf(pa, pb);
    scores[subgroup][mine + half + 2u] = smallHalvesOf(pc, pd);
    sumExp += dot((pa + pb) + (pc + pd), vec4<f32>(1.0));
    workgroupBarrier();
  }

  sumExp += subgroupShuffleXor(sumExp, 16u);
  let inverse = VALUE_CODE / select(sumExp, 1.0, SPANS);
  let head = kvHead * GROUP + row % GROUP;
  var outAt = ((work.run.token + row / GROUP) * KV_HEADS * GROUP + head) * HEAD_DIM;
  if (SPANS) {
    outAt = (((work.run.spanned + row / GROUP) * KV_HEADS * GROUP + head) * work.places + workgroup.z) * (HEAD_DIM + 4u);
  }
  if (half == 0u) {
    if (SPANS) {
      out[(outAt + HEAD_DIM) / 4u] = vec4<u32>(bitcast<u32>(maxScore), bitcast<u32>(sumExp), 0u, 0u);
    }
    if (OUT_F16 && kvHead == 0u && row % GROUP == 0u) {
      out[params.factorsAt + work.run.token + row / GROUP] = vec4<u32>(bitcast<u32>(1.0), 0u, 0u, 0u);
    }
  }
  // each P 0..7
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scores[subgroup], 0u, sum{P}, SS);
  workgroupBarrier();
  {
    let x = bitcast<vec4<f32>>(scores[subgroup][mine + half * 2u]) * inverse;
    let y = bitcast<vec4<f32>>(scores[subgroup][mine + half * 2u + 1u]) * inverse;
    let place = outAt + {16 * P}u + half * 8u;
    if (OUT_F16) {
      out[place / 8u] = halvesOf(x, y);
    } else {
      out[place / 4u] = bitcast<vec4<u32>>(x);
      out[place / 4u + 1u] = bitcast<vec4<u32>>(y);
    }
  }
  // end
}
