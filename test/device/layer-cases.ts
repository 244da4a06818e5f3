/**
 * Conformance cases of what layers of 2025 and 2026 are made of beyond Llama's: mixtures of experts in every block type,
 * attention sinks, gates with parameters, slices of fused projections.
 */
import type { Recorder } from "../../src/device/recorder.ts";
import { BLOCKS, type TensorType } from "../../src/format/tensor.ts";
import type { DeviceCase, Given, TOLERANCES } from "./device-cases.ts";

const EXPERTS = 6;

interface Experts {
  type: TensorType;
  rows: number;
  cols: number;
  k: number;
  tokens: number;
  bias?: boolean;
  /** Each pick reads its own columns. */
  own?: boolean;
}

/** All tokens' picks differ, so that experts get many rows, one, and none. */
function expertCase(tolerances: typeof TOLERANCES, shape: Experts): DeviceCase {
  const { type, rows, cols, k, tokens, bias = false, own = false } = shape;
  const float = type === "f32" || type === "f16" || type === "bf16";
  return {
    name: `expertMatmul ${type} ${EXPERTS}x${rows}x${cols}, ${k} picks${own ? " of their own columns" : ""}${bias ? ", bias" : ""}, ${tokens} tokens`,
    // Others are one of a kind.
    ofType: rows === 24 && k === 2 ? { op: "expertMatmul", type } : undefined,
    tolerance: float ? tolerances.float : tolerances.quantizedMatmul,
    matrixTolerance: float && tokens > 1 ? tolerances.halfMatrices : undefined,
    steps: [tokens],
    build: (op, given) =>
      op.expertMatmul(
        given.input(own ? k * cols : cols, 5),
        op.route(given.input(EXPERTS, 6), { k, normalise: true }),
        given.weight("matrix", type, EXPERTS * rows, cols, rows),
        { experts: EXPERTS, bias: bias ? given.weight("vector", "f32", 1, EXPERTS * rows, 7) : null },
      ),
  };
}

function expertCases(tolerances: typeof TOLERANCES): DeviceCase[] {
  const types = Object.keys(BLOCKS) as TensorType[];
  const each = types.map((type) => {
    const block = BLOCKS[type].elements;
    return { type, rows: 24, cols: block === 1 ? 64 : block, k: 2, tokens: 5 };
  });
  const more: Experts[] = [
    { type: "f16", rows: 8, cols: 32, k: 1, tokens: 1 },
    { type: "q4_0", rows: 35, cols: 96, k: 3, tokens: 1, bias: true },
    { type: "q4_0", rows: 35, cols: 96, k: 3, tokens: 40, bias: true },
    { type: "mxfp4", rows: 24, cols: 64, k: 4, tokens: 3, own: true, bias: true },
    { type: "q8_0", rows: 40, cols: 64, k: 2, tokens: 70, own: true },
    { type: "f16", rows: 32, cols: 64, k: 6, tokens: 20, own: true },
  ];
  return [...each, ...more].map((shape) => expertCase(tolerances, shape));
}

function routeCases(tolerances: typeof TOLERANCES): DeviceCase[] {
  const scales = (given: Given, experts: number) => given.weight("vector", "f32", 1, experts, 9);
  return [
    { experts: 8, k: 2, normalise: true, scaled: false, tokens: 5 },
    { experts: 128, k: 8, normalise: true, scaled: true, tokens: 3 },
    { experts: 60, k: 4, normalise: false, scaled: false, tokens: 33 },
    { experts: 5, k: 5, normalise: false, scaled: true, tokens: 1 },
  ].flatMap(({ experts, k, normalise, scaled, tokens }): DeviceCase[] => [
    {
      name: `route to ${k} of ${experts}${normalise ? ", normalised" : ""}${scaled ? ", scaled" : ""}, ${tokens} tokens`,
      tolerance: tolerances.float,
      steps: [tokens],
      // Halves: ties between many, which the lower ids win.
      build: (op, given) =>
        op.route(
          given.shaped(experts, 1, (x) => Math.round(2 * x) / 2),
          {
            ...{ k, normalise, weights: scaled ? scales(given, experts) : null },
          },
        ),
    },
    {
      name: `combine ${k} of ${experts}${normalise ? ", normalised" : ""}${scaled ? ", scaled" : ""}, ${tokens} tokens`,
      tolerance: tolerances.float,
      steps: [tokens],
      build: (op, given) =>
        op.combine(
          given.input(k * 48, 2),
          op.route(given.input(experts, 1), {
            k,
            normalise,
            weights: scaled ? scales(given, experts) : null,
          }),
        ),
    },
  ]);
}

