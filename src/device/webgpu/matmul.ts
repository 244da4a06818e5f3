/**
 * The dispatches of matrix products and embeddings: the kernel for a matrix of weights and a number of tokens, its constants
 * and workgroups, and the form of its input. Pure.
 *
 * | weights | mode | device | kernel | input |
 * |---|---|---|---|---|
 * | quantized | decode | any | matmulVector | q8 |
 * | quantized | few | other | matmulFew | q8 |
 * | quantized | few | matrices, subgroups of 32 | matmulDots, sumSplits (or norm, gate or append) | q8 |
 * | quantized | several | matrices, subgroups of 32 | matmulStream, sumSplits (or norm, gate or append) | q8 |
 * | float but f32 | several | matrices | matmulBatch, sumSplits | f16 |
 * | any but f32 | batch | matrices | matmulBatch, sumSplits | f16 |
 * | quantized, an even number of groups | prompt | matrices, subgroups of 32 | matmulSquare, sumSplits | f16 |
 * | any but f32 | prompt | matrices | matmulMatrix, sumSplits | f16 |
 * | quantized | batch | other | matmulFew | q8 |
 * | quantized | modes of matmulVector and matmulFew | without integer dot products | matmulUnpacked | f32 |
 * | float | decode, few, batch | other | matmulFloat | f32 |
 * | quantized | prompt | 8x8x8 matrices of float32 | matmulTile8 | f32 |
 * | any | prompt | other | matmulTile | f32 |
 */
import { type Dispatch, type Mode, type PlannedBuffer, rowCount } from "./dispatch.ts";
import type { Form } from "./forms.ts";
import type { Traits } from "./gpu.ts";
import {
  batchDispatches,
  batchSplits,
  STREAM_TOKENS,
  streamDispatches,
  streamSplits,
  streams,
} from "./matmul-matrix.ts";
import {
  buffersOf,
  bytesOf,
  type GpuMatrix,
  type MatmulOptions,
  meets,
  type PlacedPart,
  type TokenShape,
} from "./matmul-options.ts";
import { matrixDispatches } from "./matmul-prompt.ts";
import { vectorDispatch } from "./matmul-vector.ts";
import { packParams } from "./params.ts";
import { NO_EXPERTS, ONE_TOKEN, teams, teamValues, teamWorkgroups } from "./teams.ts";
import { formValues, GROUP, groupsOf, isFloat } from "./weights.ts";

/** The form of the input that a product's kernels need. */
export function inputForm(traits: Traits, matrix: Pick<GpuMatrix, "form" | "cols">, mode: Mode): Form {
  const { form, cols } = matrix;
  // f16 rows have no padding: columns must be whole groups.
  const multiplies = traits.matrices && form.codes !== "f32" && cols % GROUP === 0;
  const expands = mode === "batch" || mode === "prompt" || (mode === "several" && isFloat(form));
  if (multiplies && expands) return "f16";
  // With matmulDots and matmulStream, all rows of their modes have the same form of input.
  const unpacks = traits.floats === true && (mode === "decode" || !streams(traits));
  return mode === "prompt" || isFloat(form) || unpacks ? "f32" : "q8";
}

/** out = x times the matrix's rows. Of the dispatches for a part of the matrix, a step runs one. */
export function matmulDispatches(options: MatmulOptions): Dispatch[] {
  const { traits, matrix, mode, x } = options;
  const { parts, form } = matrix;
  const wanted = inputForm(traits, matrix, mode);
  if (x.form !== wanted)
    throw new Error(`a product in mode ${mode} needs its input as ${wanted}, not ${x.form}`);
  if (wanted === "f16" && mode !== "prompt") return batchDispatches(options);
  if (wanted === "f16") return matrixDispatches(options);
  if (mode === "prompt")
    return parts.map((part) =>
      traits.matrices8 && !isFloat(form) ? tile8Dispatch(options, part) : tileDispatch(options, part),
    );
  const met = <Shape extends TokenShape>(shapes: readonly Shape[]) =>
    shapes.filter((shape) => meets(options, shape));
  if (isFloat(form))
    return parts.flatMap((part) => met(FLOAT_TOKENS).map((serves) => floatDispatch(options, part, serves)));
  if (wanted === "f32")
    return parts.flatMap((part) =>
      met(UNPACKED_TOKENS).map((serves) => unpackedDispatch(options, part, serves)),
    );
  return [
    ...parts.flatMap((part) => [
      ...met([ONE_TOKEN]).map(() => vectorDispatch(options, part)),
      ...(streams(traits) ? [] : met(FEW_TOKENS).map((serves) => fewDispatch(options, part, serves))),
    ]),
    ...(streams(traits) ? streamDispatches(options, met(STREAM_TOKENS)) : []),
  ];
}

