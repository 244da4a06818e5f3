// Params and bindings of all attendDecode kernels. Each also declares the partials that it writes, as binding 5.
struct Params {
  kvHeads: u32,
  // Where the pool's tables begin in `batch`.
  table: u32,
  // 0: all positions.
  window: u32,
  // Includes log2(e), since powers are of 2. With a soft cap: scale / cap, and cap * log2(e).
  scale: f32,
  cap: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [tokens][heads][TURNED + HEAD_DIM]
@group(0) @binding(2) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec4<u32>>;
// [spanned][heads][spans], each of HEAD_DIM sums, maximum, total, 0, 0.