const SINK_SHAPES = [
  { heads: 4, kvHeads: 2, headDim: 64, steps: [1, 1], window: null, softcap: 0 },
  { heads: 16, kvHeads: 1, headDim: 64, steps: [40, 40, 1], window: 16, softcap: 0 },
  { heads: 6, kvHeads: 2, headDim: 96, steps: [33, 70], window: null, softcap: 5 },
  {
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    steps: [
      [64, 5],
      [1, 30],
      [1, 1],
    ],
    window: null,
    softcap: 0,
  },
  {
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    steps: [64, 64, 64, 64, 64, 64, 64, 64, 1],
    window: null,
    softcap: 0,
  },
];

function sinkCases(tolerances: typeof TOLERANCES): DeviceCase[] {
  const formats = { f16: tolerances.attendF16, int4: tolerances.attendInt4, rq4: tolerances.attendRq4 };
  return Object.entries(formats).flatMap(([codec, tolerance]) =>
    SINK_SHAPES.map(({ heads, kvHeads, headDim, steps, window, softcap }, shape) => ({
      name: `appendKv, attend with sinks ${codec}, ${heads}/${kvHeads} heads of ${headDim}, steps ${JSON.stringify(steps)}, window ${window}, softcap ${softcap}`,
      kv: codec,
      tolerance,
      gpuTolerance: softcap > 0 && codec === "f16" ? tolerances.gpuTanh : undefined,
      matrixTolerance: codec === "f16" ? tolerances.halfMatrices : undefined,
      ...{ steps, shape },
      build: (op: Recorder, given: Given) => {
        const cache = given.cache({ codec, kvHeads, headDim, window });
        op.appendKv(cache, given.input(kvHeads * headDim, 2), given.input(kvHeads * headDim, 3));
        // Of the size of the largest scores, and one that counts for nothing.
        const sinks = given.shapedVector(heads, 4, (x, _, head) => (head === 1 ? -1e4 : 3 + x));
        const scale = 1 / Math.sqrt(headDim);
        return op.attend(cache, given.input(heads * headDim, 1), { heads, scale, softcap, sinks });
      },
    })),
  );
}

/** Heads and caches of one graph differ, as in Gemma 4; the second layer of a kind attends to the first one's cache. */
function mixedLayers(tolerances: typeof TOLERANCES): DeviceCase[] {
  const formats = { f16: tolerances.attendF16, int4: tolerances.attendInt4, rq4: tolerances.attendRq4 };
  return Object.entries(formats).map(([codec, tolerance]) => ({
    name: `attend ${codec} in layers of 256 and 512, the second of the first's cache`,
    kv: codec,
    tolerance,
    matrixTolerance: codec === "f16" ? tolerances.halfMatrices : undefined,
    ...{ steps: [20, 3, 1], shape: 0 },
    build: (op: Recorder, given: Given) => {
      const small = given.cache({ codec, kvHeads: 2, headDim: 256, window: 16 });
      const large = given.cache({ codec, kvHeads: 1, headDim: 512, window: null });
      op.appendKv(small, given.input(512, 1), given.input(512, 2));
      const a = op.attend(small, given.input(1024, 3), { heads: 4, scale: 1 / 16 });
      const k = given.input(512, 4);
      op.appendKv(
        large,
        op.rmsNorm(k, given.weight("vector", "f32", 1, 512, 8), 1e-6),
        op.rmsNorm(k, null, 1e-6),
      );
      const b = op.attend(large, given.input(1024, 5), { heads: 2, scale: 0.05 });
      const c = op.attend(small, given.input(1024, 6), { heads: 4, scale: 1 / 16 });
      return op.add(op.add(a, b), c);
    },
  }));
}

