// The work of one workgroup of an attendPrompt kernel: a tile of rows (the query heads of one KV head, token by token) over all
// positions that they see, or over one span of these. The kernel declares GROUP, query heads of a KV head, SPANS, TILE and what
// spans.wgsl needs; it appends step, batch, tiles and spans.

struct PromptWork {
  // The run that the rows belong to; they are counted from its first token.
  run: Tile,
  rows: u32,
  // Where its text's table begins, and which positions have no slot.
  table: u32,
  gap: Gap,
  // Positions of the tile's first and last query.
  firstQuery: u32,
  lastQuery: u32,
  // Slots to attend to: whole blocks, except at the end of a packed part.
  start: u32,
  end: u32,
  // Spans for which a head has room in partials.
  places: u32,
  // This run has no such span; another run of the step has.
  isNone: bool,
}

// workgroup: tile, KV head, span. firstTable: where the pool's tables begin. window: 0 for all positions.
fn promptWorkOf(workgroup: vec3<u32>, firstTable: u32, window: u32, rowsPerTile: u32) -> PromptWork {
  let run = tileOf(workgroup.x, rowsPerTile, GROUP);
  let gap = gapOf(run.packed);
  let rows = run.tokens * GROUP;
  let firstQuery = run.position + run.firstRow / GROUP;
  let lastQuery = run.position + (min(run.firstRow + rowsPerTile, rows) - 1u) / GROUP;
  var oldest = 0u;
  if (window > 0u && firstQuery + 1u > window) {
    oldest = firstQuery + 1u - window;
  }
  var start = oldest / 32u * 32u;
  var end = (lastQuery / 32u + 1u) * 32u;
  let places = placesOf(MOST_SPANS);
  var isNone = false;
  if (SPANS) {
    let spans = spansOf(run.position, run.position + run.tokens - 1u, run.packed, PART, window, TILE, places);
    isNone = workgroup.z >= spans.count;
    // A part of what the run sees; rows of this tile may see nothing of it.
    start = max(slotOf(gap, start), spanStart(spans, workgroup.z));
    end = min(slotOf(gap, end), spanStart(spans, workgroup.z + 1u));
    if (PART == PACKED) {
      end = min(end, spans.end);
    }
  }
  return PromptWork(run, rows, tableOf(firstTable, run.token), gap, firstQuery, lastQuery, start, end, places, isNone);
}

fn sees(query: u32, position: u32, window: u32) -> bool {
  return position <= query && (window == 0u || query - position < window);
}
