/**
 * Matrix products and embeddings as dispatches: which kernel serves a block of weights for how many tokens, its values and
 * workgroups, and the form in which it wants its input. Pure. Refuses to know graphs and GPU objects.
 *
 * | weights | mode | device | kernel | input |
 * |---|---|---|---|---|
 * | quantized | decode | any | matmulVector | q8 |
 * | any but f32 | batch | matrices | matmulBatch, sumSplits | f16 |
 * | any but f32 | prompt | matrices | matmulMatrix | f16 |
 * | quantized | few, batch | other | matmulFew | q8 |
 * | float | decode, few, batch | other | matmulFloat | f32 |
 * | any | prompt | other | matmulTile | f32 |
 */
import {
  type Buffer,
  type Dispatch,
  type Mode,
  rowCount,
  type StepShape,
  spread,
  type Workgroups,
} from "./dispatch.ts";
import { type Form, factorsAt } from "./forms.ts";
import type { Traits } from "./gpu.ts";
import { formValues, GROUP, groupsOf, isFloat, type Part, type WeightForm } from "./weights.ts";
import { type KernelValues, packParams } from "./wgsl.ts";

/** A part with its buffers. `scales` is null for floats. */
export interface PlacedPart extends Part {
  readonly codes: Buffer;
  readonly scales: Buffer | null;
}

/** Matrices of one input, one below the other: weights.ts says what lies in the parts. */
export interface WeightBlock {
  readonly form: WeightForm;
  readonly cols: number;
  /** Of all matrices together. */
  readonly rows: number;
  readonly parts: readonly PlacedPart[];
  /** [rows] f32, or null. */
  readonly bias: Buffer | null;
}

export interface MatmulOptions {
  readonly traits: Traits;
  readonly block: WeightBlock;
  readonly x: { readonly form: Form; readonly buffer: Buffer };
  readonly rows: "tokens" | "outputs";
  readonly mode: Mode;
  /** Most rows of a step in this mode; x and out have room for them. */
  readonly maxRows: number;
  /** f32 [maxRows][block.rows] */
  readonly out: Buffer;
  /** A new activation. */
  scratch(label: string, bytes: number): Buffer;
}

/** The form in which the product wants its input. */
export function inputForm(traits: Traits, block: Pick<WeightBlock, "form" | "cols">, mode: Mode): Form {
  const { form, cols } = block;
  // Rows of f16 have no padding: columns must be whole groups.
  const multiplies = traits.matrices && form.codes !== "f32" && cols % GROUP === 0;
  if (multiplies && (mode === "batch" || mode === "prompt")) return "f16";
  return mode === "prompt" || isFloat(form) ? "f32" : "q8";
}

/** out = x times the block's rows; each part takes one dispatch of those that a step needs. */
export function matmulDispatches(options: MatmulOptions): Dispatch[] {
  const { traits, block, mode, x } = options;
  const wanted = inputForm(traits, block, mode);
  if (x.form !== wanted) throw new Error(`a product of mode ${mode} wants ${wanted}, not ${x.form}`);
  if (wanted === "f16" && mode === "batch") return batchDispatches(options);
  if (wanted === "f16") return block.parts.flatMap((part) => matrixDispatches(options, part));
  if (mode === "prompt") return block.parts.map((part) => tileDispatch(options, part));
  if (isFloat(block.form))
    return block.parts.flatMap((part) =>
      FLOAT_TOKENS.flatMap((serves) => floatDispatch(options, part, serves)),
    );
  return block.parts.flatMap((part) => [
    vectorDispatch(options, part),
    ...(mode !== "decode" ? FEW_TOKENS.flatMap((serves) => fewDispatch(options, part, serves)) : []),
  ]);
}

/** Tokens of one workgroup of a kernel, and the counts of a step that it serves. */
interface TokenShape {
  readonly tokens: number;
  readonly from: number;
  readonly to: number;
}

const ONE_TOKEN: TokenShape = { tokens: 1, from: 1, to: 1 };
/** More tokens share the weights that are read, until sums take too many registers; bench rows `step` of h100.jsonl. */
const FEW_TOKENS: readonly TokenShape[] = [
  { tokens: 2, from: 2, to: 2 },
  { tokens: 4, from: 3, to: 4 },
  { tokens: 8, from: 5, to: 8 },
  { tokens: 16, from: 9, to: Number.POSITIVE_INFINITY },
];
const FLOAT_TOKENS: readonly TokenShape[] = [ONE_TOKEN, { tokens: 4, from: 2, to: Number.POSITIVE_INFINITY }];

