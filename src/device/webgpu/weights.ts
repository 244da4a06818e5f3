/**
 * The layout of matrices on the GPU: the form of every tensor type, its sizes, and matrices of several weights divided
 * into parts that one binding can hold. The other definition of this layout is kernels/lib/weight.wgsl; pack.ts writes
 * it. value = scale * (code - bias) + offset over groups of 32 columns, with codes and scales in separate buffers.
 */
import { ArgumentError } from "../../format/errors.ts";
import type { TensorType } from "../../format/tensor.ts";
import type { Weight } from "../contract.ts";

/** Columns of one scale (or two, of 16 each). */
export const GROUP = 32;

/**
 * The kernels' CODES. table: nibbles that are indices into a table. bits: 0 or 2, pairs: 0 to 3, thirds: indices into a
 * table of 8; all three become nibbles. fives, sixes: nibbles and their upper bits separately. Floats are [rows][cols
 * padded to 32].
 */
const CODES = {
  ...{ nibbles: 0, table: 1, bytes: 2, bits: 3, pairs: 4, thirds: 5, fives: 6, sixes: 7 },
  ...{ f32: 8, f16: 9, bf16: 10 },
} as const;
/**
 * The kernels' SCALES, in f16 except for `bfloat`; `odds`: an f32 for 256 columns, times an odd number for each 16;
 * `e4m3`: an f32 for a row, times half an unsigned e4m3 for each 16 columns; `superPairs`, `superHalves`: f16 for 256
 * columns, times an integer for each scale and offset of 32, or each scale of 16.
 */
const SCALES = {
  ...{ half: 0, bfloat: 1, pair: 2, halves: 3, halfPairs: 4, odds: 5, e4m3: 6 },
  ...{ superPairs: 7, superHalves: 8 },
} as const;

export interface WeightForm {
  readonly codes: keyof typeof CODES;
  readonly scales: keyof typeof SCALES | null;
  /** Subtracted from each code. */
  readonly bias: number;
  /** 16 int8 values, four per word. */
  readonly table: readonly [number, number, number, number] | null;
  /**
   * Selects kernels/lib/codes.*.wgsl: codes are values, are looked up in the table, or the table's values are computed
   * from them.
   */
  readonly lib: "plain" | "table" | "iq3s" | "iq3xxs" | "iq2" | "iq1";
}

const form = (
  codes: WeightForm["codes"],
  scales: WeightForm["scales"],
  bias = 0,
  table: WeightForm["table"] = null,
  lib: WeightForm["lib"] = table ? "table" : "plain",
): WeightForm => Object.freeze({ codes, scales, bias, table, lib });

const nibblePairs = form("nibbles", "pair");
const bytePairs = form("bytes", "pair");
/** The values of ggml's iq4_nl and of e2m1 times two (format/blocks/codebook.ts). */
const iq4 = form("table", "half", 0, [0xbfad9881, 0xf6eaddcf, 0x26190d01, 0x71594535]);
const E2M1: WeightForm["table"] = [0x03020100, 0x0c080604, 0xfdfeff00, 0xf4f8fafc];
const ternary = form("pairs", "half", 1);
/** Grid types' values (format/blocks/grid.ts). */
const iq2 = form("thirds", "odds", 0, [0x002b1908, 0x00d5e7f8, 0, 0], "iq2");
const iq1 = form("thirds", "odds", 0, [0x000901f9, 0x0007fff7, 0, 0], "iq1");

