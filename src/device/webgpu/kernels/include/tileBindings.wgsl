// Bindings of products by tiles of float32, of one matrix or of experts.
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
// [tokens][columns]
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
// [outCols], or the rows of all experts
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// [tokens][outCols]
@group(0) @binding(6) var<storage, read_write> out: array<f32>;
// From groupPicks.wgsl.
@group(0) @binding(7) var<storage, read> sorted: array<u32>;
