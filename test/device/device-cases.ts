/**
 * The conformance suite: the same small graphs on any device, compared with the reference (case-runs.ts). A case builds a graph
 * whose last value is compared; inputs enter as rows of an embedding table, so that only the contract is used.
 * Tolerances stand in one table, each with its reason.
 */
import type { Value, Weight } from "../../src/device/contract.ts";
import type { Recorder } from "../../src/device/recorder.ts";
import { BLOCKS, type TensorType } from "../../src/format/tensor.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import { chainCases } from "./chain-cases.ts";
import { extremeCases } from "./extreme-cases.ts";
import { layerCases } from "./layer-cases.ts";
import { stateCases } from "./state-cases.ts";

/** Root mean square of the difference over that of what the reference gives. */
export const TOLERANCES = {
  /** float32 sums in another order, exp and tanh by polynomials of 1e-7. At most 3.2e-7 on the CPU, 2.4e-7 on an H200. */
  float: 1e-6,
  /** Activations rounded to 8 bits a block of 32: 0.3 to 0.6 % of a dot product of Gaussian values. */
  quantizedMatmul: 1.2e-2,
  /** float16 weights and cache are exact in float32; the order of sums differs. */
  attendF16: 5e-6,
  /** Query and softmax weights rounded to 8 bits; the codes themselves are equal to the reference's. */
  attendInt4: 1.2e-2,
  /** As int4's: the same product, over a rotated query. */
  attendRq4: 1.2e-2,
  /** Scales of K and MLX types are products or floats; the GPU holds them in float16 (2^-12 each, of values that cancel). */
  halfScales: 6e-4,
  /** Sums over a state that hundreds of roundings went into, some of which cancel. At most 1.2e-6 on CPU and SwiftShader. */
  delta: 4e-6,
  /** A GPU's own tanh: NVIDIA's is off by 1e-5. */
  gpuTanh: 3e-5,
  /** Subgroup matrices: both operands rounded to float16, sums in float32. H200: 2.6e-4 at most (h200-conformance.jsonl). */
  halfMatrices: 5e-4,
  /** The same of numbers that float16 does not hold well, under a factor for each row. */
  extremeMatrices: 2e-3,
};

export interface DeviceCase {
  name: string;
  tolerance: number;
  /** The KV format that it needs; a device without it is not asked. */
  kv?: string;
  /** On the GPU device, where that may be off by more. */
  gpuTolerance?: number;
  /** On a GPU that multiplies chunks of tokens as matrices of float16, where that may be off by more. */
  matrixTolerance?: number;
  /** One of the cases that an operation has for each type of weights. */
  ofType?: { op: "embed" | "matmul" | "expertMatmul"; type: TensorType };
  /**
   * Tokens of the steps, run one after another from position 0; a list: of each text, 0 for none. The last one's value is
   * compared.
   */
  steps: (number | readonly number[])[];
  maxTokens?: number;
  outputs?: number;
  /** The error is that of the worst row: small rows count as large ones do. */
  byRows?: boolean;
  /** Skipped where kernels are compiled for a CPU, which takes a second each; another case runs the same kernels there. */
  onlyFast?: boolean;
  /** Of kernels with subgroup matrices, which no GPU in software has. */
  onlyMatrices?: boolean;
  /** The number of its shape, of cases that are there in every format of the cache. */
  shape?: number;
  /** Builds the graph; `input(cols, seed)` is a random [tokens, cols] activation. */
  build: (op: Recorder, given: Given) => Value;
}

/** Of a normal number at a place. */
export type Shape = (value: number, row: number, col: number) => number;

export interface Given {
  input(cols: number, seed: number): Value;
  /** An input whose values are made of normal ones; tokens have rows of their own. */
  shaped(cols: number, seed: number, shape: Shape): Value;
  /** A norm's weight, likewise. */
  shapedVector(cols: number, seed: number, shape: Shape): Weight;
  weight(role: Weight["role"], type: TensorType, rows: number, cols: number, seed: number): Weight;
  cache(options: {
    codec: string;
    kvHeads: number;
    headDim: number;
    window: number | null;
    turned?: number;
  }): ReturnType<Recorder["cache"]>;
}

/** Rows of embedding tables that inputs come from. */
export const VOCAB = 97;

const FLOATS: TensorType[] = ["f32", "f16", "bf16"];
/** Types whose scales are products or floats in the file, and float16 on the GPU. */
const HALF_SCALES: TensorType[] = [
  ...(["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"] as const),
  ...(["mlx4_g32", "mlx4_g64", "mlx4_g128", "mlx8_g32", "mlx8_g64", "mlx8_g128"] as const),
];

