/**
 * Conformance cases of numbers that float16 does not hold, or not well: activations of 1e5, rows of very different size,
 * heavy tails, keys with a channel that is large and constant. A device may carry float16 only where the result is right.
 */
import type { Recorder } from "../../src/device/recorder.ts";
import type { DeviceCase, Given, Shape, TOLERANCES } from "./device-cases.ts";

/** What an activation may look like. */
const SHAPES: Readonly<Record<string, Shape>> = {
  "of 1e5": (x) => 1e5 * x,
  "of 1e-6 to 1e6 by rows": (x, row) => 10 ** ((row % 13) - 6) * x,
  "with heavy tails": (x) => x ** 5,
};

/** Enough tokens that a GPU takes tiles of matrices for them. */
const TOKENS = 40;
/** Few enough that it takes them for a batch. */
const BATCH = 20;
const COLS = 64;

function matmulCases(tolerances: typeof TOLERANCES): DeviceCase[] {
  // A vector kernel's form of activations, a batch's, and that of tiles.
  const types = [
    { type: "q8_0", tokens: 1, tolerance: tolerances.quantizedMatmul },
    { type: "f16", tokens: BATCH, tolerance: tolerances.float },
    { type: "f16", tokens: TOKENS, tolerance: tolerances.float },
  ] as const;
  const inputs: Record<string, (op: Recorder, given: Given, shape: Shape) => ReturnType<Recorder["add"]>> = {
    activations: (_, given, shape) => given.shaped(COLS, 1, shape),
    "normed activations": (op, given, shape) =>
      op.rmsNorm(given.input(COLS, 1), given.shapedVector(COLS, 2, shape), 1e-6),
    "gated activations": (op, given, shape) =>
      op.gate(
        given.shaped(COLS, 1, (x, row, col) => Math.abs(shape(x, row, col))),
        given.input(COLS, 2),
        "silu",
      ),
  };
  return Object.entries(inputs).flatMap(([name, input]) =>
    Object.entries(SHAPES).flatMap(([shapeName, shape]) =>
      types.map(({ type, tokens, tolerance }) => ({
        name: `matmul ${type} of ${name} ${shapeName}, ${tokens} tokens`,
        tolerance,
        matrixTolerance: type === "f16" ? tolerances.extremeMatrices : undefined,
        byRows: true,
        // A GPU in software has no float16 that saturates but in caches.
        onlyFast: tokens === BATCH || (tokens === TOKENS && name === "activations"),
        steps: [tokens],
        build: (op: Recorder, given: Given) =>
          op.matmul(input(op, given, shape), given.weight("matrix", type, 35, COLS, 3)),
      })),
    ),
  );
}

/** Of scores of 100 float32 loses what their differences count; a group of int4 has the range of its largest value. */
const MORE: Readonly<Record<string, Record<string, number>>> = {
  "a channel of 300 in all keys": { f16: 4 },
  "heavy tails": { int4: 2 },
};

/** Of keys, queries and values. Scores stay of ordinary size, so that attention is no choice of one. */
const CACHES: Readonly<Record<string, Record<"queries" | "keys" | "values", Shape>>> = {
  "keys of 1e5": { queries: (x) => 1e-5 * x, keys: (x) => 1e5 * x, values: (x) => x },
  "queries of 1e6": { queries: (x) => 1e6 * x, keys: (x) => 1e-6 * x, values: (x) => x },
  "values of 1e5": { queries: (x) => x, keys: (x) => x, values: (x) => 1e5 * x },
  "a channel of 300 in all keys": {
    queries: (x) => x,
    keys: (x, _, col) => (col % 64 === 5 ? 300 : x),
    values: (x) => x,
  },
  "a channel of 3e4 in all keys": {
    queries: (x, _, col) => (col % 64 === 5 ? 1e-3 * x : x),
    keys: (x, _, col) => (col % 64 === 5 ? 3e4 : x),
    values: (x) => x,
  },
  "heavy tails": { queries: (x) => x, keys: (x) => x ** 3 / 4, values: (x) => x ** 3 },
};

function attendCases(tolerances: typeof TOLERANCES): DeviceCase[] {
  const formats = {
    f16: tolerances.attendF16,
    int4: tolerances.attendInt4,
    rq4: tolerances.attendRq4,
  };
  const [heads, kvHeads, headDim] = [4, 2, 64];
  const weight = { rows: 24, cols: heads * headDim };
  return Object.entries(CACHES).flatMap(([name, shapes]) =>
    Object.entries(formats).flatMap(([codec, tolerance]) =>
      [
        [TOKENS, 1],
        [1, TOKENS],
        [TOKENS, BATCH],
      ].map((steps) => ({
        name: `appendKv, attend ${codec}, ${name}, steps ${steps}`,
        kv: codec,
        tolerance: tolerance * (MORE[name]?.[codec] ?? 1),
        matrixTolerance: codec === "f16" ? tolerances.extremeMatrices : undefined,
        steps,
        onlyFast: true,
        build: (op: Recorder, given: Given) => {
          const cache = given.cache({ codec, kvHeads, headDim, window: null });
          const queries = given.shaped(heads * headDim, 1, shapes.queries);
          op.appendKv(
            cache,
            given.shaped(kvHeads * headDim, 2, shapes.keys),
            given.shaped(kvHeads * headDim, 3, shapes.values),
          );
          const out = op.attend(cache, queries, { heads, scale: 1 / Math.sqrt(headDim) });
          // A chunk's output is handed on in the form that a product wants.
          return steps[1] === 1
            ? out
            : op.matmul(out, given.weight("matrix", "f16", weight.rows, weight.cols, 4));
        },
      })),
    ),
  );
}

export function extremeCases(tolerances: typeof TOLERANCES): DeviceCase[] {
  return [...matmulCases(tolerances), ...attendCases(tolerances)];
}
