/**
 * Matrix products and embeddings as dispatches: which kernel serves a block of weights for how many tokens, its values and
 * workgroups, and the form in which it wants its input. Pure. Refuses to know graphs and GPU objects.
 *
 * | weights | tokens | device | kernel | input |
 * |---|---|---|---|---|
 * | quantized | up to 4 | any | matmulVector | q8 |
 * | float | up to 4 | any | matmulFloat | f32 |
 * | any but f32 | more | matrices | matmulMatrix | f16 |
 * | any | more | other | matmulTile | f32 |
 */
import { type Buffer, type Dispatch, rowCount, type StepShape, spread } from "./dispatch.ts";
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
  /** Most rows of a step; x and out have room for them. */
  readonly maxRows: number;
  /** f32 [maxRows][block.rows] */
  readonly out: Buffer;
}

/** Tokens up to which the vector kernels serve: beyond, expanding weights once for many tokens is cheaper. */
const VECTOR_TOKENS = 4;

/** The form in which the product wants its input. */
export function inputForm(traits: Traits, block: Pick<WeightBlock, "form" | "cols">, maxRows: number): Form {
  const { form, cols } = block;
  if (maxRows <= VECTOR_TOKENS) return isFloat(form) ? "f32" : "q8";
  // Rows of f16 have no padding: columns must be whole groups.
  return traits.matrices && form.codes !== "f32" && cols % GROUP === 0 ? "f16" : "f32";
}

/** out = x times the block's rows; each part takes one dispatch of those that a step needs. */
export function matmulDispatches(options: MatmulOptions): Dispatch[] {
  const { traits, block, maxRows, x } = options;
  const wanted = inputForm(traits, block, maxRows);
  if (x.form !== wanted) throw new Error(`a product of ${maxRows} rows wants ${wanted}, not ${x.form}`);
  const few = isFloat(block.form) ? floatDispatch : vectorDispatch;
  if (wanted === "f16") return block.parts.flatMap((part) => matrixDispatches(options, part));
  const make = maxRows <= VECTOR_TOKENS ? few : tileDispatch;
  return block.parts.map((part) => make(options, part));
}

/** The buffers that all kernels have. An unused binding gets one that is only read. */
function buffersOf({ block, x, out }: MatmulOptions, { codes, scales }: PlacedPart) {
  return { codes, scales: scales ?? codes, x: x.buffer, bias: block.bias ?? codes, out };
}

const bytesOf = (part: Part) => () => part.codesBytes + part.scalesBytes;

interface TeamShape {
  workgroup: number;
  team: number;
  subgroup: number;
  rows: number;
  libs: { teamSum: "subgroup" | "shared" };
}

/** A team is a subgroup where there is one; rows: of weights a team. */
function teams({ subgroup }: Traits, workgroup: number, rows: number): TeamShape {
  if (subgroup !== null && subgroup <= workgroup)
    return { workgroup, team: subgroup, subgroup, rows, libs: { teamSum: "subgroup" } };
  return { workgroup, team: 32, subgroup: 1, rows, libs: { teamSum: "shared" } };
}

function teamValues(options: MatmulOptions, shape: TeamShape): KernelValues {
  const { block, maxRows } = options;
  return {
    WORKGROUP: shape.workgroup,
    TEAM: shape.team,
    SUBGROUP: shape.subgroup,
    ROWS: shape.rows,
    TOKENS: maxRows,
    HAS_BIAS: block.bias !== null,
  };
}

function teamWorkgroups({ rows }: MatmulOptions, part: Part, shape: TeamShape) {
  const each = (shape.workgroup / shape.team) * shape.rows;
  return (step: StepShape) => (rowCount(rows, step) === 0 ? null : spread(Math.ceil(part.rows / each)));
}

/**
 * A subgroup a workgroup and one row for it, two groups a lane in flight: within 2 % of the best of 50 settings for six
 * shapes from 4096x14336 to 57344x8192 (46.2 us for 28672x8192 q4_0 on H100, 2026-11-23, bench row matmulVector). More
 * rows a team share the activations, but those lie in the nearest cache anyway.
 */
