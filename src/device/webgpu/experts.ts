/**
 * The operations of experts as dispatches: route, expertMatmul, and the sorting of picks for prompts. Pure. An entry,
 * row * picks + pick, is a row of the product; the only difference is whether it reads its own row of x or its token's.
 *
 * | weights | mode | device | kernel | input |
 * |---|---|---|---|---|
 * | any but f32 | several, batch, prompt | matrices | groupPicks; expertMatrix, tiles of one expert | f16 |
 * | quantized | decode, few, batch | other | matmulVector, an entry at a time | q8 |
 * | float | decode, few, batch | other | matmulFloat, an entry at a time | f32 |
 * | quantized | decode, few, batch | without integer dot products | matmulUnpacked, an entry at a time | f32 |
 * | any | prompt | other | groupPicks; matmulTile, tiles of one expert | f32 |
 * | quantized | prompt | 8x8x8 matrices of float32 | groupPicks; matmulTile8 | f32 |
 */
import {
  type Dispatch,
  type Mode,
  type PlannedBuffer,
  rowCount,
  type StepShape,
  spread,
} from "./dispatch.ts";
import { reduction } from "./elementwise.ts";
import { type Form, factorsAt } from "./forms.ts";
import type { Traits } from "./gpu.ts";
import { fourRowTeams, inputForm, TILE, TILE8 } from "./matmul.ts";
import type { GpuMatrix, PlacedPart } from "./matmul-options.ts";
import { packParams } from "./params.ts";
import { teams } from "./teams.ts";
import { formValues, groupsOf, isFloat } from "./weights.ts";

export interface RouteOptions {
  readonly traits: Traits;
  readonly rows: "tokens" | "outputs";
  readonly experts: number;
  readonly picks: number;
  readonly normalise: boolean;
  /** [rows, experts] f32. */
  readonly logits: PlannedBuffer;
  /** [experts] f32: factors on the weights; null: none. */
  readonly weights: PlannedBuffer | null;
  /** [rows][picks ids, picks weights] f32. */
  readonly out: PlannedBuffer;
}

export function routeDispatch(options: RouteOptions): Dispatch {
  const { traits, rows, experts, picks, normalise, logits, weights, out } = options;
  const variant = reduction(traits);
  return {
    label: "route",
    kernel: {
      kernel: "route",
      libs: { workgroupSum: variant },
      values: {
        SUBGROUP: variant === "subgroup" ? traits.subgroup! : 1,
        EXPERTS: experts,
        PICKS: picks,
        NORMALISE: normalise,
        HAS_WEIGHTS: weights !== null,
        OUTPUTS: rows === "outputs",
      },
    },
    params: packParams("route", {}),
    buffers: { logits, weights: weights ?? logits, out },
    workgroups(step) {
      const count = rowCount(rows, step);
      return count === 0 ? null : spread(count);
    },
  };
}

/** A step's picks by expert, in tiles of one expert's entries. */
export interface Sorted {
  readonly buffer: PlannedBuffer;
  readonly tile: number;
  /** The start of the list of entries, in words of the buffer. */
  readonly listAt: number;
  readonly dispatch: Dispatch;
}

export interface SortOptions {
  readonly rows: "tokens" | "outputs";
  /** Maximum rows of a step. */
  readonly maxRows: number;
  readonly experts: number;
  /** Picks of a row. */
  readonly count: number;
  readonly picks: PlannedBuffer;
  readonly tile: number;
  scratch(label: string, bytes: number): PlannedBuffer;
}

/** The maximum of tiles for `entries`: an expert's last one need not be full. */
function mostTiles(entries: number, experts: number, tile: number): number {
  const begun = Math.min(entries, experts);
  return begun + Math.floor((entries - begun) / tile);
}

export function sortPicks(options: SortOptions): Sorted {
  const { rows, maxRows, experts, count, picks, tile, scratch } = options;
  const entries = maxRows * count;
  const listAt = 4 + 4 * mostTiles(entries, experts, tile);
  const sorted = scratch("sorted picks", (listAt + entries) * 4);
  const dispatch: Dispatch = {
    label: "groupPicks",
    kernel: {
      kernel: "groupPicks",
      values: { EXPERTS: experts, PICKS: count, TILE: tile, OUTPUTS: rows === "outputs" },
    },
    params: packParams("groupPicks", { listAt }),
    buffers: { picks, sorted },
    workgroups: (step) => (rowCount(rows, step) === 0 ? null : [1, 1, 1]),
  };
  return { buffer: sorted, tile, listAt, dispatch };
}

/** Entries of a tile, in both kernels for prompts. */
export const TILE_ENTRIES = 32;

/** Whether the kernels for a mode and an input need picks by expert. */
export function sortsPicks(mode: Mode, form: Form): boolean {
  return mode === "prompt" || form === "f16";
}

