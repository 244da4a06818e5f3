// Experts that route has chosen: the kernel's `picks: array<f32>`, [rows][ids, weights]. Entry row * count + pick is one of them.

/// The expert of an entry; in range, whatever the buffer holds.
fn pickedExpert(entry: u32, count: u32, experts: u32) -> u32 {
  return min(u32(picks[entry / count * 2u * count + entry % count]), experts - 1u);
}
