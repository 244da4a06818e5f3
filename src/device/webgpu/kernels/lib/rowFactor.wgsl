// f16, the form of activations that meet subgroup matrices: rows of halves, and after all rows a word of 16 bytes for each:
// the power of two (f32) that its halves are to be multiplied by, nearly always 1; forms.ts is the other owner. A workgroup of any
// size does a row. The kernel appends narrow.
var<workgroup> rowLargest: atomic<u32>;

/// The factor of the row whose values this workgroup has; largest: of this thread's magnitudes.
fn rowFactor(largest: f32, lane: u32) -> f32 {
  if (lane == 0u) {
    atomicStore(&rowLargest, 0u);
  }
  workgroupBarrier();
  // Bits of numbers that are not negative are in the order of the numbers, infinity and NaN last.
  atomicMax(&rowLargest, bitcast<u32>(largest));
  workgroupBarrier();
  return factorOf(atomicLoad(&rowLargest));
}
