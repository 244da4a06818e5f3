// takeTurned: takes from each head of x the dims that RoPE rotates: the first of every pair, then the second. Queries are followed by
// all dims times a weight, which is 0 for rotated dims. One output value per thread.
// lib: step
// <values>
const HAS_WEIGHT: bool = true;
// </values>

struct Params {
  heads: u32,
  headDim: u32,
  // The distance from the first dim of a pair to the second, and the number of pairs that RoPE rotates.
  pairs: u32,
  turnedPairs: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
// [tokens][heads][headDim]
@group(0) @binding(2) var<storage, read> x: array<f32>;
// [headDim]
@group(0) @binding(3) var<storage, read> weight: array<f32>;
// [tokens][heads][2 turnedPairs, or those and headDim]
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = (group.x + group.y * 65535u) * 64u + lane;
  let turned = 2u * params.turnedPairs;
  let each = turned + select(0u, params.headDim, HAS_WEIGHT);
  if (i >= step.tokens * params.heads * each) {
    return;
  }
  let vector = i / each * params.headDim;
  let place = i % each;
  if (place < turned) {
    out[i] = x[vector + select(place, place - params.turnedPairs + params.pairs, place >= params.turnedPairs)];
    return;
  }
  let dim = place - turned;
  let turns = select(dim, dim - params.pairs, dim >= params.pairs) < params.turnedPairs;
  out[i] = select(x[vector + dim] * weight[dim], 0.0, turns);
}
