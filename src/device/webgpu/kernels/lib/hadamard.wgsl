// The butterflies of rq4's rotation. Each row of 32 threads does one vector. The kernel declares `vectors` and appends rotation; all
// threads of a workgroup take part.

// Applies H to a row's vector of `dims`, in place.
fn hadamardRow(mine: u32, lane: u32, dims: u32) {
  for (var stride = 1u; stride < rotationBlock(dims); stride *= 2u) {
    workgroupBarrier();
    for (var i = lane; i < dims / 2u; i += 32u) {
      let at = mine + butterfly(i, stride);
      let a = vectors[at];
      let b = vectors[at + stride];
      vectors[at] = a + b;
      vectors[at + stride] = a - b;
    }
  }
  workgroupBarrier();
}
