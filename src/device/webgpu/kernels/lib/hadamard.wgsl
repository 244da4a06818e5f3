// The butterflies of rq4's rotation over rows of 32 threads, a vector each. The kernel declares HEAD_DIM and `vectors`
// [rows][HEAD_DIM] and appends rotation; all of a workgroup takes part.

// H of a row's vector, in place.
fn hadamardRow(mine: u32, lane: u32) {
  for (var stride = 1u; stride < rotationBlock(HEAD_DIM); stride *= 2u) {
    workgroupBarrier();
    for (var i = lane; i < HEAD_DIM / 2u; i += 32u) {
      let at = mine + butterfly(i, stride);
      let a = vectors[at];
      let b = vectors[at + stride];
      vectors[at] = a + b;
      vectors[at + stride] = a - b;
    }
  }
  workgroupBarrier();
}
