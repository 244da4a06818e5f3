// Weights of scores in attendPrompt's matrix kernels, which declare MASKED_SCORE.

// If the sum of a lane's weights exceeds this, its row's maximum is raised and O is scaled down, so that f16 can represent the
// weights.
const MOST_ADDED: f32 = 4096.0;

fn powers(four: vec4<f32>, unit: f32, maxScore: f32) -> vec4<f32> {
  return exp2(fma(four, vec4<f32>(unit), vec4<f32>(-maxScore)));
}

// Masked scores have the weight 0, whatever the maximum.
fn seenPowers(four: vec4<f32>, unit: f32, maxScore: f32) -> vec4<f32> {
  return select(vec4<f32>(0.0), powers(four, unit, maxScore), four > vec4<f32>(MASKED_SCORE));
}
