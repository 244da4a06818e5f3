// The step that runs, the same for all dispatches: binding 1 of every kernel is `var<uniform> step: Step`. batch.ts writes it.
struct Step {
  // Rows of the step: the new tokens of all texts.
  tokens: u32,
  // Rows that reach the output.
  outputs: u32,
  // Rows that attend alone, in spans (attendDecode).
  singles: u32,
  // All rows that attend in spans: those that attend alone, then rows of runs, if these do.
  spanned: u32,
  // Runs of rows that attend in tiles (attendPrompt).
  longs: u32,
  // Rows of logits from which an id is chosen.
  sampled: u32,
  // Pages of one text in a table.
  blocks: u32,
  // Where the lists begin in `batch` (lib/batch.wgsl).
  idsAt: u32,
  positionsAt: u32,
  textsAt: u32,
  outputsAt: u32,
  piecesAt: u32,
  spannedAt: u32,
  longsAt: u32,
  sampledAt: u32,
  runsAt: u32,
  packsAt: u32,
  // Texts that have rows.
  runs: u32,
}
