// Quantizes attendDecode's queries to int8, once for a span, or for each page of a tile if keys have a scale for each channel. The
// kernel declares the constants, `params`, `queries`, `tile` and the workgroup's arrays of queries; it appends dots, batch and
// channels.

// The most times that a thread quantizes four dims.
const PASSES: u32 = (HEADS * GROUPS * 8u + WORKGROUP - 1u) / WORKGROUP;
const QUERY_DIM: u32 = TURNED + HEAD_DIM;
// Dims that the cache holds of a key.
const KEY_DIM: u32 = select(HEAD_DIM, TURNED, TURNED > 0u);
const KEY_GROUPS: u32 = (KEY_DIM + 31u) / 32u;
// Where the part of queries that is multiplied with values begins.
const VALUE_CODES: u32 = HEADS * KEY_GROUPS * QUERY_PAGES * 2u;
const VALUE_SCALES: u32 = select(HEADS * KEY_GROUPS, 0u, CHANNEL);
// Subtracted from keys' codes, to centre them.
const KEY_MIDDLE: f32 = f32((1u << KEY_BITS) - 1u) / 2.0;
// A dot product with this sums four codes.
const ONES: u32 = 0x01010101u;

// The part of queries that is multiplied with keys, or with values.
struct QueryPart {
  firstDim: u32,
  dims: u32,
  groups: u32,
  // Offsets in `queryCodes` and `queryScales`.
  codesAt: u32,
  scalesAt: u32,
  // Subtracted from their codes, to centre them.
  middle: f32,
}

// Quantizes what stays the same for a span: queries, unless each page has its own scales, and the part that is multiplied with values.
fn quantizeQueries(groupHead: u32, firstHead: u32, local: u32) {
  if (!CHANNEL) {
    quantizePart(QueryPart(0u, KEY_DIM, KEY_GROUPS, 0u, 0u, KEY_MIDDLE), groupHead, firstHead, local);
  }
  if (TURNED > 0u) {
    let part = QueryPart(TURNED, HEAD_DIM, GROUPS, VALUE_CODES, VALUE_SCALES, VALUE_MIDDLE);
    quantizePart(part, groupHead, firstHead, local);
  }
}

// To int8 with one scale for each 32 dims of a head, multiplied by the score's scale. First each thread does four dims, then a group.
fn quantizePart(part: QueryPart, groupHead: u32, firstHead: u32, local: u32) {
  let groups = part.groups;
  let items = HEADS * groups * 8u;
  var fours = array<vec4<f32>, PASSES>();
  for (var nth = 0u; nth < PASSES; nth++) {
    let item = local + nth * WORKGROUP;
    let d = item % (groups * 8u) * 4u;
    if (item < items && d < part.dims) {
      let h = groupHead + min(firstHead + item / (groups * 8u), GROUP - 1u);
      fours[nth] = queries[(h * QUERY_DIM + part.firstDim + d) / 4u];
    }
    if (item < items) {
      let two = max(abs(fours[nth].xy), abs(fours[nth].zw));
      weightScales[item] = max(two.x, two.y);
    }
  }
  workgroupBarrier();
  var largest = array<f32, PASSES>();
  for (var nth = 0u; nth < PASSES; nth++) {
    let item = min(local + nth * WORKGROUP, items - 1u);
    for (var i = 0u; i < 8u; i++) {
      largest[nth] = max(largest[nth], weightScales[item / 8u * 8u + i]);
    }
  }
  workgroupBarrier();
  // `tile` is free until the first scores; it has a word for each four dims.
  for (var nth = 0u; nth < PASSES; nth++) {
    let item = local + nth * WORKGROUP;
    if (item < items) {
      let inverse = select(0.0, 127.0 / largest[nth], largest[nth] > 1e-30);
      tile[item] = vec4<u32>(pack4xI8(vec4<i32>(round(fours[nth] * inverse))));
      weightScales[item] = dot(fours[nth], vec4<f32>(1.0));
    }
  }
  workgroupBarrier();
  for (var nth = 0u; nth < PASSES; nth++) {
    let item = local + nth * WORKGROUP;
    if (item < items && item % 8u == 0u) {
      var exact = 0.0;
      for (var i = 0u; i < 8u; i++) {
        exact += weightScales[item + i];
      }
      let low = vec4<u32>(tile[item].x, tile[item + 1u].x, tile[item + 2u].x, tile[item + 3u].x);
      let high = vec4<u32>(tile[item + 4u].x, tile[item + 5u].x, tile[item + 6u].x, tile[item + 7u].x);
      let coded = dotSigned(low, vec4<u32>(ONES)) + dotSigned(high, vec4<u32>(ONES));
      let unit = largest[nth] / 127.0 * params.scale;
      exact *= params.scale;
      queryCodes[part.codesAt + item / 4u] = low;
      queryCodes[part.codesAt + item / 4u + 1u] = high;
      queryScales[part.scalesAt + item / 8u] = vec4<f32>(unit, part.middle * (exact - unit * f32(coded)), exact, 0.0);
    }
  }
  workgroupBarrier();
}

// Queries for each page of a tile: times the scales of the page's channels, as int8 with one scale for each 32 dims of a head,
// multiplied by the score's scale. Each thread does one group of one head for one page.
fn foldQueries(table: u32, kvHead: u32, first: u32, groupHead: u32, firstHead: u32, local: u32) {
  // After this barrier, no thread reads those of the last tile.
  workgroupBarrier();
  for (var item = local; item < HEADS * KEY_GROUPS * BLOCKS; item += WORKGROUP) {
    let page = item % BLOCKS;
    let group = item / BLOCKS % KEY_GROUPS;
    let h = groupHead + min(firstHead + item / (BLOCKS * KEY_GROUPS), GROUP - 1u);
    let at = blockOf(table, first / 32u + page, params.kvHeads, kvHead) * KEY_WORDS + KEY_SCALES_AT;
    var fours = array<vec4<f32>, 8>();
    var largestFour = vec4<f32>(0.0);
    var sums = vec4<f32>(0.0);
    var zeros = vec4<f32>(0.0);
    for (var i = 0u; i < 8u; i++) {
      let d = group * 32u + i * 4u;
      if (d < KEY_DIM) {
        let four = queries[(h * QUERY_DIM + d) / 4u];
        let ranges = channelRanges(at, d);
        fours[i] = four * ranges[0];
        largestFour = max(largestFour, abs(fours[i]));
        sums += fours[i];
        zeros += four * ranges[1];
      }
    }
    let largest = max(max(largestFour.x, largestFour.y), max(largestFour.z, largestFour.w));
    let inverse = select(0.0, 127.0 / largest, largest > 1e-30);
    var words = array<u32, 8>();
    for (var i = 0u; i < 8u; i++) {
      words[i] = pack4xI8(vec4<i32>(round(fours[i] * inverse)));
    }
    let low = vec4<u32>(words[0], words[1], words[2], words[3]);
    let high = vec4<u32>(words[4], words[5], words[6], words[7]);
    let coded = dotSigned(low, vec4<u32>(ONES)) + dotSigned(high, vec4<u32>(ONES));
    let unit = largest / 127.0;
    let offset = KEY_MIDDLE * (dot(sums, vec4<f32>(1.0)) - unit * f32(coded)) + dot(zeros, vec4<f32>(1.0));
    queryCodes[item * 2u] = low;
    queryCodes[item * 2u + 1u] = high;
    pageScales[item] = vec2<f32>(unit, offset) * params.scale;
  }
  workgroupBarrier();
}
