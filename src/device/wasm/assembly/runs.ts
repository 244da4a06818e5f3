// The step's runs, and attention over them: maps units of all runs to each run.
import { BLOCKS, NO_SLOT, RUN_BYTES, RUNS, RUNS_AT, Run } from "./abi/control";
import { attend, attendMerge, attendMergeUnits, attendTiles, attendUnits, partialBytes } from "./attend";
import { appendKv } from "./kv-append";
import { BLOCK, blockAt, isPacked, keyDimsOf, vectorFormat } from "./kv-layout";
import { packBlock } from "./kv-pack";

/** Bytes of a block in a table. */
const BLOCK_BYTES: i32 = 4;

// @ts-ignore: decorator
@inline export function runCount(control: usize): i32 { return load<i32>(control + RUNS); }
// @ts-ignore: decorator
@inline export function runAt(control: usize, run: i32): usize {
  return load<usize>(control + RUNS_AT) + usize(run) * RUN_BYTES;
}
// @ts-ignore: decorator
@inline function positionOf(run: usize): i32 { return changetype<Run>(run).position; }
// @ts-ignore: decorator
@inline export function firstOf(run: usize): i32 { return changetype<Run>(run).first; }
// @ts-ignore: decorator
@inline export function tokensOf(run: usize): i32 { return changetype<Run>(run).tokens; }
/** The pages of a run's text. tables: those of the cache's pool. */
// @ts-ignore: decorator
@inline function tableOf(control: usize, run: usize, tables: usize): usize {
  return tables + usize(changetype<Run>(run).text * load<i32>(control + BLOCKS)) * BLOCK_BYTES;
}

/** The address of the slot that a run reads, or writes, in a state; 0: it reads none. */
// @ts-ignore: decorator
@inline export function slotOf(run: usize, isWritten: bool, states: usize, slotBytes: usize): usize {
  const slot = isWritten ? changetype<Run>(run).stateTo : changetype<Run>(run).stateFrom;
  return slot == NO_SLOT ? 0 : states + usize(slot) * slotBytes;
}

// @ts-ignore: decorator
@inline function packedOf(run: usize): i32 { return changetype<Run>(run).packed; }

/**
 * Appends every run's keys and values of KV heads [firstHead, lastHead) to `cache`; in packed formats then packs the
 * blocks of `packs` that a row of its text may still see, to packedCache.
 */
export function appendRuns(
  control: usize, cache: usize, keys: usize, values: usize, kvHeads: i32, headDim: i32, turned: i32, tables: usize,
  format: i32, work: usize, packedCache: usize, packedTables: usize, packs: usize, window: i32, firstHead: i32, lastHead: i32,
): void {
  for (let i = 0; i < load<i32>(control + RUNS); i++) {
    const run = runAt(control, i);
    const vectors = usize(firstOf(run) * kvHeads) * 4;
    appendKv(
      cache, keys + vectors * usize(keyDimsOf(headDim, turned)), values + vectors * usize(headDim), positionOf(run),
      tokensOf(run), kvHeads, headDim, turned, tableOf(control, run, tables), vectorFormat(format), work, firstHead,
      lastHead,
    );
  }
  if (!isPacked(format)) return;
  for (let i = 0; i < load<i32>(control + RUNS); i++) {
    const run = runAt(control, i);
    const table = tableOf(control, run, tables);
    const packedTable = tableOf(control, run, packedTables);
    for (let at = changetype<Run>(run).packsFrom; at < changetype<Run>(run).packsTo; at++) {
      const position = load<i32>(packs + usize(at) * BLOCK_BYTES) * BLOCK;
      if (window > 0 && positionOf(run) - (position + BLOCK - 1) >= window) continue;
      for (let head = firstHead; head < lastHead; head++) {
        const from = blockAt(cache, table, kvHeads, head, position, headDim, turned, vectorFormat(format));
        const to = blockAt(packedCache, packedTable, kvHeads, head, position, headDim, turned, format);
        packBlock(from, to, headDim, turned, format, work);
      }
    }
  }
}

function tilesOfAll(control: usize, heads: i32, kvHeads: i32): i32 {
  let tiles = 0;
  for (let i = 0; i < load<i32>(control + RUNS); i++) tiles += attendTiles(tokensOf(runAt(control, i)), heads, kvHeads);
  return tiles;
}

/** Units of all runs. */
export function attendRunsUnits(control: usize, heads: i32, kvHeads: i32, window: i32): i32 {
  const tiles = tilesOfAll(control, heads, kvHeads);
  let units = 0;
  for (let i = 0; i < load<i32>(control + RUNS); i++) {
    const run = runAt(control, i);
    units += attendUnits(tokensOf(run), tiles, heads, kvHeads, positionOf(run), window);
  }
  return units;
}

/** Units [first, last) of all runs. The runs' partials are stored one after another. */
export function attendRuns(
  control: usize, cache: usize, queries: usize, out: usize, partials: usize, work: usize, heads: i32, kvHeads: i32,
  headDim: i32, turned: i32, tables: usize, window: i32, scale: f32, cap: f32, format: i32, sinks: usize, packedCache: usize,
  packedTables: usize, kept: i32, first: i32, last: i32,
): void {
  const tiles = tilesOfAll(control, heads, kvHeads);
  let before = 0;
  for (let i = 0; i < load<i32>(control + RUNS) && before < last; i++) {
    const run = runAt(control, i);
    const tokens = tokensOf(run);
    const position = positionOf(run);
    const units = attendUnits(tokens, tiles, heads, kvHeads, position, window);
    const from = max(first - before, 0);
    const to = min(last - before, units);
    if (from < to) {
      const at = usize(firstOf(run) * heads) * 4;
      attend(
        cache, queries + at * usize(turned + headDim), out + at * usize(headDim), partials, work, position, tokens, heads,
        kvHeads, headDim, turned, tableOf(control, run, tables), tiles, window, scale, cap, format, sinks, packedCache,
        tableOf(control, run, packedTables), kept, isPacked(format) ? packedOf(run) : 0, from, to,
      );
    }
    before += units;
    partials += partialBytes(tokens, tiles, heads, kvHeads, headDim, position, window);
  }
}

export function mergeRunsUnits(control: usize, heads: i32, kvHeads: i32, window: i32): i32 {
  const tiles = tilesOfAll(control, heads, kvHeads);
  let units = 0;
  for (let i = 0; i < load<i32>(control + RUNS); i++) {
    const run = runAt(control, i);
    units += attendMergeUnits(tokensOf(run), tiles, heads, kvHeads, positionOf(run), window);
  }
  return units;
}

export function mergeRuns(
  control: usize, partials: usize, out: usize, heads: i32, kvHeads: i32, headDim: i32, window: i32, format: i32,
  sinks: usize, first: i32, last: i32,
): void {
  const tiles = tilesOfAll(control, heads, kvHeads);
  let before = 0;
  for (let i = 0; i < load<i32>(control + RUNS) && before < last; i++) {
    const run = runAt(control, i);
    const tokens = tokensOf(run);
    const position = positionOf(run);
    const units = attendMergeUnits(tokens, tiles, heads, kvHeads, position, window);
    const from = max(first - before, 0);
    const to = min(last - before, units);
    if (from < to) {
      const at = usize(firstOf(run) * heads) * usize(headDim) * 4;
      attendMerge(partials, out + at, position, tokens, heads, kvHeads, headDim, tiles, window, format, sinks, from, to);
    }
    before += units;
    partials += partialBytes(tokens, tiles, heads, kvHeads, headDim, position, window);
  }
}
