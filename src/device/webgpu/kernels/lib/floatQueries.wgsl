// Queries of attendDecodeFloat, and their products with codes. Queries are multiplied by the score's scale (and by the scales of a
// page if keys are scaled by channel), arranged for floatCodes.wgsl, and stored in `asked` and `rests`. The kernel declares these and
// its values.

// Stores queries times the score's scale at `at`: `dims` dims from firstDim on. Each thread does four dims of a head's group and the
// four that are 16 further.
fn arrangeQueries(firstDim: u32, at: u32, dims: u32, groupHead: u32, firstHead: u32, local: u32) {
  for (var item = local; item < (dims + 31u) / 32u * HEADS * 4u; item += WORKGROUP) {
    let eight = queryAt(firstDim, dims, item, groupHead, firstHead);
    place(at * 4u + item, eight[0], eight[1], dot(eight[0], vec4<f32>(1.0)) + dot(eight[1], vec4<f32>(1.0)));
  }
}

// The same, times the scales of a page's channels.
fn foldQueries(page: u32, block: u32, groupHead: u32, firstHead: u32, local: u32) {
  for (var item = local; item < KEY_GROUPS * HEADS * 4u; item += WORKGROUP) {
    let eight = queryAt(0u, KEY_DIM, item, groupHead, firstHead);
    let d = item / (HEADS * 4u) * 32u + item % 4u * 4u;
    let low = channelRanges(block, d);
    let high = channelRanges(block, d + 16u);
    place(page * KEY_GROUPS * HEADS * 4u + item, eight[0] * low[0], eight[1] * high[0], dot(eight[0], low[1]) + dot(eight[1], high[1]));
  }
}

// item: [group][head][w]
fn queryAt(firstDim: u32, dims: u32, item: u32, groupHead: u32, firstHead: u32) -> array<vec4<f32>, 2> {
  let d = item / (HEADS * 4u) * 32u + item % 4u * 4u;
  let h = groupHead + min(firstHead + item / 4u % HEADS, GROUP - 1u);
  let at = (h * (TURNED + HEAD_DIM) + firstDim + d) / 4u;
  var high = vec4<f32>();
  if (d + 16u < dims) {
    high = queries[at + 4u] * params.scale;
  }
  return array<vec4<f32>, 2>(queries[at] * params.scale, high);
}

fn place(at: u32, low: vec4<f32>, high: vec4<f32>, rest: f32) {
  asked[at * 2u] = arranged(low.xy, high.xy);
  asked[at * 2u + 1u] = arranged(low.zw, high.zw);
  rests[at / 4u][at % 4u] = rest;
}

// For four heads: products of queries with the codes of one group of a token.
fn queryDots(words: vec4<u32>, at: u32, first: u32) -> vec4<f32> {
  var sums = vec4<f32>();
  let firstAt = (at + first) * 8u;
  sums += queryWord(words.x, firstAt);
  sums += queryWord(words.y, firstAt + 2u);
  sums += queryWord(words.z, firstAt + 4u);
  sums += queryWord(words.w, firstAt + 6u);
  return sums;
}

fn queryWord(word: u32, at: u32) -> vec4<f32> {
  let a = nibbleFloats(word, 0.0);
  let b = nibbleFloats(word >> 16u, 0.0);
  // If there are fewer than four heads, the others are the next group's; their results are never read.
  let most = ASKED * 8u - 2u;
  let second = min(at + 8u, most);
  let third = min(at + 16u, most);
  let fourth = min(at + 24u, most);
  return vec4<f32>(
    dot(a, asked[at]) + dot(b, asked[at + 1u]),
    dot(a, asked[second]) + dot(b, asked[second + 1u]),
    dot(a, asked[third]) + dot(b, asked[third + 1u]),
    dot(a, asked[fourth]) + dot(b, asked[fourth + 1u]));
}

fn restsOf(at: u32, first: u32) -> vec4<f32> {
  var sums = vec4<f32>();
  for (var c = 0u; c < 4u; c++) {
    if (first + c < HEADS) {
      sums[c] = dot(rests[at + first + c], vec4<f32>(1.0));
    }
  }
  return sums;
}
