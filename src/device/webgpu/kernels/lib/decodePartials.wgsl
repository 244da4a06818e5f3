// Adds the sums of attendDecode's rows of threads in `tile` and writes them to the span's partials. The kernel declares the constants,
// `tile`, `weightScales` and `partials`.

fn storeSum(blockRow: u32, d: u32, sum: vec4<f32>) {
  if (blockRow < BLOCK_ROWS) {
    tile[blockRow * GROUPS * 32u + d] = bitcast<vec4<u32>>(sum);
  }
}

// Stores four heads' sums of all rows, with their middles.
fn storePartials(span: u32, places: u32, first: u32, firstHead: u32, local: u32) {
  workgroupBarrier();
  for (var d = local; d < HEAD_DIM; d += WORKGROUP) {
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < BLOCK_ROWS; i++) {
      sum += bitcast<vec4<f32>>(tile[i * GROUPS * 32u + d]);
    }
    for (var c = 0u; c < 4u; c++) {
      let h = first + c;
      if (h < HEADS && firstHead + h < GROUP) {
        partials[span + h * places * (HEAD_DIM + 4u) + d] = sum[c] + weightScales[h * WEIGHT_GROUPS + select(d / 32u, 0u, RQ4)];
      }
    }
  }
}
