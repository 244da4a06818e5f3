// The step's lists and the texts' page tables, in one buffer, since devices guarantee only 8 storage buffers. The
// kernel declares `batch: array<u32>` and `step`.

fn positionOf(row: u32) -> u32 {
  return batch[step.positionsAt + row];
}

// A row that attends in spans. Its words are adjacent, because everything else in the kernel waits for them.
struct Spanned {
  row: u32,
  // First and last position of the rows that share these spans; for a row alone, its own position.
  firstPosition: u32,
  lastPosition: u32,
  // Where its text's table begins, from the beginning of the pool's tables.
  table: u32,
  // Positions of its text that are in packed pages.
  packed: u32,
}

fn spannedOf(index: u32) -> Spanned {
  let at = step.spannedAt + 5u * index;
  return Spanned(batch[at], batch[at + 1u], batch[at + 2u], batch[at + 3u], batch[at + 4u]);
}

// Rows of one text that lie in one page.
struct Piece {
  row: u32,
  rows: u32,
  position: u32,
  // Where its text's table begins, from the beginning of the pool's tables.
  table: u32,
}

fn pieceAt(index: u32) -> Piece {
  let at = step.piecesAt + 4u * index;
  return Piece(batch[at], batch[at + 1u], batch[at + 2u], batch[at + 3u]);
}

// Where the table of a row's text begins. table: where the pool's tables begin.
fn tableOf(table: u32, row: u32) -> u32 {
  return table + batch[step.textsAt + row] * step.blocks;
}

// The index, in the cache's buffer, of the block that holds one head's keys or values from position 32 * block on. Only this function
// looks pages up.
fn blockOf(table: u32, block: u32, kvHeads: u32, kvHead: u32) -> u32 {
  return batch[table + min(block, step.blocks - 1u)] * kvHeads + kvHead;
}

// A block that the step packs: its text's table, as above, and the first position of the text's run.
struct Pack {
  table: u32,
  block: u32,
  position: u32,
}

fn packAt(index: u32) -> Pack {
  let at = step.packsAt + 3u * index;
  return Pack(batch[at], batch[at + 1u], batch[at + 2u]);
}

// A text's rows, and the slots of its recurrent states to read (NO_SLOT: none, the text begins) and to write.
struct Run {
  first: u32,
  tokens: u32,
  readSlot: u32,
  writeSlot: u32,
}

const NO_SLOT: u32 = 0xffffffffu;

fn runAt(index: u32) -> Run {
  let at = step.runsAt + 4u * index;
  return Run(batch[at], batch[at + 1u], batch[at + 2u], batch[at + 3u]);
}