/**
 * The number of splits of columns that the product has in every step, whatever its rows; 1: none, or not in every step.
 */
export function splitsOf(
  options: Pick<MatmulOptions, "traits" | "matrix" | "rows" | "mode" | "maxRows">,
): number {
  const { traits, matrix, mode } = options;
  if (matrix.bias) return 1;
  const wanted = inputForm(traits, matrix, mode);
  if (wanted === "f16" && mode !== "prompt") return batchSplits(matrix);
  const isStreamed = wanted === "q8" && streams(traits) && !meets(options, BEFORE_STREAMS);
  return isStreamed && mode !== "prompt" ? streamSplits(matrix) : 1;
}

/**
 * More tokens share the weights that are read, until their sums take too many registers; bench rows `step` of
 * h100.jsonl.
 */
const FEW_TOKENS: readonly TokenShape[] = [
  { tokens: 2, from: 2, to: 2 },
  { tokens: 4, from: 3, to: 4 },
  { tokens: 8, from: 5, to: 8 },
  { tokens: 16, from: 9, to: Number.POSITIVE_INFINITY },
];
/** The sums of four tokens fill the registers: for each of four rows of weights, one for each place in a word. */
const UNPACKED_TOKENS: readonly TokenShape[] = [
  ONE_TOKEN,
  { tokens: 2, from: 2, to: 2 },
  { tokens: 4, from: 3, to: Number.POSITIVE_INFINITY },
];
/** Tokens of a step whose weights do not stream, on a device with matmulStream. */
const BEFORE_STREAMS: TokenShape = { tokens: 1, from: 1, to: STREAM_TOKENS[0].from - 1 };
const FLOAT_TOKENS: readonly TokenShape[] = [ONE_TOKEN, { tokens: 4, from: 2, to: Number.POSITIVE_INFINITY }];

/** Teams of matmulFew and matmulUnpacked: four rows of weights for each. */
export const fourRowTeams = (traits: Traits) => teams(traits, Math.max(32, traits.subgroup ?? 64), 4);

const fewDispatch = (options: MatmulOptions, part: PlacedPart, serves: TokenShape) =>
  fourRowsDispatch("matmulFew", options, part, serves);
const unpackedDispatch = (options: MatmulOptions, part: PlacedPart, serves: TokenShape) =>
  fourRowsDispatch("matmulUnpacked", options, part, serves);

function fourRowsDispatch(
  kernel: "matmulFew" | "matmulUnpacked",
  options: MatmulOptions,
  part: PlacedPart,
  serves: TokenShape,
): Dispatch {
  const { traits, matrix } = options;
  const { form } = matrix;
  const shape = fourRowTeams(traits);
  const buffers = buffersOf(options, part);
  const params = {
    ...{ rows: part.rows, groups: groupsOf(matrix.cols) },
    ...{ outCols: matrix.rows, firstColumn: part.first },
  };
  return {
    label: "matmul",
    kernel: {
      kernel,
      libs: { ...shape.libs, codes: form.lib },
      values: { ...formValues(form), ...teamValues(options, shape, serves) },
    },
    ...(kernel === "matmulFew"
      ? { params: packParams(kernel, params), buffers }
      : {
          params: packParams(kernel, { ...params, ...NO_EXPERTS }),
          buffers: { ...buffers, picks: options.x.buffer },
        }),
    workgroups: teamWorkgroups(options, part, shape, serves),
    bytes: bytesOf(part),
  };
}