/**
 * Bits a weight on the GPU, scales included, and in the file:
 *
 * | type | here | file | | type | here | file |
 * |---|---|---|---|---|---|---|
 * | q4_0, iq4_nl | 4.5 | 4.5 | | q2_k | 6 | 2.625 |
 * | q4_1 | 5 | 5 | | q3_k | 5 | 3.4375 |
 * | q5_0 | 5.5 | 5.5 | | q4_k | 4.625 | 4.5 |
 * | q5_1 | 6 | 6 | | q5_k | 5.625 | 5.5 |
 * | q8_0 | 8.5 | 8.5 | | q6_k | 6.625 | 6.5625 |
 * | mxfp4 | 4.5 | 4.25 | | iq4_xs | 4.5 | 4.25 |
 * | iq3_s, iq3_xxs | 4.375 | 3.4375, 3.0625 | | iq2_s, iq2_xs, iq2_xxs | 3.375 | 2.5625, 2.3125, 2.0625 |
 * | nvfp4 | 4.5 | 4.5 | | iq1_s, iq1_m | 3.375 | 1.5625, 1.75 |
 * | tq1_0, tq2_0 | 2.5 | 1.6875, 2.0625 | | q1_0, q2_0 | 1.5, 2.5 | 1.125, 2.25 |
 * | mlx4 g32, g64, g128 | 5 | 6, 5, 4.5 | | mlx8 g32, g64, g128 | 9 | 10, 9, 8.5 |
 */
const FORMS: Readonly<Record<TensorType, WeightForm>> = {
  f32: form("f32", null),
  f16: form("f16", null),
  bf16: form("bf16", null),
  q4_0: form("nibbles", "half", 8),
  q4_1: nibblePairs,
  q5_0: form("fives", "half", 16),
  q5_1: form("fives", "pair"),
  q8_0: form("bytes", "half"),
  q2_k: form("nibbles", "halfPairs"),
  q3_k: form("nibbles", "halves", 4),
  q4_k: form("nibbles", "superPairs"),
  q5_k: form("fives", "superPairs"),
  q6_k: form("sixes", "superHalves", 32),
  iq4_nl: iq4,
  iq4_xs: iq4,
  // A power of two may be outside f16's range: the upper half of an f32 holds it exactly.
  mxfp4: form("table", "bfloat", 0, E2M1),
  nvfp4: form("table", "e4m3", 0, E2M1),
  iq3_s: form("table", "odds", 0, [0xf7f5f3f1, 0xfffdfbf9, 0x07050301, 0x0f0d0b09], "iq3s"),
  iq3_xxs: form("table", "odds", 0, [0xdcd4ccc2, 0xfcf4ece4, 0x1c140c04, 0x3e342c24], "iq3xxs"),
  iq2_s: iq2,
  iq2_xs: iq2,
  iq2_xxs: iq2,
  iq1_s: iq1,
  iq1_m: iq1,
  tq1_0: ternary,
  tq2_0: ternary,
  q1_0: form("bits", "half", 1),
  q2_0: ternary,
  mlx4_g32: nibblePairs,
  mlx4_g64: nibblePairs,
  mlx4_g128: nibblePairs,
  mlx8_g32: bytePairs,
  mlx8_g64: bytePairs,
  mlx8_g128: bytePairs,
};

/** The form of a type; the same object for types that can share a matrix. */
export function weightForm(type: TensorType): WeightForm {
  return FORMS[type];
}

export function isFloat({ scales }: WeightForm): boolean {
  return scales === null;
}

/** Groups of a row; float rows are padded with zeros to whole groups. */
export function groupsOf(cols: number): number {
  return Math.ceil(cols / GROUP);
}

const GROUP_BYTES = {
  ...{ nibbles: 16, table: 16, bytes: 32, bits: 4, pairs: 8, thirds: 12 },
  ...{ f32: 128, f16: 64, bf16: 64 },
} as const;

/** Groups whose upper bits are in one vector of 16 bytes. */
const UPPER_GROUPS = { fives: 4, sixes: 2 } as const;

/** Bytes of one row's codes: a multiple of 16. Types of few bits have whole vectors of 16 bytes in each block. */
export function codesRowBytes({ codes }: WeightForm, cols: number): number {
  const groups = groupsOf(cols);
  if (codes === "fives" || codes === "sixes") return 16 * (groups + Math.ceil(groups / UPPER_GROUPS[codes]));
  return groups * GROUP_BYTES[codes];
}

/** Bytes of one row's scales: a multiple of 4; 0 for floats. */
export function scalesRowBytes({ scales }: WeightForm, cols: number): number {
  const groups = groupsOf(cols);
  if (scales === null) return 0;
  if (scales === "half" || scales === "bfloat") return Math.ceil(groups / 2) * 4;
  if (scales === "odds") return (groups / 8) * 12;
  if (scales === "e4m3") return 4 + groups * 2;
  if (scales === "superPairs" || scales === "superHalves") return (groups / 8) * 20;
  return groups * (scales === "halfPairs" ? 8 : 4);
}

