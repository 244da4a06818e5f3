// Stores rows of values, which a kernel computes one by one, in the form that the next operation reads. A thread stores one value
// (f32) or four (q8). For f16 a workgroup stores a row: first with a factor of 1, which is nearly always right, and otherwise again.
// The kernel declares `fn valueAt(row, col) -> f32`, `out: array<u32>`, OUT_FORM and WORKGROUP, and appends q8, q8Threads, narrow and
// rowFactor.

// factorsAt: for f16, the word of `out` where the rows' factors begin.
fn storeFormed(workgroup: u32, lane: u32, rows: u32, cols: u32, factorsAt: u32) {
  let unit = workgroup * WORKGROUP + lane;
  if (OUT_FORM == 0u) {
    if (unit < rows * cols) {
      out[unit] = bitcast<u32>(valueAt(unit / cols, unit % cols));
    }
  } else if (OUT_FORM == 1u) {
    if (workgroup < rows) {
      storeHalfRow(workgroup, cols, factorsAt, lane);
    }
  } else {
    let fours = cols / 4u;
    let row = unit / fours;
    let col = unit % fours * 4u;
    let isInside = row < rows;
    var values = vec4<f32>();
    if (isInside) {
      values = vec4<f32>(valueAt(row, col), valueAt(row, col + 1u), valueAt(row, col + 2u), valueAt(row, col + 3u));
    }
    let packed = q8OfThreads(values, lane);
    if (isInside && lane % 8u == 0u) {
      let groups = cols / 32u;
      let first = 3u * row * groups + col / 32u;
      storeWords(4u * first, packed.low);
      storeWords(4u * (first + groups), packed.high);
      storeWords(4u * (first + 2u * groups), packed.scales);
    }
  }
}

fn storeHalfRow(row: u32, cols: u32, factorsAt: u32, lane: u32) {
  let first = row * cols / 2u;
  var largest = 0.0;
  for (var pair = lane; pair < cols / 2u; pair += WORKGROUP) {
    let two = vec2<f32>(valueAt(row, 2u * pair), valueAt(row, 2u * pair + 1u));
    largest = max(largest, max(abs(two.x), abs(two.y)));
    out[first + pair] = halfPair(two);
  }
  let factor = rowFactor(largest, lane);
  if (factor != 1.0) {
    let inverse = inverseFactor(factor);
    for (var pair = lane; pair < cols / 2u; pair += WORKGROUP) {
      out[first + pair] = halfPair(inverse * vec2<f32>(valueAt(row, 2u * pair), valueAt(row, 2u * pair + 1u)));
    }
  }
  if (lane == 0u) {
    out[factorsAt + row * 4u] = bitcast<u32>(factor);
  }
}

// The index of a column in a row whose columns come in runs of `size`, which begin `stride` apart. size 0: one run.
fn placed(col: u32, size: u32, stride: u32) -> u32 {
  return select(col / max(size, 1u) * stride + col % max(size, 1u), col, size == 0u);
}

fn storeWords(at: u32, words: vec4<u32>) {
  for (var i = 0u; i < 4u; i++) {
    out[at + i] = words[i];
  }
}
