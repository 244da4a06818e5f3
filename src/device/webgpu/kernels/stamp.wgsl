// Counts the submits that ran to their end: the last dispatch of one. A driver that stops work which takes too long leaves the
// count behind, whatever it reports.

@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(1)
fn main() {
  out[0] += 1u;
}
