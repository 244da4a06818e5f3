// A row of the f16 form by a workgroup that computes its values one by one: as if the factor were 1, which it nearly always is,
// and again where it is not. The kernel gives `fn valueAt(row, col) -> f32`, `out: array<u32>` and WORKGROUP, and appends
// narrow and rowFactor.

/// factorsAt: the word of `out` where the rows' factors begin.
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
