// Stores appendKv's values in a block of the cache, in its format: a word holds the codes of several tokens for one dim. The kernel
// declares the constants, `params`, the bindings and the workgroup's arrays; it appends int4, int4Rows and encode.

fn storeValues(first: u32, begin: u32, stop: u32, kvHead: u32, block: u32, local: u32) {
  let base = params.valuesAt + kvHead * HEAD_DIM;
  if (NORM_VALUES) {
    findValueFactors(first, begin, stop, base, local);
  }
  // A few tokens are done by rows of threads, which read each value once; many tokens, as in prompts, with one thread per token and
  // group.
  if (RQ4 || (INT4 && (SPLITS > 1u || stop - begin <= ROWS))) {
    storeValueRows(first, begin, stop, block, base, local);
    return;
  }
  if (!INT4) {
    for (var i = begin * HEAD_DIM / 2u + local; i < stop * HEAD_DIM / 2u; i += SIZE) {
      let token = i / (HEAD_DIM / 2u);
      let at = base + (first + token) * params.valuesStride + 2u * (i % (HEAD_DIM / 2u));
      values[block + i] = halfBits(valueAt(at, token)) | (halfBits(valueAt(at + 1u, token)) << 16u);
    }
    return;
  }
  for (var i = begin * GROUPS + local; i < stop * GROUPS; i += SIZE) {
    let token = i / GROUPS;
    let group = i % GROUPS;
    let row = base + (first + token) * params.valuesStride;
    let end = row + min(group * 32u + 32u, HEAD_DIM);
    var least = valueAt(row + group * 32u, token);
    var most = least;
    for (var at = row + group * 32u + 1u; at < end; at++) {
      least = min(least, valueAt(at, token));
      most = max(most, valueAt(at, token));
    }
    let range = rangeOf(least, most);
    values[block + SCALES_AT * 4u + group * 32u + token] = range.bits;
    vectors[i] = range.zero;
    vectors[512u + i] = range.inverse;
  }
  workgroupBarrier();
  for (var i = local; i < HEAD_DIM * 4u; i += SIZE) {
    let d = i % HEAD_DIM;
    let word = i / HEAD_DIM;
    var codes = 0u;
    var mask = 0u;
    for (var c = 0u; c < 8u; c++) {
      let token = word * 4u + c % 4u + (c / 4u) * 16u;
      if (token >= begin && token < stop) {
        let shift = (c % 4u) * 8u + (c / 4u) * 4u;
        let x = valueAt(base + (first + token) * params.valuesStride + d, token);
        let known = token * GROUPS + d / 32u;
        codes |= code(x, vectors[known], vectors[512u + known]) << shift;
        mask |= 15u << shift;
      }
    }
    if (mask != 0u) {
      let at = block + d * 4u + word;
      values[at] = (values[at] & ~mask) | codes;
    }
  }
}

// A token's value, at this offset of the input.
fn valueAt(at: u32, token: u32) -> f32 {
  if (NORM_VALUES) {
    return summedValue(at) * valueFactors[token];
  }
  return summedValue(at);
}

fn summedValue(at: u32) -> f32 {
  var x = valuesIn[at];
  for (var split = 1u; split < SPLITS; split++) {
    x += valuesIn[at + split * params.splitStride];
  }
  return x;
}

// 1 / the root mean square of each token's vector.
fn findValueFactors(first: u32, begin: u32, stop: u32, base: u32, local: u32) {
  let row = local / 32u;
  for (var start = begin; start < stop; start += ROWS) {
    let token = start + row;
    var sum = 0.0;
    if (token < stop) {
      for (var d = local % 32u; d < HEAD_DIM; d += 32u) {
        let x = summedValue(base + (first + token) * params.valuesStride + d);
        sum += x * x;
      }
    }
    sums[local] = sum;
    workgroupBarrier();
    if (local % 32u == 0u && token < stop) {
      var total = 0.0;
      for (var i = 0u; i < 32u; i++) {
        total += sums[local + i];
      }
      valueFactors[token] = 1.0 / sqrt(total / f32(HEAD_DIM) + params.valueEpsilon);
    }
    workgroupBarrier();
  }
}

const DIMS_EACH: u32 = (HEAD_DIM + SIZE - 1u) / SIZE;

// Each thread gathers the codes of its dims from the rows, four words each, and writes them once.
fn storeValueRows(first: u32, begin: u32, stop: u32, block: u32, base: u32, local: u32) {
  let row = local / 32u;
  let lane = local % 32u;
  let mine = row * HEAD_DIM;
  // The word of the first token, which may have earlier tokens' codes, is loaded together with the vectors.
  let firstWord = begin % 16u / 4u;
  let known = values[block + min(local, HEAD_DIM - 1u) * 4u + firstWord];
  var packed = array<vec4<u32>, DIMS_EACH>();
  var masks = vec4<u32>(0u);
  for (var start = begin; start < stop; start += ROWS) {
    // Rows past the end repeat the last token.
    let token = min(start + row, stop - 1u);
    for (var d = lane; d < HEAD_DIM; d += 32u) {
      vectors[mine + d] = valueAt(base + (first + token) * params.valuesStride + d, token);
    }
    if (RQ4) {
      let scale = encodeRow(false, mine, row, lane);
      if (lane == 0u) {
        scales[token] = scale;
      }
    } else {
      encodeInt4(block, token, mine, row, lane);
    }
    for (var t = start; t < min(start + ROWS, stop); t++) {
      let shift = t % 4u * 8u + t / 16u * 4u;
      let isWord = vec4<u32>(t % 16u / 4u) == vec4<u32>(0u, 1u, 2u, 3u);
      masks |= select(vec4<u32>(0u), vec4<u32>(15u << shift), isWord);
      for (var i = 0u; i < DIMS_EACH; i++) {
        let d = min(local + i * SIZE, HEAD_DIM - 1u);
        packed[i] |= select(vec4<u32>(0u), vec4<u32>(u32(vectors[(t - start) * HEAD_DIM + d]) << shift), isWord);
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < DIMS_EACH; i++) {
    let d = local + i * SIZE;
    if (d < HEAD_DIM) {
      for (var word = 0u; word < 4u; word++) {
        if (masks[word] != 0u) {
          let at = block + d * 4u + word;
          var held = known;
          if (i > 0u || word != firstWord) {
            held = values[at];
          }
          values[at] = (held & ~masks[word]) | packed[i][word];
        }
      }
    }
  }
  if (RQ4 && local < 16u) {
    let at = block + SCALES_AT * 4u + local;
    values[at] = withScales(values[at], begin, stop, local);
  }
}

// Replaces a row's vector by its codes.
fn encodeInt4(block: u32, token: u32, mine: u32, row: u32, lane: u32) {
  workgroupBarrier();
  findEnds(mine, row, lane, HEAD_DIM);
  for (var i = lane; i < WORDS; i += 32u) {
    let range = wordRange(row, i);
    let at = mine + firstOf(i);
    for (var c = 0u; c < 4u; c++) {
      vectors[at + c] = f32(code(vectors[at + c], range.zero, range.inverse));
      if (isWhole(i, HEAD_DIM)) {
        vectors[at + 16u + c] = f32(code(vectors[at + 16u + c], range.zero, range.inverse));
      }
    }
    if (i % 4u == 0u) {
      values[block + SCALES_AT * 4u + i * 8u + token] = range.bits;
    }
  }
  workgroupBarrier();
}
