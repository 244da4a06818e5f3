// The step that runs, the same for all dispatches: binding 1 of every kernel is `var<uniform> step: Step`.
struct Step {
  tokens: u32,
  // Position of the first token.
  position: u32,
  outputs: u32,
  // 1: row 0 of the ids is the token that the last sampling chose.
  sampled: u32,
}
