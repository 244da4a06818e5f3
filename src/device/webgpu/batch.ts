/**
 * What a step's kernels know of its rows: the step uniform (lib/step.wgsl), and the lists and page tables in the buffer
 * `batch` (lib/batch.wgsl). Both layouts are defined here on the host's side. The tables stay, the lists are packed
 * after them for each step, and the uniform says where each list begins.
 */
import { type Graph, PAGE_SLOTS, type Pool, type Step } from "../contract.ts";
import { type Rows, rowsOf } from "../rows.ts";
import { type Mode, type ModeRows, modeOf, type StepShape } from "./dispatch.ts";
import { packChoice, SAMPLED_WORDS } from "./sample.ts";
import { type LongRun, mostUnits, type Unit } from "./units.ts";

/** The layout of lib/batch.wgsl. */
const NO_SLOT = 0xffffffff;

/** Size of the step uniform, in whole vec4s. */
export const STEP_BYTES = 80;
/** Words of the uniform. */
const [SINGLES, LONGS, LONGS_AT] = [2, 4, 13];

/** The properties of a graph that decide where tables and lists are. */
export type BatchGraph = Pick<Graph, "maxTokens" | "maxOutputs" | "texts" | "blocks" | "pools"> &
  Partial<Pick<Graph, "recentPool">>;

/** For rows of a run in one page: the first row, their number, its position, the start of the text's table. */
const PIECE_WORDS = 4;
/** For one block to pack: the start of its text's table, the block, the position of its text's run. */
const PACK_WORDS = 3;
/** For a run, or a unit of rows, that attends in tiles: its first row, number of rows, positions in packed pages. */
const LONG_WORDS = 3;

/** Words of the page tables; the lists follow. */
function tableWords({ pools, texts, blocks }: BatchGraph): number {
  return pools.length * texts * blocks;
}

/** The start of a pool's tables, in words: [texts, blocks]. */
export function tableAt({ texts, blocks }: BatchGraph, pool: Pool): number {
  return pool.id * texts * blocks;
}

export function batchBytes(graph: BatchGraph): number {
  const { maxTokens, maxOutputs, texts, blocks } = graph;
  const runs = Math.min(texts, maxTokens);
  // Ids, positions and texts by row, and five words for each row that attends in spans; pieces (a run may begin and end
  // one within a page); longs; runs; outputs; blocks to pack; then runs as units.
  const pieces = PIECE_WORDS * (Math.ceil(maxTokens / PAGE_SLOTS) + 2 * runs);
  const sampled = SAMPLED_WORDS * maxOutputs;
  const packs = graph.recentPool ? PACK_WORDS * runs * blocks : 0;
  const units = LONG_WORDS * mostUnits(maxTokens, runs);
  const lists = 8 * maxTokens + pieces + (LONG_WORDS + 4) * runs + maxOutputs + sampled + packs + units;
  return 4 * (tableWords(graph) + lists);
}

type Run = Rows["runs"][number];

/**
 * Up to this many rows of a run attend one by one in small steps; more share the reads of the cache. A tile of 64 query
 * heads takes as long as about six single rows: lab/LOG.md, 2026-11-28.
 */
export const MOST_ALONE = 5;

/** A step as its kernels see it. */
export interface Batch {
  readonly mode: Mode;
  readonly shape: StepShape;
  readonly rows: Rows;
  /** The runs that attend in tiles. */
  readonly longs: readonly LongRun[];
  readonly uniform: Uint32Array<ArrayBuffer>;
  /** The contents of `batch` from word `at` on. */
  readonly lists: Uint32Array<ArrayBuffer>;
  readonly at: number;
  /** Rows for which an id is chosen. */
  readonly sampled: number;
}

