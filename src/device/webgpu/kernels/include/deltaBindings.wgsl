// Params and bindings of gatedDelta and gatedDeltaPairs.
struct Params {
  keyHeads: u32,
  valueHeads: u32,
  valueDim: u32,
  // In floats. Strides are the distances between the rows of two tokens.
  aOffset: u32,
  aStride: u32,
  bOffset: u32,
  bStride: u32,
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [tokens][q: keyHeads, k: keyHeads, v: valueHeads]
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> a: array<f32>;
@group(0) @binding(4) var<storage, read> b: array<f32>;
// [valueHeads]
@group(0) @binding(5) var<storage, read> rates: array<f32>;
@group(0) @binding(6) var<storage, read> bias: array<f32>;
// [slots][valueHeads][valueDim][KEY_FOURS]
@group(0) @binding(7) var<storage, read_write> states: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> batch: array<u32>;
// [tokens][valueHeads][valueDim]
@group(0) @binding(9) var<storage, read_write> out: array<f32>;
