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
import type { Activation } from "../contract.ts";
import { type Buffer, type Dispatch, type StepShape, spread } from "./dispatch.ts";
import type { Form } from "./forms.ts";
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
  /** Of all matrices together; a gated block's gate and up both count. */
  readonly rows: number;
  /** Parts hold gate rows and up rows side by side. */
  readonly gated: boolean;
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
  /** out = activation(gate) * up in this form; for gated blocks only. null: all rows as they are. */
  readonly gated: { readonly activation: Activation; readonly form: Form } | null;
  /** f32 [maxRows][block.rows]; gated: [maxRows][block.rows / 2] in the form asked for. */
  readonly out: Buffer;
}

/** Tokens up to which the vector kernels serve: beyond, expanding weights once for many tokens is cheaper. */
const VECTOR_TOKENS = 4;

/** The form in which the product wants its input. */
export function inputForm(traits: Traits, block: Pick<WeightBlock, "form" | "cols">, maxRows: number): Form {
  const { form, cols } = block;
  if (maxRows <= VECTOR_TOKENS) return isFloat(form) ? "f32" : "q8";
  // f16 rows have no padding: columns must be whole groups.
  return traits.matrices && form.codes !== "f32" && cols % GROUP === 0 ? "f16" : "f32";
}

/**
 * out = x times the block's rows; one dispatch a part. null: this product cannot be gated in one go (more than one token
 * where results go through matrices, or q8 results that are no whole groups); ask without `gated`, then gate.
 */
export function matmulDispatches(options: MatmulOptions): Dispatch[] | null {
  const { traits, block, maxRows, gated } = options;
  const vector = maxRows <= VECTOR_TOKENS;
  if (gated) {
    const whole = block.parts.every(({ first, rows }) => first % GROUP === 0 && rows % (2 * GROUP) === 0);
    const possible =
      gated.form === "f32" || (gated.form === "q8" && whole && !isFloat(block.form) && maxRows === 1);
    // A bias would have to come before the activation; no model has one there.
    if (!vector || !block.gated || block.bias || !possible) return null;
  }
  const wanted = inputForm(traits, block, maxRows);
  if (options.x.form !== wanted)
    throw new Error(`a product of ${maxRows} rows wants ${wanted}, not ${options.x.form}`);
  const make = vector
    ? isFloat(block.form)
      ? floatDispatch
      : vectorDispatch
    : wanted === "f16"
      ? matrixDispatch
      : tileDispatch;
  return block.parts.map((part) => make(options, part));
}

/** Where the rows of a part go: row r to column r + firstColumn of out, from `split` on to r + secondColumn. */
function columns({ block, gated }: MatmulOptions, { first, rows }: Part) {
  const outCols = gated ? block.rows / 2 : block.rows;
  if (!block.gated || gated) return { outCols, split: 0xffff_ffff, firstColumn: first, secondColumn: first };
  const half = rows / 2;
  return { outCols, split: half, firstColumn: first, secondColumn: block.rows / 2 + first - half };
}

function rowCount(rows: "tokens" | "outputs", step: StepShape): number {
  return rows === "tokens" ? step.tokens : step.outputs;
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

const ACTIVATION_IDS: Readonly<Record<Activation, number>> = { silu: 0, geluTanh: 1 };

function teamValues(options: MatmulOptions, shape: TeamShape): KernelValues {
  const { gated, block, maxRows } = options;
  return {
    WORKGROUP: shape.workgroup,
    TEAM: shape.team,
    SUBGROUP: shape.subgroup,
    ROWS: shape.rows,
    TOKENS: maxRows,
    HAS_BIAS: block.bias !== null,
    GATED: gated !== null,
    ACTIVATION: gated ? ACTIVATION_IDS[gated.activation] : 0,
  };
}

function teamWorkgroups({ rows, gated }: MatmulOptions, part: Part, shape: TeamShape) {
  const outs = gated ? part.rows / 2 : part.rows;
  const each = (shape.workgroup / shape.team) * (gated ? shape.rows / 2 : shape.rows);
  return (step: StepShape) => (rowCount(rows, step) === 0 ? null : spread(Math.ceil(outs / each)));
}

function vectorDispatch(options: MatmulOptions, part: PlacedPart): Dispatch {
  const { traits, block, gated, maxRows } = options;
  const { form } = block;
  const q8 = gated?.form === "q8";
  const workgroup = q8 ? 256 : 128;
  const { team } = teams(traits, workgroup, 0);
  // q8 results: a workgroup owns whole groups of 32 outputs, each of a gate and an up row.
  const shape = teams(
    traits,
    workgroup,
    q8 ? Math.max(2, (2 * GROUP * team) / workgroup) : maxRows > 1 ? 2 : 4,
  );
  return {
    label: "matmul",
    kernel: {
      kernel: "matmulVector",
      libs: { ...shape.libs, codes: form.table ? "table" : "plain" },
      values: { ...formValues(form), ...teamValues(options, shape), Q8_OUT: q8 },
    },
    params: packParams("matmulVector", {
      rows: part.rows,
      groups: groupsOf(block.cols),
      ...columns(options, part),
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
      ...columns(options, part),
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
      ...columns(options, part),
    }),
    buffers: buffersOf(options, part),
    workgroups(step) {
      const count = rowCount(rows, step);
      return count === 0 ? null : [Math.ceil(part.rows / TILE.rows), Math.ceil(count / TILE.tokens), 1];
    },
    bytes: bytesOf(part),
  };
}

function matrixDispatch(options: MatmulOptions, part: PlacedPart): Dispatch {
  const { traits, block, rows, maxRows } = options;
  const subgroup = traits.subgroup!;
  const subgroups = Math.min(8, 256 / subgroup);
  const shape = {
    SUBGROUPS_ROWS: 2,
    SUBGROUPS_TOKENS: subgroups / 2,
    FRAGMENTS_ROWS: 4,
    FRAGMENTS_TOKENS: 2,
  };
  const tile = {
    rows: shape.SUBGROUPS_ROWS * shape.FRAGMENTS_ROWS * 16,
    tokens: shape.SUBGROUPS_TOKENS * shape.FRAGMENTS_TOKENS * 16,
  };
  return {
    label: "matmul",
    kernel: {
      kernel: "matmulMatrix",
      libs: { codes: block.form.table ? "table" : "plain" },
      values: { ...formValues(block.form), SUBGROUP: subgroup, ...shape, HAS_BIAS: block.bias !== null },
    },
    params: packParams("matmulMatrix", {
      rows: part.rows,
      groups: groupsOf(block.cols),
      tokens: maxRows,
      ...columns(options, part),
    }),
    buffers: buffersOf(options, part),
    workgroups(step) {
      const count = rowCount(rows, step);
      return count === 0 ? null : [Math.ceil(count / tile.tokens), Math.ceil(part.rows / tile.rows), 1];
    },
    bytes: bytesOf(part),
  };
}

export interface EmbedOptions {
  /** A table that is not gated. */
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