export function layerCases(tolerances: typeof TOLERANCES): DeviceCase[] {
  const small: DeviceCase[] = [
    {
      name: "scale",
      tolerance: tolerances.float,
      steps: [3],
      build: (op, given) => op.scale(given.input(112, 1), 0.37),
    },
    ...(["bf16", "q4_k"] as const).map(
      (type): DeviceCase => ({
        name: `lookUp ${type}, beside embeddings`,
        tolerance: tolerances.float,
        // Ids that come twice in a step; a step after a longer one.
        steps: [100, 3, 1],
        build: (op, given) =>
          op.add(given.input(256, 1), op.lookUp(given.weight("table", type, 97, 256, 3), 1.5)),
      }),
    ),
    {
      name: "slice of groups",
      tolerance: 0,
      steps: [5],
      build: (op, given) => op.slice(given.input(3 * 64, 1), { groups: 3, from: 20, size: 33 }),
    },
    {
      name: "slice of a product, of outputs",
      tolerance: tolerances.float,
      steps: [4],
      outputs: 2,
      build: (op, given) =>
        op.slice(op.takeOutputs(op.matmul(given.input(64, 1), given.weight("matrix", "f32", 96, 64, 2))), {
          from: 32,
          size: 64,
        }),
    },
    {
      name: "gate swigluOai",
      tolerance: tolerances.float,
      steps: [5],
      // Beyond the limit on both sides.
      build: (op, given) =>
        op.gate(
          given.shaped(112, 1, (x) => 6 * x),
          given.shaped(112, 2, (x) => 6 * x),
          "swigluOai",
          7,
        ),
    },
    {
      name: "gate sigmoid",
      tolerance: tolerances.float,
      steps: [3],
      build: (op, given) => op.gate(given.input(112, 1), given.input(112, 2), "sigmoid"),
    },
    ...[1, 4].map(
      (gates): DeviceCase => ({
        name: `gate sigmoid, ${gates} of 128 columns`,
        tolerance: tolerances.float,
        steps: [1, 7],
        build: (op, given) =>
          op.gate(
            op.matmul(given.input(32, 1), given.weight("matrix", "f32", gates, 32, 3)),
            given.input(128, 2),
            "sigmoid",
          ),
      }),
    ),
    {
      name: "a mixture of experts: normed, routed, gated, combined, added",
      // Of a sum in which what was quantized is small.
      tolerance: 1e-3,
      steps: [40, 1],
      build: (op, given) => {
        const x = given.input(64, 1);
        const normed = op.rmsNorm(x, null, 1e-6);
        const matrix = (rows: number, cols: number, seed: number) =>
          given.weight("matrix", "q8_0", EXPERTS * rows, cols, seed);
        const router = given.weight("matrix", "f32", EXPERTS, 64, 2);
        const picks = op.route(op.scale(op.matmul(normed, router), 20), { k: 2, normalise: true });
        const gate = op.expertMatmul(normed, picks, matrix(96, 64, 3), { experts: EXPERTS });
        const up = op.expertMatmul(normed, picks, matrix(96, 64, 4), { experts: EXPERTS });
        const gated = op.gate(gate, up, "silu");
        const down = op.expertMatmul(gated, picks, matrix(64, 96, 5), { experts: EXPERTS });
        return op.add(x, op.combine(down, picks));
      },
    },
    ...[false, true].map(
      (isNormed): DeviceCase => ({
        name: `a mixture's${isNormed ? " normed" : ""} sum, combined and added, and the norm of it`,
        tolerance: tolerances.float,
        steps: [1, 7],
        build(op, given) {
          const picks = op.route(given.input(EXPERTS, 1), { k: 3, normalise: true });
          const combined = op.combine(given.input(3 * 96, 2), picks);
          const norm = (seed: number) => given.weight("vector", "f32", 1, 96, seed);
          const sum = op.add(isNormed ? op.rmsNorm(combined, norm(3), 1e-6) : combined, given.input(96, 4));
          return op.add(op.rmsNorm(sum, norm(5), 1e-6), sum);
        },
      }),
    ),
    {
      name: "a normed value added, and a product of the sum",
      tolerance: tolerances.quantizedMatmul,
      steps: [1, 5],
      build(op, given) {
        const normed = op.rmsNorm(given.input(96, 1), given.weight("vector", "f32", 1, 96, 2), 1e-6);
        const sum = op.scale(op.add(normed, given.input(96, 3)), 0.5);
        return op.add(sum, op.matmul(sum, given.weight("matrix", "q8_0", 96, 96, 4)));
      },
    },
    {
      name: "products of picked experts with biases, of an input that others read, too",
      tolerance: tolerances.quantizedMatmul,
      steps: [9, 1],
      build(op, given) {
        const x = op.rmsNorm(given.input(64, 1), null, 1e-6);
        const picks = op.route(given.input(EXPERTS, 2), { k: 2, normalise: true });
        const product = (rows: number, seed: number, bias: boolean) =>
          op.expertMatmul(x, picks, given.weight("matrix", "q8_0", EXPERTS * rows, 64, seed), {
            experts: EXPERTS,
            bias: bias ? given.weight("vector", "f32", 1, EXPERTS * rows, seed) : null,
          });
        const gate = op.gate(product(64, 3, true), product(64, 4, false), "swigluOai", 7);
        const sum = op.combine(op.rmsNorm(gate, null, 1e-6, 2), picks);
        // Columns of a product that lie in one block with the others.
        const more = op.slice(product(40, 5, true), { groups: 2, from: 3, size: 32 });
        return op.add(op.add(sum, x), more);
      },
    },
  ];
  return [
    ...small,
    ...routeCases(tolerances),
    ...expertCases(tolerances),
    ...sinkCases(tolerances),
    ...mixedLayers(tolerances),
  ];
}