function floatDispatch(options: MatmulOptions, part: PlacedPart, serves: TokenShape): Dispatch {
  const { traits, matrix } = options;
  // Few long rows, such as a router's, get a whole workgroup each; otherwise few of a GPU's cores would read anything.
  const isShort = part.rows <= 1024 && matrix.cols >= 1024;
  const shape = isShort ? { ...teams(traits, 128, 1), team: 128 } : teams(traits, 128, 2);
  const { codes, x, bias, out } = buffersOf(options, part);
  return {
    label: "matmul",
    kernel: {
      kernel: "matmulFloat",
      libs: shape.libs,
      values: {
        CODES: formValues(matrix.form).CODES,
        ...teamValues(options, shape, serves),
        ROWS: shape.rows,
        ALIGNED: matrix.cols % 4 === 0,
      },
    },
    params: packParams("matmulFloat", {
      rows: part.rows,
      cols: matrix.cols,
      groups: groupsOf(matrix.cols),
      outCols: matrix.rows,
      firstColumn: part.first,
      ...NO_EXPERTS,
    }),
    buffers: { codes, x, bias, out, picks: x },
    workgroups: teamWorkgroups(options, part, shape, serves),
    bytes: bytesOf(part),
  };
}

/** Rows and tokens of a workgroup of matmulTile. */
export const TILE = { rows: 64, tokens: 32 };

function tileDispatch(options: MatmulOptions, part: PlacedPart): Dispatch {
  const { matrix, rows, maxRows } = options;
  return {
    label: "matmul",
    kernel: {
      kernel: "matmulTile",
      libs: { codes: matrix.form.lib },
      values: { ...formValues(matrix.form), HAS_BIAS: matrix.bias !== null, ALIGNED: matrix.cols % 4 === 0 },
    },
    params: packParams("matmulTile", {
      rows: part.rows,
      cols: matrix.cols,
      groups: groupsOf(matrix.cols),
      tokens: maxRows,
      outCols: matrix.rows,
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

/** Rows of a workgroup of matmulTile8, and as many tokens. */
export const TILE8 = 32;

function tile8Dispatch(options: MatmulOptions, part: PlacedPart): Dispatch {
  const { matrix, rows, maxRows } = options;
  return {
    label: "matmul",
    kernel: {
      kernel: "matmulTile8",
      libs: { codes: matrix.form.lib },
      values: { ...formValues(matrix.form), HAS_BIAS: matrix.bias !== null },
    },
    params: packParams("matmulTile8", {
      rows: part.rows,
      groups: groupsOf(matrix.cols),
      tokens: maxRows,
      outCols: matrix.rows,
      firstColumn: part.first,
      ...NO_EXPERTS,
      listAt: 0,
    }),
    buffers: { ...buffersOf(options, part), sorted: options.x.buffer },
    workgroups(step) {
      const count = rowCount(rows, step);
      return count === 0 ? null : [Math.ceil(part.rows / TILE8), Math.ceil(count / TILE8), 1];
    },
    bytes: bytesOf(part),
  };
}

export interface EmbedChosen {
  readonly matrix: GpuMatrix;
  /** [texts] u32: the id that was chosen last for each text. */
  readonly chosen: PlannedBuffer;
  readonly batch: PlannedBuffer;
  readonly scale: number;
  /** [tokens][cols] f32 */
  readonly out: PlannedBuffer;
}

/** out = table[id] * scale. Each part has a dispatch, which writes the tokens whose rows the part holds. */
export function embedDispatches({ matrix, chosen, batch, scale, out }: EmbedChosen): Dispatch[] {
  const groups = groupsOf(matrix.cols);
  return matrix.parts.map((part) => ({
    label: "embed",
    kernel: {
      kernel: "embed",
      libs: { codes: matrix.form.lib },
      values: formValues(matrix.form),
    },
    params: packParams("embed", { first: part.first, rows: part.rows, cols: matrix.cols, groups, scale }),
    buffers: { chosen, batch, codes: part.codes, scales: part.scales ?? part.codes, out },
    workgroups: ({ tokens }) => (tokens === 0 ? null : [Math.ceil(groups / 32), tokens, 1]),
  }));
}
