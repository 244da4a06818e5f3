// How the visible positions of a row, or of rows that share their spans, are divided into spans, one workgroup each; attend-spans.ts
// counts them in the same way.

// The positions that a kernel attends to: all; or, of a packed cache, those in packed pages (PACKED) or the others (RECENT), which are
// the first KEPT of the text and the newest. The kernel declares PART, one of these, and KEPT.
const ALL: u32 = 0u;
const PACKED: u32 = 1u;
const RECENT: u32 = 2u;

// RECENT: slots number the positions that are not packed: from slot `at` on, a position is its slot plus `size`. Otherwise empty.
struct Gap {
  at: u32,
  size: u32,
}

// packed: positions of a text that are in packed pages, and positions before those.
fn gapOf(packed: u32) -> Gap {
  if (PART == RECENT) {
    return Gap(KEPT, max(KEPT, packed) - KEPT);
  }
  return Gap();
}

fn positionAt(gap: Gap, slot: u32) -> u32 {
  return slot + select(0u, gap.size, slot >= gap.at);
}

// The slot of a position, or of the next one that is not packed.
fn slotOf(gap: Gap, position: u32) -> u32 {
  return select(max(position, gap.at + gap.size) - gap.size, position, position < gap.at);
}

// Spans differ by one tile at most, the longer ones first: with all of them equal but the last, kv4's attention of one token after
// 131,072 tokens took 0.7 us more and k3c-v3r's 1.7 (H200).
struct Spans {
  // The oldest visible position.
  oldest: u32,
  // The slot at which the first span begins, the first of a block; the last span ends before `end`.
  first: u32,
  end: u32,
  count: u32,
  // Slots of the shorter spans, and the number of spans that are a tile longer.
  slots: u32,
  longer: u32,
  tile: u32,
}

// The slot at which a span begins; `count` gives the end of the last one, rounded up to a tile.
fn spanStart(spans: Spans, index: u32) -> u32 {
  return spans.first + index * spans.slots + min(index, spans.longer) * spans.tile;
}

// Spans for which a head of one row has room in `partials`. most: their number if the row is the only one of the step.
fn placesOf(most: u32) -> u32 {
  if (step.spanned > step.singles) {
    return max(1u, min((most + most / 3u) / step.spanned, most / 6u));
  }
  return max(1u, most / max(step.spanned, 1u));
}

// The spans of rows at these positions, whose text has `packed` positions in packed pages. window: 0 for all. tile: positions that a
// workgroup handles at a time. most: the maximum number of spans.
fn spansOf(firstPosition: u32, lastPosition: u32, packed: u32, part: u32, window: u32, tile: u32, most: u32) -> Spans {
  var oldest = 0u;
  if (window > 0u && firstPosition + 1u > window) {
    oldest = firstPosition + 1u - window;
  }
  var first = oldest & ~31u;
  var end = lastPosition + 1u;
  if (part == PACKED) {
    first = max(first, KEPT);
    end = max(first, packed);
  }
  if (part == RECENT) {
    let gap = gapOf(packed);
    first = slotOf(gap, first);
    end = slotOf(gap, end);
  }
  let tiles = (end - first + tile - 1u) / tile;
  let count = min(tiles, most);
  let least = max(count, 1u);
  return Spans(oldest, first, end, count, tiles / least * tile, tiles % least, tile);
}
