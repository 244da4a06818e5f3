// Bindings of products of packed weights with rows of q8 (lib/q8.wgsl). Each kernel declares `out` as binding 6.
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;
// [outCols]
@group(0) @binding(5) var<storage, read> bias: array<f32>;