export interface ExpertOptions {
  readonly traits: Traits;
  readonly mode: Mode;
  /** The matrices of all experts, one after another; parts begin with an expert. */
  readonly matrix: GpuMatrix;
  readonly experts: number;
  /** Picks of a row. */
  readonly count: number;
  readonly picks: PlannedBuffer;
  readonly rows: "tokens" | "outputs";
  /** Maximum rows of a step. */
  readonly maxRows: number;
  readonly x: { readonly form: Form; readonly buffer: PlannedBuffer };
  /** All picks of a row read the same of x, which is [rows, cols]; otherwise it is [rows, count * cols]. */
  readonly shared: boolean;
  /** f32 [rows, count * rows of an expert]. */
  readonly out: PlannedBuffer;
  /** For prompts. */
  readonly sorted: Sorted | null;
  /** Bound where a kernel writes nothing. */
  readonly spare: PlannedBuffer;
}

/** The form in which products of experts need their input; several rows count as a batch. */
export function expertForm(traits: Traits, matrix: GpuMatrix, mode: Mode): Form {
  return inputForm(traits, matrix, mode === "several" ? "batch" : mode);
}

/** out = x times the rows of each row's picked experts; one dispatch for each part. */
export function expertDispatches(options: ExpertOptions): Dispatch[] {
  const { matrix, mode, sorted, x } = options;
  const wanted = expertForm(options.traits, matrix, mode);
  if (x.form !== wanted)
    throw new Error(`a product of experts in mode ${mode} needs its input as ${wanted}, not ${x.form}`);
  return matrix.parts.map((part) => {
    if (wanted === "f16") return matrixDispatch(options, part, sorted!);
    if (mode === "prompt") return tileDispatch(options, part, sorted!);
    if (isFloat(matrix.form)) return floatDispatch(options, part);
    return wanted === "f32" ? unpackedDispatch(options, part) : vectorDispatch(options, part);
  });
}

/** Common to all kernels. Unused bindings get a buffer that is only read. */
function common({ matrix, experts, out, x }: ExpertOptions, part: PlacedPart) {
  const rows = matrix.rows / experts;
  return {
    params: {
      rows,
      groups: groupsOf(matrix.cols),
      outCols: rows,
      firstColumn: 0,
      partFirst: part.first,
      partRows: part.rows,
    },
    buffers: { codes: part.codes, x: x.buffer, bias: matrix.bias ?? part.codes, out },
    scales: part.scales ?? part.codes,
  };
}

/** Upper bound for the bytes of the experts in this part that a step's rows pick. */
function bytesOf({ rows, count, experts, matrix }: ExpertOptions, part: PlacedPart) {
  const each = (part.codesBytes + part.scalesBytes) / (part.rows / (matrix.rows / experts));
  const share = part.rows / matrix.rows;
  return (step: StepShape) => each * share * Math.min(experts, rowCount(rows, step) * count);
}

/**
 * Rows of weights of a team, and groups of each that a lane has in flight: four together if experts' rows are so short
 * that a lane has one or two groups of a row; otherwise as matmulVector does for one matrix. Not measured.
 */
function vectorShape(groups: number, team: number) {
  if (groups <= team) return { ROWS: 4, UNROLL: 1 };
  return { ROWS: groups <= 2 * team ? 2 : 1, UNROLL: 2 };
}

function vectorDispatch(options: ExpertOptions, part: PlacedPart): Dispatch {
  const { traits, matrix, experts, count, picks, rows, shared } = options;
  const { form } = matrix;
  const { params, buffers, scales } = common(options, part);
  const workgroup = Math.max(32, traits.subgroup ?? 64);
  const { team, subgroup, libs } = teams(traits, workgroup, 1);
  const shape = vectorShape(params.groups, team);
  const each = (workgroup / team) * shape.ROWS;
  return {
    label: "expertMatmul",
    kernel: {
      kernel: "matmulVector",
      libs: { ...libs, codes: form.lib },
      values: {
        ...formValues(form),
        WORKGROUP: workgroup,
        TEAM: team,
        SUBGROUP: subgroup,
        ...shape,
        HAS_BIAS: matrix.bias !== null,
        EXPERTS: experts,
        PICKS: count,
      },
    },
    params: packParams("matmulVector", {
      ...{ ...params, epsilon: 0, factor: 1, gateRow: 0, upRow: 0, limit: 0 },
      xGroups: params.groups * (shared ? 1 : count),
      pickGroups: shared ? 0 : params.groups,
    }),
    buffers: { ...buffers, scales, picks, gain: options.x.buffer, sum: options.spare },
    workgroups: entries(rows, count, Math.ceil(params.rows / each)),
    bytes: bytesOf(options, part),
  };
}

function unpackedDispatch(options: ExpertOptions, part: PlacedPart): Dispatch {
  const { traits, matrix, experts, count, picks, rows, shared } = options;
  const { params, buffers, scales } = common(options, part);
  const shape = fourRowTeams(traits);
  const each = (shape.workgroup / shape.team) * shape.rows;
  return {
    label: "expertMatmul",
    kernel: {
      kernel: "matmulUnpacked",
      libs: { ...shape.libs, codes: matrix.form.lib },
      values: {
        ...formValues(matrix.form),
        WORKGROUP: shape.workgroup,
        TEAM: shape.team,
        SUBGROUP: shape.subgroup,
        HAS_BIAS: matrix.bias !== null,
        EXPERTS: experts,
        PICKS: count,
        SHARED: shared ? count : 1,
      },
    },
    params: packParams("matmulUnpacked", params),
    buffers: { ...buffers, scales, picks },
    workgroups: entries(rows, count, Math.ceil(params.rows / each)),
    bytes: bytesOf(options, part),
  };
}

