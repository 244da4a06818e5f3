// The step that runs, the same for all dispatches: binding 1 of every kernel is `var<uniform> step: Step`.
struct Step {
  tokens: u32,
  // Position of the first token.
  position: u32,
  // How many of the last tokens reach the output.
  outputs: u32,
}
