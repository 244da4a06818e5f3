// What one workgroup of attendDecode's kernels does: one span of positions of one row, for some of the query heads of one KV
// head. The kernel declares GROUP, query heads of a KV head, and what spans.wgsl asks for; it appends step, batch and spans.

struct Work {
  // Of the step, and its position: the last one that its query sees.
  row: u32,
  position: u32,
  // Where its text's pages are listed.
  table: u32,
  // Positions of the text in packed pages, and before them.
  packed: u32,
  kvHead: u32,
  // Of the KV head's query heads.
  firstHead: u32,
  // The oldest position that the query sees.
  oldest: u32,
  // Slots of the span, and where the last span ends.
  start: u32,
  end: u32,
  lastEnd: u32,
  // Spans that a head has room for in `partials`, and the place there of the first head's.
  places: u32,
  partial: u32,
  // Only another row of the step has this span.
  isNone: bool,
}

// workgroup: span, KV head by KV head the sets of `heads` query heads, row. firstTable: of the pool's tables; window: 0 for all
// positions; tile: positions at a time.
fn workOf(workgroup: vec3<u32>, kvHeads: u32, firstTable: u32, window: u32, heads: u32, tile: u32) -> Work {
  let single = spannedOf(workgroup.z);
  let places = placesOf(MOST_SPANS);
  let spans = spansOf(single.lastPosition, single.lastPosition, single.packed, PART, window, tile, places);
  let sets = (GROUP + heads - 1u) / heads;
  var work: Work;
  work.row = single.row;
  work.position = single.lastPosition;
  work.table = firstTable + single.table;
  work.packed = single.packed;
  work.kvHead = workgroup.y / sets;
  work.firstHead = workgroup.y % sets * heads;
  work.oldest = spans.oldest;
  work.start = spans.first + workgroup.x * spans.tokens;
  work.end = min(work.start + spans.tokens, spans.end);
  work.lastEnd = spans.end;
  work.places = places;
  work.partial = ((workgroup.z * kvHeads + work.kvHead) * GROUP + work.firstHead) * places + workgroup.x;
  work.isNone = workgroup.x >= spans.count;
  return work;
}