function floatDispatch(options: ExpertOptions, part: PlacedPart): Dispatch {
  const { traits, matrix, experts, count, picks, rows, shared } = options;
  const { params, buffers } = common(options, part);
  const shape = teams(traits, 128, 2);
  const each = (shape.workgroup / shape.team) * shape.rows;
  return {
    label: "expertMatmul",
    kernel: {
      kernel: "matmulFloat",
      libs: shape.libs,
      values: {
        CODES: formValues(matrix.form).CODES,
        WORKGROUP: shape.workgroup,
        TEAM: shape.team,
        SUBGROUP: shape.subgroup,
        ROWS: shape.rows,
        TOKENS: 1,
        OUTPUTS: rows === "outputs",
        HAS_BIAS: matrix.bias !== null,
        ALIGNED: matrix.cols % 4 === 0,
        EXPERTS: experts,
        PICKS: count,
        SHARED: shared,
      },
    },
    params: packParams("matmulFloat", { ...params, cols: matrix.cols }),
    buffers: { ...buffers, picks },
    workgroups: entries(rows, count, Math.ceil(params.rows / each)),
    bytes: bytesOf(options, part),
  };
}

function tileDispatch(options: ExpertOptions, part: PlacedPart, sorted: Sorted): Dispatch {
  const { traits, matrix, count, shared } = options;
  const { params, buffers, scales } = common(options, part);
  const eights = traits.matrices8 && !isFloat(matrix.form);
  // Tiles contain their number of entries.
  const all = { ...params, tokens: 1, listAt: sorted.listAt };
  return {
    label: "expertMatmul",
    kernel: {
      kernel: eights ? "matmulTile8" : "matmulTile",
      libs: { codes: matrix.form.lib },
      values: {
        ...formValues(matrix.form),
        HAS_BIAS: matrix.bias !== null,
        ...(eights ? {} : { ALIGNED: matrix.cols % 4 === 0 }),
        EXPERTS: true,
        SHARED: shared ? count : 1,
      },
    },
    params: eights ? packParams("matmulTile8", all) : packParams("matmulTile", { ...all, cols: matrix.cols }),
    buffers: { ...buffers, scales, sorted: sorted.buffer },
    workgroups(step) {
      const tiles = tilesOf(options, sorted, step);
      return tiles === 0 ? null : [Math.ceil(params.rows / (eights ? TILE8 : TILE.rows)), tiles, 1];
    },
    bytes: bytesOf(options, part),
  };
}

/**
 * A workgroup of expertMatrix has 32 rows of an expert for each subgroup; its lanes load a tile of 32 entries, at least
 * one item each.
 */
const subgroupsOf = (subgroup: number) => Math.min(4, Math.max(1, Math.floor(128 / subgroup)));

function matrixDispatch(options: ExpertOptions, part: PlacedPart, sorted: Sorted): Dispatch {
  const { traits, matrix, count, shared, maxRows } = options;
  const { params, buffers, scales } = common(options, part);
  const { rows: expertRows, groups, partFirst, partRows } = params;
  const subgroups = subgroupsOf(traits.subgroup!);
  return {
    label: "expertMatmul",
    kernel: {
      kernel: "expertMatrix",
      libs: { codes: matrix.form.lib },
      values: {
        ...formValues(matrix.form),
        SUBGROUP: traits.subgroup!,
        SUBGROUPS: subgroups,
        PICKS: count,
        SHARED: shared,
        HAS_BIAS: matrix.bias !== null,
      },
    },
    params: packParams("expertMatrix", {
      rows: expertRows,
      groups,
      partFirst,
      partRows,
      listAt: sorted.listAt,
      factorsAt: factorsAt(maxRows, matrix.cols * (shared ? 1 : count)) / 4,
    }),
    buffers: { ...buffers, scales, sorted: sorted.buffer },
    workgroups(step) {
      const tiles = tilesOf(options, sorted, step);
      return tiles === 0 ? null : [tiles, Math.ceil(expertRows / (32 * subgroups)), 1];
    },
    bytes: bytesOf(options, part),
  };
}

/** Tiles of a step; those that its picks do not fill end at once. */
function tilesOf({ rows, count, experts }: ExpertOptions, { tile }: Sorted, step: StepShape): number {
  return mostTiles(rowCount(rows, step) * count, experts, tile);
}

/** Workgroups for each entry of a step. */
function entries(rows: "tokens" | "outputs", count: number, each: number) {
  const [x, y] = spread(each);
  return (step: StepShape) => {
    const all = rowCount(rows, step) * count;
    return all === 0 ? null : ([x, y, all] as const);
  };
}
