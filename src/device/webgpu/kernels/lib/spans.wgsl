// How one token's visible positions are cut into spans, one workgroup each; attend.ts counts them alike (`decodeSpans`).
struct Spans {
  // The oldest visible position, and that of its block of 32: the first span begins there.
  oldest: u32,
  first: u32,
  // Positions a span, a multiple of the tile.
  tokens: u32,
  count: u32,
}

// Spans that a head of one row has room for in `partials`, when so many rows share it; attend-decode.ts counts them alike.
fn placesOf(most: u32, singles: u32) -> u32 {
  return max(1u, most / singles);
}

// window: 0 for all; tile: positions that a workgroup takes at a time; most: the most spans there may be.
fn spansOf(position: u32, window: u32, tile: u32, most: u32) -> Spans {
  var oldest = 0u;
  if (window > 0u && position + 1u > window) {
    oldest = position + 1u - window;
  }
  let first = oldest & ~31u;
  let tiles = (position - first) / tile + 1u;
  let tilesPerSpan = (tiles + most - 1u) / most;
  return Spans(oldest, first, tilesPerSpan * tile, (tiles + tilesPerSpan - 1u) / tilesPerSpan);
}