export function batchOf(graph: BatchGraph, step: Step, modeRows: ModeRows): Batch {
  const rows = rowsOf(step);
  const mode = modeOf(rows, modeRows);
  const longs = rows.runs.filter(({ tokens }) => tokens > (mode === "prompt" ? 1 : MOST_ALONE));
  const alone = rows.runs.filter((run) => !longs.includes(run));
  const packedOf = ({ packed }: Run) => packed.blocks * PAGE_SLOTS;
  const rowsOfRun = ({ first, tokens }: Run) => Array.from({ length: tokens }, (_, i) => first + i);
  const singles = alone.flatMap((run) =>
    rowsOfRun(run).map((row) => ({ position: rows.positions[row], packed: packedOf(run) })),
  );
  const table = ({ text }: Run) => text * graph.blocks;
  // In a prompt, packed caches are attended to in two parts, which are merged.
  const merged = mode !== "prompt" || graph.recentPool ? longs : [];
  const spanned = [
    ...alone.flatMap((run) =>
      rowsOfRun(run).map((row) => [
        ...[row, rows.positions[row], rows.positions[row]],
        ...[table(run), packedOf(run)],
      ]),
    ),
    ...merged.flatMap((run) =>
      rowsOfRun(run).map((row) => [
        ...[row, run.position, run.position + run.tokens - 1],
        ...[table(run), packedOf(run)],
      ]),
    ),
  ];
  const packs = rows.runs.flatMap((run) => run.packed.pack.map((block) => [table(run), block, run.position]));
  const pieces = rows.runs.flatMap((run) => piecesOf(run, table(run)));
  const sampled = rows.runs.flatMap(({ text, firstOutput, outputs }, i) => {
    const { sampling } = step.runs[i];
    if (!sampling) return [];
    // The text's next row gets the id after the last one; other rows belong to no text.
    const textOf = (output: number) => (output === outputs - 1 ? text : graph.texts);
    return Array.from({ length: outputs }, (_, output) => [
      ...[firstOutput + output, textOf(output)],
      ...packChoice({ ...sampling, draw: sampling.draw + output }),
    ]);
  });
  const words = sampled.flat();
  const tiled = longs.map((run) => {
    const { first, position, tokens } = run;
    return { first, position, tokens, packed: packedOf(run) };
  });
  const shape: StepShape = {
    tokens: rows.tokens,
    outputs: rows.outputs,
    singles,
    spanned: mode === "prompt" ? singles.length : spanned.length,
    longs: tiled,
    pieces: pieces.length,
    sampled: sampled.length,
    runs: rows.runs.length,
    packs: packs.length,
  };
  const packed = pack(graph, shape, [
    rows.ids,
    rows.positions,
    rows.texts,
    rows.outputRows,
    pieces.flat(),
    spanned.flat(),
    tiled.flatMap(longWords),
    words,
    rows.runs.flatMap(({ first, tokens, state }) => [
      ...[first, tokens],
      ...[state?.from ?? NO_SLOT, state?.to ?? NO_SLOT],
    ]),
    packs.flat(),
  ]);
  return { mode, shape, rows, longs: tiled, ...packed, sampled: sampled.length };
}

const longWords = ({ first, tokens, packed }: LongRun) => [first, tokens, packed];

/** The step restricted to these of a prompt's units. */
export function unitLists({ uniform, lists, at, shape }: Batch, units: readonly Unit[]) {
  const own = uniform.slice();
  const afterLists = at + lists.length;
  // lib/tiles.wgsl counts rows that attend in spans from `singles` on.
  own[SINGLES] = shape.singles.length + units[0].before;
  own[LONGS] = units.length;
  own[LONGS_AT] = afterLists;
  return { uniform: own, lists: Uint32Array.from(units.flatMap(longWords)), at: afterLists };
}

/** A step without rows that samples one row of the last step's logits, for no text. */
export function candidatesBatch(graph: BatchGraph, row: number) {
  const shape: StepShape = {
    tokens: 0,
    outputs: 0,
    singles: [],
    spanned: 0,
    longs: [],
    pieces: 0,
    sampled: 1,
    runs: 0,
    packs: 0,
  };
  const words = [row, graph.texts, ...packChoice(GREEDY)];
  return { shape, ...pack(graph, shape, [[], [], [], [], [], [], [], words, [], []]) };
}

const GREEDY = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0, draw: 0 };

/** lists: in the order of the uniform's words. */
function pack(graph: BatchGraph, shape: StepShape, lists: readonly ArrayLike<number>[]) {
  const at = tableWords(graph);
  const count = lists.reduce((sum, { length }) => sum + length, 0);
  const packed = new Uint32Array(count);
  const uniform = new Uint32Array(STEP_BYTES / 4);
  const { tokens, outputs, singles, spanned, longs, sampled } = shape;
  uniform.set([tokens, outputs, singles.length, spanned, longs.length, sampled, graph.blocks]);
  let end = 0;
  for (const [i, list] of lists.entries()) {
    uniform[7 + i] = at + end;
    packed.set(list, end);
    end += list.length;
  }
  uniform[7 + lists.length] = shape.runs;
  return { uniform, lists: packed, at };
}

/** For each page that a run writes to; table: the start of its text's table. */
function piecesOf({ first, position, tokens }: Run, table: number): number[][] {
  const pieces: number[][] = [];
  for (let done = 0; done < tokens; ) {
    const count = Math.min(tokens - done, PAGE_SLOTS - ((position + done) % PAGE_SLOTS));
    pieces.push([first + done, count, position + done, table]);
    done += count;
  }
  return pieces;
}