/** Whether steps of this mode have as many rows. Outputs of few rows may be one. */
function meets({ mode, maxRows }: MatmulOptions, { from }: TokenShape): boolean {
  return from <= maxRows && (mode !== "decode" || from === 1);
}

/** The buffers that all kernels have. An unused binding gets one that is only read. */
function buffersOf({ block, x, out }: MatmulOptions, { codes, scales }: PlacedPart) {
  return { codes, scales: scales ?? codes, x: x.buffer, bias: block.bias ?? codes, out };
}

/** Params of kernels that serve experts, too (experts.ts). */
const NO_EXPERTS = { partFirst: 0, partRows: 0 };

const bytesOf = (part: Part) => () => part.codesBytes + part.scalesBytes;

export interface TeamShape {
  workgroup: number;
  team: number;
  subgroup: number;
  /** Of weights, of one team. */
  rows: number;
  libs: { teamSum: "subgroup" | "shared" };
}

/** A team is a subgroup where there is one; rows: of weights a team. */
export function teams({ subgroup }: Traits, workgroup: number, rows: number): TeamShape {
  if (subgroup !== null && subgroup <= workgroup)
    return { workgroup, team: subgroup, subgroup, rows, libs: { teamSum: "subgroup" } };
  return { workgroup, team: 32, subgroup: 1, rows, libs: { teamSum: "shared" } };
}

function teamValues({ block, rows }: MatmulOptions, shape: TeamShape, { tokens }: TokenShape): KernelValues {
  return {
    WORKGROUP: shape.workgroup,
    TEAM: shape.team,
    SUBGROUP: shape.subgroup,
    TOKENS: tokens,
    OUTPUTS: rows === "outputs",
    HAS_BIAS: block.bias !== null,
  };
}

function teamWorkgroups({ rows }: MatmulOptions, part: Part, shape: TeamShape, serves: TokenShape) {
  const each = (shape.workgroup / shape.team) * shape.rows;
  return (step: StepShape): Workgroups | null => {
    const count = rowCount(rows, step);
    if (count < serves.from || count > serves.to) return null;
    const [x, y] = spread(Math.ceil(part.rows / each));
    return [x, y, Math.ceil(count / serves.tokens)];
  };
}

/**
 * A subgroup a workgroup and one row for it, two groups a lane in flight: within 2 % of the best of 50 settings for six
 * shapes from 4096x14336 to 57344x8192 (46.2 us for 28672x8192 q4_0 on H100, 2026-11-23, bench row matmulVector). More
 * rows a team share the activations, but those lie in the nearest cache anyway.
 */
function vectorDispatch(options: MatmulOptions, part: PlacedPart): Dispatch {
  const { traits, block } = options;
  const { form } = block;
  const shape = teams(traits, Math.max(32, traits.subgroup ?? 64), 1);
  return {
    label: "matmul",
    kernel: {
      kernel: "matmulVector",
      libs: { ...shape.libs, codes: form.lib },
      values: {
        ...formValues(form),
        WORKGROUP: shape.workgroup,
        TEAM: shape.team,
        SUBGROUP: shape.subgroup,
        ROWS: shape.rows,
        UNROLL: 2,
        HAS_BIAS: block.bias !== null,
      },
    },
    params: packParams("matmulVector", {
      rows: part.rows,
      groups: groupsOf(block.cols),
      outCols: block.rows,
      firstColumn: part.first,
      ...NO_EXPERTS,
      xGroups: 0,
      pickGroups: 0,
    }),
    buffers: { ...buffersOf(options, part), picks: options.x.buffer },
    workgroups: teamWorkgroups(options, part, shape, ONE_TOKEN),
    bytes: bytesOf(part),
  };
}

/** Rows of weights of a team of matmulFew. */
const FEW_TEAM_ROWS = 4;

function fewDispatch(options: MatmulOptions, part: PlacedPart, serves: TokenShape): Dispatch[] {
  const { traits, block } = options;
  const { form } = block;
  if (!meets(options, serves)) return [];
  const shape = teams(traits, Math.max(32, traits.subgroup ?? 64), FEW_TEAM_ROWS);
  return [
    {
      label: "matmul",
      kernel: {
        kernel: "matmulFew",
        libs: { ...shape.libs, codes: form.lib },
        values: { ...formValues(form), ...teamValues(options, shape, serves) },
      },
      params: packParams("matmulFew", {
        rows: part.rows,
        groups: groupsOf(block.cols),
        outCols: block.rows,
        firstColumn: part.first,
      }),
      buffers: buffersOf(options, part),
      workgroups: teamWorkgroups(options, part, shape, serves),
      bytes: bytesOf(part),
    },
  ];
}