/** Rows [from, from + rows) of a weight (an index into the matrix's list) are at row `at` of a part. */
interface RowSource {
  readonly weight: number;
  readonly from: number;
  readonly rows: number;
  readonly at: number;
}

/** The contents of one pair of bindings: rows [first, first + rows) of all weights' rows one after another. */
export interface MatrixPart {
  readonly first: number;
  readonly rows: number;
  readonly codesBytes: number;
  readonly scalesBytes: number;
  readonly sources: readonly RowSource[];
}

/** Parts begin at multiples of this many rows, so that only the last has incomplete tiles. */
const PART_ROWS = 128;

/**
 * Divides the rows of weights of one form and width, stored as one matrix, into parts of at most `mostBytes` per
 * binding. For experts, whose rows stay together, the rows of all weights are stored expert by expert. Throws
 * ArgumentError for weights that cannot share a matrix, or rows that do not fit.
 */
export function partsOf(
  weights: readonly Weight[],
  mostBytes: number,
  experts: number | null = null,
): MatrixPart[] {
  const [{ type, cols }] = weights;
  const shape = weightForm(type);
  const stranger = weights.find((w) => weightForm(w.type) !== shape || w.cols !== cols);
  if (stranger)
    throw new ArgumentError(
      `weight ${stranger.name}`,
      `${stranger.type} of ${stranger.cols} columns`,
      `the form of ${type} and ${cols} columns, to share a matrix`,
    );
  const codes = codesRowBytes(shape, cols);
  const scales = scalesRowBytes(shape, cols);
  const most = Math.floor(mostBytes / Math.max(codes, scales));
  const total = weights.reduce((sum, { rows }) => sum + rows, 0);
  const whole = experts === null ? 1 : total / experts;
  if (most < whole) {
    const unit = experts === null ? "a row" : `an expert of ${whole} rows`;
    const names = weights.map((weight) => weight.name).join(", ");
    throw new ArgumentError(
      "bytes of a GPU's binding",
      mostBytes,
      `at least ${whole * Math.max(codes, scales)}, ${unit} of ${names}`,
    );
  }
  const unit = experts === null ? PART_ROWS : whole;
  const runs = runsOf(weights, experts ?? 1);
  const step = total <= most ? total : Math.floor(most / unit) * unit || most;
  const parts: MatrixPart[] = [];
  for (let first = 0; first < total; first += step) {
    const rows = Math.min(step, total - first);
    const sources = sourcesOf(runs, first, rows);
    parts.push({ first, rows, codesBytes: rows * codes, scalesBytes: rows * scales, sources });
  }
  return parts;
}

/** Rows [from, from + rows) of a weight that are consecutive in the matrix, in its order. */
interface RowRun {
  readonly weight: number;
  readonly from: number;
  readonly rows: number;
}

/** For several weights, each expert's rows; a single weight is one run. */
export function runsOf(weights: readonly Weight[], experts: number): RowRun[] {
  const times = weights.length === 1 ? 1 : experts;
  return Array.from({ length: times }, (_, i) =>
    weights.map((of, weight) => ({ weight, from: (i * of.rows) / times, rows: of.rows / times })),
  ).flat();
}

function sourcesOf(runs: readonly RowRun[], first: number, count: number): RowSource[] {
  const sources: RowSource[] = [];
  let begin = 0;
  for (const { weight, from, rows } of runs) {
    const start = Math.max(first, begin);
    const end = Math.min(first + count, begin + rows);
    if (start < end)
      sources.push({ weight, from: from + start - begin, rows: end - start, at: start - first });
    begin += rows;
  }
  return sources;
}

/** The values for kernels that expand weights. */
export function formValues({ codes, scales, bias, table }: WeightForm): Record<string, number> {
  const values: Record<string, number> = {
    CODES: CODES[codes],
    SCALES: scales ? SCALES[scales] : 0,
    BIAS: bias,
  };
  table?.forEach((word, i) => {
    values[`CODES_${i}`] = word;
  });
  return values;
}
