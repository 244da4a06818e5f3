// The work of one workgroup of an attendDecode kernel: one span of positions of one row, for some of the query heads of one KV head.
// The kernel declares GROUP, query heads of a KV head, and what spans.wgsl needs; it appends step, batch and spans.

struct Work {
  // The row of the step, and its position: the last one that its query sees.
  row: u32,
  position: u32,
  // Where its text's table begins.
  table: u32,
  // Positions of the text that are in packed pages, and positions before those.
  packed: u32,
  kvHead: u32,
  // First query head of the KV head, and their number.
  firstHead: u32,
  // The oldest position that the query sees.
  oldest: u32,
  // First slot of the span and the slot after its last, and where the last span ends.
  start: u32,
  end: u32,
  lastEnd: u32,
  // Spans for which a head has room in `partials`, and the index there of the first head's span.
  places: u32,
  partial: u32,
  // This row has no such span; another row of the step has.
  isNone: bool,
}

// workgroup: x is the span, y the set of `heads` query heads (KV head by KV head), z the row. firstTable: where the pool's tables
// begin. window: 0 for all positions. tile: positions that are handled at a time.
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
  work.start = spanStart(spans, workgroup.x);
  work.end = min(spanStart(spans, workgroup.x + 1u), spans.end);
  work.lastEnd = spans.end;
  work.places = places;
  work.partial = ((workgroup.z * kvHeads + work.kvHead) * GROUP + work.firstHead) * places + workgroup.x;
  work.isNone = workgroup.x >= spans.count;
  return work;
}