function floatDispatch(options: MatmulOptions, part: PlacedPart, serves: TokenShape): Dispatch[] {
  const { traits, block } = options;
  if (!meets(options, serves)) return [];
  // Of few long rows, such as a router's, a whole workgroup each: otherwise few of a GPU's cores would read anything.
  const isShort = part.rows <= 1024 && block.cols >= 1024;
  const shape = isShort ? { ...teams(traits, 128, 1), team: 128 } : teams(traits, 128, 2);
  const { codes, x, bias, out } = buffersOf(options, part);
  return [
    {
      label: "matmul",
      kernel: {
        kernel: "matmulFloat",
        libs: shape.libs,
        values: {
          CODES: formValues(block.form).CODES,
          ...teamValues(options, shape, serves),
          ROWS: shape.rows,
          ALIGNED: block.cols % 4 === 0,
        },
      },
      params: packParams("matmulFloat", {
        rows: part.rows,
        cols: block.cols,
        groups: groupsOf(block.cols),
        outCols: block.rows,
        firstColumn: part.first,
        ...NO_EXPERTS,
      }),
      buffers: { codes, x, bias, out, picks: x },
      workgroups: teamWorkgroups(options, part, shape, serves),
      bytes: bytesOf(part),
    },
  ];
}

/** Of matmulTile. */
export const TILE = { rows: 64, tokens: 32 };

function tileDispatch(options: MatmulOptions, part: PlacedPart): Dispatch {
  const { block, rows, maxRows } = options;
  return {
    label: "matmul",
    kernel: {
      kernel: "matmulTile",
      libs: { codes: block.form.lib },
      values: { ...formValues(block.form), HAS_BIAS: block.bias !== null, ALIGNED: block.cols % 4 === 0 },
    },
    params: packParams("matmulTile", {
      rows: part.rows,
      cols: block.cols,
      groups: groupsOf(block.cols),
      tokens: maxRows,
      outCols: block.rows,
      firstColumn: part.first,
      ...NO_EXPERTS,
      listAt: 0,
    }),
    buffers: { ...buffersOf(options, part), sorted: options.x.buffer },
    workgroups(step) {
      const count = rowCount(rows, step);
      return count === 0 ? null : [Math.ceil(part.rows / TILE.rows), Math.ceil(count / TILE.tokens), 1];
    },
    bytes: bytesOf(part),
  };
}

/** Rows of a workgroup of matmulMatrix, and tokens of each of its subgroups. */
const MATRIX_TILE = { rows: 128, tokens: 32 };

/** Workgroups of matmulBatch that fill a GPU: three on each of an H100's 132 cores, as its memory allows. */
const BATCH_WORKGROUPS = 396;
/** A split of fewer groups is over before it has begun. */
const LEAST_GROUPS = 8;

/** Columns in splits, and their sum where there are several. */
function batchDispatches(options: MatmulOptions): Dispatch[] {
  const { traits, block, rows, maxRows, out } = options;
  const { form } = block;
  const tiles = block.parts.reduce((sum, part) => sum + Math.ceil(part.rows / MATRIX_TILE.rows), 0);
  const groups = groupsOf(block.cols);
  const most = Math.max(1, Math.floor(groups / LEAST_GROUPS));
  const splits = Math.max(1, Math.min(most, Math.round(BATCH_WORKGROUPS / tiles)));
  const bytes = splits * maxRows * block.rows * 4;
  const sums = splits > 1 ? options.scratch("splits", bytes) : out;
  const OUTPUTS = rows === "outputs";
  const HAS_BIAS = block.bias !== null;
  const products = block.parts.map(
    (part): Dispatch => ({
      label: "matmul",
      kernel: {
        kernel: "matmulBatch",
        libs: { codes: form.lib },
        values: { ...formValues(form), SUBGROUP: traits.subgroup!, OUTPUTS, SPLITS: splits, HAS_BIAS },
      },
      params: packParams("matmulBatch", {
        rows: part.rows,
        groups,
        tokens: maxRows,
        outCols: block.rows,
        firstColumn: part.first,
        factorsAt: factorsAt(maxRows, block.cols) / 4,
      }),
      buffers: { ...buffersOf(options, part), out: sums },
      workgroups(step) {
        const count = rowCount(rows, step);
        if (count === 0) return null;
        return [Math.ceil(count / MATRIX_TILE.tokens), Math.ceil(part.rows / MATRIX_TILE.rows), splits];
      },
      bytes: bytesOf(part),
    }),
  );
  if (splits === 1) return products;
  const sum: Dispatch = {
    label: "sumSplits",
    kernel: { kernel: "sumSplits", values: { SPLITS: splits, OUTPUTS, HAS_BIAS } },
    params: packParams("sumSplits", { cols: block.rows, tokens: maxRows }),
    buffers: { splits: sums, bias: block.bias ?? sums, out },
    workgroups(step) {
      const count = rowCount(rows, step) * block.rows;
      return count === 0 ? null : spread(Math.ceil(count / 64));
    },
  };
  return [...products, sum];
}

