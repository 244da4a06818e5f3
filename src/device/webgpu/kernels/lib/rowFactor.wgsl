// f16, the form of activations for subgroup matrices: rows of halves, and after all rows a 16-byte word for each row with the power of
// two (f32) by which its halves are multiplied, nearly always 1. The host's side is forms.ts. A workgroup of any size does a row. The
// kernel appends narrow.
var<workgroup> rowLargest: atomic<u32>;

/// The factor of the row whose values this workgroup has. largest: the largest magnitude of this thread.
fn rowFactor(largest: f32, lane: u32) -> f32 {
  if (lane == 0u) {
    atomicStore(&rowLargest, 0u);
  }
  workgroupBarrier();
  // The bits of numbers that are not negative have the order of the numbers, infinity and NaN last.
  atomicMax(&rowLargest, bitcast<u32>(largest));
  workgroupBarrier();
  return factorOf(atomicLoad(&rowLargest));
}