function matmulCases(): DeviceCase[] {
  const cases: DeviceCase[] = [];
  for (const type of Object.keys(BLOCKS) as TensorType[]) {
    const block = BLOCKS[type].elements;
    const tolerance = FLOATS.includes(type) ? TOLERANCES.float : TOLERANCES.quantizedMatmul;
    const matrixTolerance = FLOATS.includes(type) ? TOLERANCES.halfMatrices : undefined;
    // Many columns are cut between workgroups of kernels for several rows; one type of each form.
    const isLong = ["q4_0", "q4_k", "q5_0", "q5_1", "q8_0", "q6_k", "mxfp4"].includes(type);
    const long = isLong ? [7, 13].map((tokens) => [40, 1280 / block, tokens]) : [];
    // More rows than all workgroups of such a kernel take at once: each goes on to others, with nothing of the first.
    const tall = type === "q4_0" ? [7, 13].map((tokens) => [9000, 2, tokens]) : [];
    // Tiles of prompts: whole ones and edges, columns in two splits; an even and an odd number of groups.
    const tiles = { q4_0: [16, 17], bf16: [16] }[type as string]?.map((blocks) => [300, blocks, 140]) ?? [];
    for (const [rows, blocks, tokens] of [
      ...[
        [64, 2, 1],
        [35, 3, 5],
        [9, 1, 3],
        [8, 5, 33],
      ],
      ...[...long, ...tall, ...tiles],
    ]) {
      const cols = block * blocks * (block === 1 ? 32 : 1);
      cases.push({
        name: `matmul ${type} ${rows}x${cols}, ${tokens} tokens`,
        ofType: { op: "matmul", type },
        tolerance,
        matrixTolerance: tokens > 1 ? matrixTolerance : undefined,
        steps: [tokens],
        build: (op, given) => op.matmul(given.input(cols, 5), given.weight("matrix", type, rows, cols, rows)),
      });
    }
    cases.push({
      name: `embed ${type}`,
      ofType: { op: "embed", type },
      // No activation is quantized; MLX's scale times code plus bias rounds once more or less.
      tolerance: TOLERANCES.float,
      gpuTolerance: HALF_SCALES.includes(type) ? TOLERANCES.halfScales : undefined,
      steps: [7],
      build: (op, given) =>
        op.embed(given.weight("matrix", type, VOCAB, block * (block === 1 ? 48 : 3), 3), 1.5),
    });
  }
  return cases;
}

interface AttendShape {
  heads: number;
  kvHeads: number;
  headDim: number;
  steps: DeviceCase["steps"];
  window?: number;
  softcap?: number;
  onlyMatrices?: boolean;
}

/**
 * Head sizes and groups of the models that exist; steps that meet block, span and window edges. Of one head size few numbers
 * of heads, each of which is compiled for itself.
 */
const ATTEND_SHAPES: AttendShape[] = [
  { heads: 4, kvHeads: 2, headDim: 64, steps: [1] },
  { heads: 4, kvHeads: 2, headDim: 64, steps: [33, 1, 1] },
  { heads: 8, kvHeads: 2, headDim: 128, steps: [64, 64, 7] },
  { heads: 3, kvHeads: 3, headDim: 80, steps: [31, 1, 2] },
  { heads: 6, kvHeads: 2, headDim: 96, steps: [70, 1] },
  { heads: 4, kvHeads: 1, headDim: 256, steps: [40, 3], window: 20 },
  { heads: 16, kvHeads: 1, headDim: 64, steps: [50, 50, 50, 1], window: 32 },
  { heads: 2, kvHeads: 1, headDim: 512, steps: [35, 1] },
  // Of no model: multiples of 16 that kernels cut into unequal parts.
  { heads: 2, kvHeads: 1, headDim: 144, steps: [33, 1], window: 20 },
  { heads: 1, kvHeads: 1, headDim: 336, steps: [35, 1] },
  { heads: 4, kvHeads: 2, headDim: 64, steps: [48, 48, 48, 48, 48, 48, 1], window: 33 },
  { heads: 4, kvHeads: 2, headDim: 128, steps: [60, 4], softcap: 5 },
  { heads: 4, kvHeads: 2, headDim: 64, steps: [64, 64, 64, 64, 64, 64, 64, 64, 1] },
  // Rows that share what they read, in several spans; attend.test.ts has those of kernels without matrices.
  { heads: 4, kvHeads: 1, headDim: 128, steps: [420, 7], onlyMatrices: true },
  // Dims of a head shared out among subgroups, heads among two workgroups (attendDecodeWide).
  { heads: 12, kvHeads: 1, headDim: 256, steps: [70, 1, 1], onlyMatrices: true },
  // Several texts: prompts of two and a token of one; tokens of all; a prompt with tokens.
  {
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    steps: [
      [33, 0, 5],
      [1, 40, 7],
    ],
  },
  {
    heads: 4,
    kvHeads: 1,
    headDim: 128,
    steps: [
      [70, 33, 2],
      [1, 1, 1],
      [0, 1, 1],
    ],
    window: 33,
  },
  {
    heads: 6,
    kvHeads: 2,
    headDim: 96,
    steps: [
      [65, 32, 1, 2],
      [1, 1, 1, 1],
      [1, 64, 0, 1],
    ],
  },
];

