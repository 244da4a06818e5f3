// The rows of the step for which a workgroup of attendPrompt attends: tiles of `rowsPerTile` query heads, run by run. The kernel
// declares `batch`; attend-prompt.ts counts them in the same way.
struct Tile {
  // The run's first row of the step, its position, and its number of tokens.
  token: u32,
  position: u32,
  tokens: u32,
  // Positions of its text that are in packed pages.
  packed: u32,
  // The index of the run's first row among those that attend in spans, if it does.
  spanned: u32,
  // The tile's first query head of a KV head, counted from the run's first token.
  firstRow: u32,
}

fn tileOf(index: u32, rowsPerTile: u32, group: u32) -> Tile {
  var left = index;
  var token = 0u;
  var tokens = 0u;
  var packed = 0u;
  var spanned = step.singles;
  for (var i = 0u; i < step.longs; i++) {
    token = batch[step.longsAt + 3u * i];
    tokens = batch[step.longsAt + 3u * i + 1u];
    packed = batch[step.longsAt + 3u * i + 2u];
    let tiles = (tokens * group + rowsPerTile - 1u) / rowsPerTile;
    if (left < tiles) {
      break;
    }
    left -= tiles;
    spanned += tokens;
  }
  return Tile(token, positionOf(token), tokens, packed, spanned, left * rowsPerTile);
}
