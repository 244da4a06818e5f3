// Params of attendPrompt, with and without matrices.
struct Params {
  // Where the pool's tables begin in `batch`.
  table: u32,
  // 0: all positions.
  window: u32,
  // Includes log2(e), since powers are of 2. With a soft cap: scale / cap, and cap * log2(e).
  scale: f32,
  cap: f32,
  // f16: the item of `out` where the rows' factors begin.
  factorsAt: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