function attendCases(): DeviceCase[] {
  const tolerances = {
    f16: TOLERANCES.attendF16,
    int4: TOLERANCES.attendInt4,
    rq4: TOLERANCES.attendRq4,
  };
  return Object.entries(tolerances).flatMap(([codec, tolerance]) =>
    ATTEND_SHAPES.map(({ heads, kvHeads, headDim, steps, window = null, softcap = 0, ...flags }, shape) => ({
      name: `appendKv, attend ${codec}, ${heads}/${kvHeads} heads of ${headDim}, steps ${JSON.stringify(steps)}, window ${window}, softcap ${softcap}`,
      kv: codec,
      tolerance,
      gpuTolerance: softcap > 0 && codec === "f16" ? TOLERANCES.gpuTanh : undefined,
      matrixTolerance: codec === "f16" ? TOLERANCES.halfMatrices : undefined,
      ...{ steps, shape, ...flags },
      build: (op: Recorder, given: Given) => {
        const cache = given.cache({ codec, kvHeads, headDim, window });
        const rope = op.ropeTable(ropeFrequencies(10_000, headDim));
        const queries = op.rope(given.input(heads * headDim, 1), heads, rope);
        op.appendKv(
          cache,
          op.rope(given.input(kvHeads * headDim, 2), kvHeads, rope),
          given.input(kvHeads * headDim, 3),
        );
        return op.attend(cache, queries, { heads, scale: 1 / Math.sqrt(headDim), softcap });
      },
    })),
  );
}

const SMALL_CASES: DeviceCase[] = [
  {
    name: "rmsNorm",
    tolerance: TOLERANCES.float,
    steps: [5],
    build: (op, given) => op.rmsNorm(given.input(96, 1), given.weight("vector", "f32", 1, 96, 2), 1e-6),
  },
  {
    name: "rmsNorm of heads, f16 weight",
    tolerance: TOLERANCES.float,
    steps: [3],
    build: (op, given) => op.rmsNorm(given.input(192, 1), given.weight("vector", "f16", 1, 48, 2), 1e-5, 4),
  },
  {
    name: "rmsNorm without weight",
    tolerance: TOLERANCES.float,
    steps: [1],
    build: (op, given) => op.rmsNorm(given.input(80, 1), null, 1e-6),
  },
  {
    name: "rope, later positions",
    tolerance: TOLERANCES.float,
    steps: [40, 40, 3],
    build: (op, given) => op.rope(given.input(192, 1), 3, op.ropeTable(ropeFrequencies(500_000, 64))),
  },
  {
    name: "rope of a part of the head, with magnitude",
    tolerance: TOLERANCES.float,
    steps: [9],
    build: (op, given) => op.rope(given.input(160, 1), 2, op.ropeTable(ropeFrequencies(10_000, 20), 1.25)),
  },
  ...(["silu", "geluTanh"] as const).map((activation) => ({
    name: `gate ${activation}`,
    tolerance: TOLERANCES.float,
    steps: [3],
    build: (op: Recorder, given: Given) => op.gate(given.input(112, 1), given.input(112, 2), activation),
  })),
  {
    name: "add",
    tolerance: TOLERANCES.float,
    steps: [3],
    build: (op, given) => op.add(given.input(112, 1), given.input(112, 2)),
  },
  {
    name: "softcap",
    tolerance: TOLERANCES.float,
    steps: [2],
    build: (op, given) => op.softcap(given.input(112, 1), 0.7),
  },
  {
    name: "takeOutputs",
    tolerance: 0,
    steps: [6, 6],
    outputs: 2,
    build: (op, given) => op.takeOutputs(given.input(64, 1)),
  },
  {
    name: "matmul with bias after takeOutputs",
    tolerance: TOLERANCES.quantizedMatmul,
    steps: [6],
    outputs: 3,
    build: (op, given) =>
      op.matmul(
        op.takeOutputs(given.input(64, 1)),
        given.weight("matrix", "q8_0", 21, 64, 2),
        given.weight("vector", "f32", 1, 21, 3),
      ),
  },
  {
    // A row of the norm is a head, one of what the product reads is a token.
    name: "matmul of a norm of heads",
    tolerance: TOLERANCES.quantizedMatmul,
    steps: [3],
    build: (op, given) =>
      op.matmul(
        op.rmsNorm(given.input(192, 1), given.weight("vector", "f32", 1, 96, 2), 1e-5, 2),
        given.weight("matrix", "q8_0", 20, 192, 3),
      ),
  },
  {
    name: "two matmuls of one input, their sum, and a third of it",
    tolerance: TOLERANCES.quantizedMatmul,
    steps: [4],
    build: (op, given) => {
      const x = given.input(64, 1);
      const a = op.matmul(x, given.weight("matrix", "q4_0", 96, 64, 2));
      const b = op.matmul(x, given.weight("matrix", "q8_0", 96, 64, 3));
      return op.matmul(op.add(a, op.add(b, a)), given.weight("matrix", "q8_0", 40, 96, 4));
    },
  },
];

/** Of numbers of ordinary size. */
export const ordinaryCases: readonly DeviceCase[] = [
  ...SMALL_CASES,
  ...matmulCases(),
  ...attendCases(),
  ...layerCases(TOLERANCES),
  ...chainCases(TOLERANCES),
  ...stateCases(TOLERANCES),
];
export const deviceCases: readonly DeviceCase[] = [...ordinaryCases, ...extremeCases(TOLERANCES)];
