// The spans of a row alone over a packed cache if attendDecode attends to the positions that are not packed, too: these have spans
// of their own after the packed ones', at most half as long, since a block of float16 costs more. attend-spans.ts counts them alike.
// Appends spans.

struct PackedSpans {
  packed: Spans,
  recent: Spans,
}

// places: the most spans of both, at least 2.
fn packedSpansOf(position: u32, packed: u32, window: u32, places: u32) -> PackedSpans {
  let whole = spansOf(position, position, packed, RECENT, window, 32u, 1u);
  let blocks = whole.tokens / 32u;
  let longest = spansOf(position, position, packed, PACKED, window, 32u, places).tokens / 32u;
  let most = max(1u, places / 4u);
  let each = max(max(1u, longest / 2u), (blocks + most - 1u) / most);
  let count = (blocks + each - 1u) / each;
  return PackedSpans(
    spansOf(position, position, packed, PACKED, window, 32u, places - count),
    Spans(whole.oldest, whole.first, whole.end, each * 32u, count));
}
