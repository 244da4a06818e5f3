// Bindings of products of weights with rows of f16 (halves) by subgroup matrices. Each kernel declares Params, and `out` as binding 6.
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> codes: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
// [tokens][groups * 32] f16, then [tokens] factors
@group(0) @binding(4) var<storage, read> x: array<vec4<u32>>;
// [outCols]
@group(0) @binding(5) var<storage, read> bias: array<f32>;
