// How the visible positions of a row, or of rows that share, are cut into spans, one workgroup each; attend-spans.ts counts
// them alike.

// The positions that a kernel attends to: all; of a packed cache those in packed pages, or those that are not packed yet.
const ALL: u32 = 0u;
const PACKED: u32 = 1u;
const RECENT: u32 = 2u;

struct Spans {
  // The oldest visible position.
  oldest: u32,
  // The first span begins there, at a block's beginning; the last one ends before `end`.
  first: u32,
  end: u32,
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

// Of rows at these positions, whose text has `packed` positions in packed pages. window: 0 for all; tile: positions that a
// workgroup takes at a time; most: the most spans there may be.
fn spansOf(firstPosition: u32, lastPosition: u32, packed: u32, part: u32, window: u32, tile: u32, most: u32) -> Spans {
  var oldest = 0u;
  if (window > 0u && firstPosition + 1u > window) {
    oldest = firstPosition + 1u - window;
  }
  var first = oldest & ~31u;
  var end = lastPosition + 1u;
  if (part == PACKED) {
    end = max(first, packed);
  }
  if (part == RECENT) {
    first = max(first, packed);
  }
  let tiles = (end - first + tile - 1u) / tile;
  let tilesPerSpan = max(1u, (tiles + most - 1u) / most);
  return Spans(oldest, first, end, tilesPerSpan * tile, (tiles + tilesPerSpan - 1u) / tilesPerSpan);
}
