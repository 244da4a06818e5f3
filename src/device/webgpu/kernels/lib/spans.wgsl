// How the visible positions of a row, or of rows that share, are cut into spans, one workgroup each; attend-spans.ts counts
// them alike.
struct Spans {
  // The oldest visible position, and that of its block of 32: the first span begins there.
  oldest: u32,
  first: u32,
  // Positions a span, a multiple of the tile.
  tokens: u32,
  count: u32,
}

// Spans that a head of one row has room for in `partials`. most: of a row that is the only one in a step.
fn placesOf(most: u32) -> u32 {
  if (step.spanned > step.singles) {
    return max(1u, min((most + most / 3u) / step.spanned, most / 6u));
  }
  return max(1u, most / max(step.spanned, 1u));
}

// Of rows at these positions. window: 0 for all; tile: positions that a workgroup takes at a time; most: the most spans there may be.
fn spansOf(firstPosition: u32, lastPosition: u32, window: u32, tile: u32, most: u32) -> Spans {
  var oldest = 0u;
  if (window > 0u && firstPosition + 1u > window) {
    oldest = firstPosition + 1u - window;
  }
  let first = oldest & ~31u;
  let tiles = (lastPosition - first) / tile + 1u;
  let tilesPerSpan = (tiles + most - 1u) / most;
  return Spans(oldest, first, tilesPerSpan * tile, (tiles + tilesPerSpan - 1u) / tilesPerSpan);
}
