// groupPicks: sorts a step's picks by expert, for products of many rows (expertMatmul), so that an expert's weights are read once for
// all of its picks. Entry row * PICKS + pick is a row of the product's output, [rows * PICKS, ...]. One workgroup.
// lib: step, picks
// <values>
const EXPERTS: u32 = 8u;
const PICKS: u32 = 2u;
// Entries per tile.
const TILE: u32 = 32u;
const OUTPUTS: bool = false;
// </values>

struct Params {
  // Where the list begins in `sorted`.
  listAt: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [rows][PICKS ids, PICKS weights]
@group(0) @binding(2) var<storage, read> picks: array<f32>;
// Number of tiles, 0, 0, 0; for each tile its expert, where its entries begin in the list, their number, 0; then the entries by
// expert.
@group(0) @binding(3) var<storage, read_write> sorted: array<u32>;

var<workgroup> counts: array<atomic<u32>, EXPERTS>;
var<workgroup> firsts: array<u32, EXPERTS>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) local: u32) {
  let entries = select(step.tokens, step.outputs, OUTPUTS) * PICKS;
  for (var e = local; e < EXPERTS; e += 256u) {
    atomicStore(&counts[e], 0u);
  }
  workgroupBarrier();
  for (var i = local; i < entries; i += 256u) {
    atomicAdd(&counts[pickedExpert(i, PICKS, EXPERTS)], 1u);
  }
  workgroupBarrier();
  for (var e = local; e < EXPERTS; e += 256u) {
    var first = 0u;
    var tile = 0u;
    for (var other = 0u; other < e; other++) {
      let count = atomicLoad(&counts[other]);
      first += count;
      tile += (count + TILE - 1u) / TILE;
    }
    firsts[e] = first;
    let end = first + atomicLoad(&counts[e]);
    for (; first < end; first += TILE) {
      sorted[4u + 4u * tile] = e;
      sorted[5u + 4u * tile] = first;
      sorted[6u + 4u * tile] = min(TILE, end - first);
      tile++;
    }
    if (e == EXPERTS - 1u) {
      sorted[0] = tile;
    }
  }
  workgroupBarrier();
  for (var e = local; e < EXPERTS; e += 256u) {
    atomicStore(&counts[e], firsts[e]);
  }
  workgroupBarrier();
  for (var i = local; i < entries; i += 256u) {
    let at = atomicAdd(&counts[pickedExpert(i, PICKS, EXPERTS)], 1u);
    sorted[params.listAt + at] = i;
  }
}
