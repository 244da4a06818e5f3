// stamp: the last dispatch of a submit; counts the submits that ran to their end. If a driver stops work that takes too long, the
// count shows it, whatever the driver reports.

@group(0) @binding(2) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(1)
fn main() {
  out[0] += 1u;
}
