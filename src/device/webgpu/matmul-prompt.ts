/**
 * The dispatches of matmulSquare and matmulMatrix, for prompts on devices with subgroup matrices: which of the two, and
 * which tiles of a product are computed whole, and which in splits of their columns, which sumSplits adds. Pure.
 */
import type { Dispatch } from "./dispatch.ts";
import { factorsAt } from "./forms.ts";
import type { Traits } from "./gpu.ts";
import { LEAST_GROUPS, MATRIX_TILE, streams, sumDispatch } from "./matmul-matrix.ts";
import {
  buffersOf,
  bytesOf,
  countFor,
  type GpuMatrix,
  type MatmulOptions,
  meets,
  type TokenShape,
} from "./matmul-options.ts";
import { packParams } from "./params.ts";
import { formValues, groupsOf, isFloat } from "./weights.ts";

/** Workgroups that run at once: two on each of an H100's 132 cores, as many as registers allow. */
const SLOTS = 264;
const MOST_SPLITS = 8;
/** us of a group of columns for as many tiles as there are slots; of the sums for a tile's split, and of their dispatch. */
const GROUP_US = 1.05;
const SUM_US = { tile: 0.05, dispatch: 4 };
/** Dawn asks of a buffer to which a matrix is stored that it holds one, even where nothing is divided. */
const LEAST_SUMS = 16 * 16 * 4;
/** Steps of at most this many tiles of tokens have tilings of their own, and so do whole chunks. */
const FEW_TILES = 4;

/** Tiles of rows whose columns one workgroup computes, from the first on; splits of the others' columns. */
interface Tiling {
  readonly whole: number;
  readonly splits: number;
}

/**
 * The tiling that takes the least time: workgroups run in rounds, and the last round is rarely full, so the tiles of the
 * last one or two are divided. Time without and with splits, q4_0 on an H200, us, sums included: 4096x14336 times 512
 * tokens 391 and 281, 256 tokens 365 and 153, 128 tokens 317 and 90; 4096x4096 118 and 109, 90 and 66, 90 and 44
 * (2026-11-28, bench row matmulMatrix).
 */
function tilingOf(rowTiles: number, tokenTiles: number, groups: number, slots = SLOTS): Tiling {
  const tiles = rowTiles * tokenTiles;
  const rounds = Math.floor(tiles / slots);
  let best: Tiling = { whole: rowTiles, splits: 1 };
  let least = Math.ceil(tiles / slots) * groups * GROUP_US;
  for (const kept of rounds > 0 ? [rounds, rounds - 1] : [0])
    for (let splits = 2; splits <= Math.min(MOST_SPLITS, groups / LEAST_GROUPS); splits++) {
      const whole = Math.floor((kept * slots) / tokenTiles);
      const divided = (rowTiles - whole) * tokenTiles * splits;
      const us =
        (kept + Math.ceil(divided / slots) / splits) * groups * GROUP_US +
        SUM_US.dispatch +
        divided * SUM_US.tile;
      if (divided > 0 && us < least) {
        best = { whole, splits };
        least = us;
      }
    }
  return best;
}

/** Steps of so many tokens, in this many tiles. tokenTiles: null, if their number varies and no tile is divided. */
interface Steps extends TokenShape {
  readonly tokenTiles: number | null;
}

function stepsOf(maxRows: number, tileTokens: number): Steps[] {
  const most = Math.ceil(maxRows / tileTokens);
  const own = Array.from({ length: Math.min(FEW_TILES, most) }, (_, i) => i + 1);
  const steps: Steps[] = own.map((tiles) => ({
    tokens: tileTokens,
    from: (tiles - 1) * tileTokens + 1,
    to: Math.min(maxRows, tiles * tileTokens),
    tokenTiles: tiles,
  }));
  const next = own.length * tileTokens + 1;
  const last = (most - 1) * tileTokens;
  if (next <= last) steps.push({ tokens: tileTokens, from: next, to: last, tokenTiles: null });
  if (most > own.length) steps.push({ tokens: tileTokens, from: last + 1, to: maxRows, tokenTiles: most });
  return steps;
}

/** Whether matmulSquare has the product: it takes two groups of quantized weights at once. */
function isSquare(traits: Traits, { form, cols }: GpuMatrix): boolean {
  return streams(traits) && !isFloat(form) && groupsOf(cols) % 2 === 0;
}

/** Each number of tiles of tokens has its dispatches, all of the same kernel; of these a step runs one product and its sums. */
export function matrixDispatches(options: MatmulOptions, slots = SLOTS): Dispatch[] {
  const { traits, matrix, rows, maxRows, out, scratch } = options;
  const { form, cols, parts } = matrix;
  const subgroup = traits.subgroup!;
  const subgroups = Math.max(1, Math.min(4, Math.floor(256 / subgroup)));
  const tileTokens = subgroups * MATRIX_TILE.tokens;
  const groups = groupsOf(cols);
  const kernel = isSquare(traits, matrix) ? "matmulSquare" : "matmulMatrix";
  const values = {
    ...formValues(form),
    ...(kernel === "matmulMatrix" && { SUBGROUP: subgroup, SUBGROUPS: subgroups }),
    HAS_BIAS: matrix.bias !== null,
    OUTPUTS: rows === "outputs",
  };
  const planned = parts.flatMap((part) =>
    stepsOf(maxRows, tileTokens)
      .filter((steps) => meets(options, steps))
      .map((steps) => {
        const rowTiles = Math.ceil(part.rows / MATRIX_TILE.rows);
        // A bias is added once, by the kernel.
        const divides = steps.tokenTiles !== null && !matrix.bias;
        const tiling = divides
          ? tilingOf(rowTiles, steps.tokenTiles, groups, slots)
          : { whole: rowTiles, splits: 1 };
        return {
          part,
          steps,
          ...tiling,
          dividedRows: Math.max(0, part.rows - tiling.whole * MATRIX_TILE.rows),
        };
      }),
  );
  const floats = Math.max(
    0,
    ...planned.map(({ steps, splits, dividedRows }) => splits * steps.to * dividedRows),
  );
  const sums = scratch("splits", Math.max(LEAST_SUMS, 4 * floats));
  return planned.flatMap(({ part, steps, whole, splits, dividedRows }) => {
    const product: Dispatch = {
      label: "matmul",
      kernel: { kernel, libs: { codes: form.lib }, values },
      params: packParams(kernel, {
        rows: part.rows,
        groups,
        tokens: steps.to,
        outCols: matrix.rows,
        firstColumn: part.first,
        factorsAt: factorsAt(maxRows, cols) / 4,
        whole,
        splits,
      }),
      buffers: { ...buffersOf(options, part), out, sums },
      workgroups(step) {
        const count = countFor(options, steps, step);
        if (count === 0) return null;
        const rowTiles = Math.ceil(part.rows / MATRIX_TILE.rows);
        return [Math.ceil(count / tileTokens), whole + (rowTiles - whole) * splits, 1];
      },
      bytes: bytesOf(part),
    };
    if (splits === 1) return [product];
    const firstColumn = part.first + whole * MATRIX_TILE.rows;
    const columns = { first: firstColumn, count: dividedRows };
    return [product, sumDispatch(options, splits, { buffer: sums, room: steps.to }, steps, columns)];
  });
}