function vectorDispatch(options: MatmulOptions, part: PlacedPart): Dispatch {
  const { traits, block, maxRows } = options;
  const { form } = block;
  const shape = teams(traits, Math.max(32, traits.subgroup ?? 64), maxRows > 1 ? 2 : 1);
  return {
    label: "matmul",
    kernel: {
      kernel: "matmulVector",
      libs: { ...shape.libs, codes: form.table ? "table" : "plain" },
      values: { ...formValues(form), ...teamValues(options, shape), UNROLL: maxRows > 1 ? 1 : 2 },
    },
    params: packParams("matmulVector", {
      rows: part.rows,
      groups: groupsOf(block.cols),
      outCols: block.rows,
      firstColumn: part.first,
    }),
    buffers: buffersOf(options, part),
    workgroups: teamWorkgroups(options, part, shape),
    bytes: bytesOf(part),
  };
}

function floatDispatch(options: MatmulOptions, part: PlacedPart): Dispatch {
  const { traits, block } = options;
  const shape = teams(traits, 128, 2);
  const { codes, x, bias, out } = buffersOf(options, part);
  return {
    label: "matmul",
    kernel: {
      kernel: "matmulFloat",
      libs: shape.libs,
      values: {
        CODES: formValues(block.form).CODES,
        ...teamValues(options, shape),
        ALIGNED: block.cols % 4 === 0,
      },
    },
    params: packParams("matmulFloat", {
      rows: part.rows,
      cols: block.cols,
      groups: groupsOf(block.cols),
      outCols: block.rows,
      firstColumn: part.first,
    }),
    buffers: { codes, x, bias, out },
    workgroups: teamWorkgroups(options, part, shape),
    bytes: bytesOf(part),
  };
}

const TILE = { rows: 64, tokens: 32 };

function tileDispatch(options: MatmulOptions, part: PlacedPart): Dispatch {
  const { block, rows, maxRows } = options;
  return {
    label: "matmul",
    kernel: {
      kernel: "matmulTile",
      libs: { codes: block.form.table ? "table" : "plain" },
      values: { ...formValues(block.form), HAS_BIAS: block.bias !== null, ALIGNED: block.cols % 4 === 0 },
    },
    params: packParams("matmulTile", {
      rows: part.rows,
      cols: block.cols,
      groups: groupsOf(block.cols),
      tokens: maxRows,
      outCols: block.rows,
      firstColumn: part.first,
    }),
    buffers: buffersOf(options, part),
    workgroups(step) {
      const count = rowCount(rows, step);
      return count === 0 ? null : [Math.ceil(part.rows / TILE.rows), Math.ceil(count / TILE.tokens), 1];
    },
    bytes: bytesOf(part),
  };
}

/** Rows of a workgroup of matmulMatrix, and tokens of each of its subgroups. */
const MATRIX_TILE = { rows: 128, tokens: 32 };

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
      libs: { codes: form.table ? "table" : "plain" },
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
  /** [tokens] u32 */
  readonly ids: Buffer;
  readonly scale: number;
  /** [tokens][cols] f32 */
  readonly out: Buffer;
}

/** out = table[id] * scale; one dispatch a part, each writing the tokens whose rows it holds. */
export function embedDispatches({ block, ids, scale, out }: EmbedOptions): Dispatch[] {
  const groups = groupsOf(block.cols);
  return block.parts.map((part) => ({
    label: "embed",
    kernel: {
      kernel: "embed",
      libs: { codes: block.form.table ? "table" : "plain" },
      values: formValues(block.form),
    },
    params: packParams("embed", { first: part.first, rows: part.rows, cols: block.cols, groups, scale }),
    buffers: { ids, codes: part.codes, scales: part.scales ?? part.codes, out },
    workgroups: ({ tokens }) => [Math.ceil(groups / 32), tokens, 1],
  }));
}