/**
 * Workgroups from which on wide tiles (four subgroups) beat narrow ones (two); an H100 has 132 multiprocessors. Microseconds
 * wide and narrow: 896 wide workgroups 1120 and 1438, 224: 304 and 461, 128: 909 and 753, 64: 927 and 754
 * (28672x8192 q4_0 x 512 and x 128, 8192x28672 x 256 and x 128, 2026-11-23, bench row matmulMatrix).
 */
const WIDE_WORKGROUPS = 192;

/** Two dispatches where some steps are too short for wide tiles; each step runs one of them. */
function matrixDispatches(options: MatmulOptions, part: PlacedPart): Dispatch[] {
  const { traits, block, rows, maxRows } = options;
  const { form } = block;
  const subgroup = traits.subgroup!;
  const most = Math.max(1, Math.min(4, Math.floor(256 / subgroup)));
  const rowTiles = Math.ceil(part.rows / MATRIX_TILE.rows);
  const isWide = (tokens: number) =>
    rowTiles * Math.ceil(tokens / (most * MATRIX_TILE.tokens)) >= WIDE_WORKGROUPS;
  const dispatch = (subgroups: number, serves: (tokens: number) => boolean): Dispatch => ({
    label: "matmul",
    kernel: {
      kernel: "matmulMatrix",
      libs: { codes: form.lib },
      values: {
        ...formValues(form),
        SUBGROUP: subgroup,
        SUBGROUPS: subgroups,
        HAS_BIAS: block.bias !== null,
        OUTPUTS: rows === "outputs",
      },
    },
    params: packParams("matmulMatrix", {
      rows: part.rows,
      groups: groupsOf(block.cols),
      tokens: maxRows,
      outCols: block.rows,
      firstColumn: part.first,
      factorsAt: factorsAt(maxRows, block.cols) / 4,
    }),
    buffers: buffersOf(options, part),
    workgroups(step) {
      const count = rowCount(rows, step);
      if (count === 0 || !serves(count)) return null;
      return [Math.ceil(count / (subgroups * MATRIX_TILE.tokens)), rowTiles, 1];
    },
    bytes: bytesOf(part),
  });
  const wide = dispatch(most, isWide);
  const narrow = dispatch(Math.max(1, most / 2), (tokens) => !isWide(tokens));
  return [...(isWide(1) ? [] : [narrow]), ...(isWide(maxRows) ? [wide] : [])];
}

export interface EmbedOptions {
  readonly block: WeightBlock;
  /** [texts] u32: what was chosen last for each. */
  readonly chosen: Buffer;
  readonly batch: Buffer;
  readonly scale: number;
  /** [tokens][cols] f32 */
  readonly out: Buffer;
}

/** out = table[id] * scale; one dispatch a part, each writing the tokens whose rows it holds. */
export function embedDispatches({ block, chosen, batch, scale, out }: EmbedOptions): Dispatch[] {
  const groups = groupsOf(block.cols);
  return block.parts.map((part) => ({
    label: "embed",
    kernel: {
      kernel: "embed",
      libs: { codes: block.form.lib },
      values: formValues(block.form),
    },
    params: packParams("embed", { first: part.first, rows: part.rows, cols: block.cols, groups, scale }),
    buffers: { chosen, batch, codes: part.codes, scales: part.scales ?? part.codes, out },
    workgroups: ({ tokens }) => (tokens === 0 ? null : [Math.ceil(groups / 32), tokens, 1]),
  }));
}
