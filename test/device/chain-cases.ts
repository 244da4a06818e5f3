/** Conformance cases of a layer's products with the additions, norms and gates between them, which devices may join. */
import type { Activation } from "../../src/device/contract.ts";
import type { Recorder } from "../../src/device/recorder.ts";
import type { TensorType } from "../../src/format/tensor.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import type { DeviceCase, Given, TOLERANCES } from "./device-cases.ts";

interface Chain {
  readonly type: TensorType;
  readonly cols: number;
  /** Of gate and up. */
  readonly wide: number;
  readonly tokens: number;
  readonly activation: Activation;
  readonly bias?: boolean;
  /** Norms have no weights. */
  readonly bare?: boolean;
  /** Sums are scaled, as Gemma 4's. */
  readonly factor?: number;
  /** `up` is the first of both matrices. */
  readonly upFirst?: boolean;
}

const CHAINS: readonly Chain[] = [
  { type: "q4_0", cols: 64, wide: 96, tokens: 1, activation: "silu" },
  { type: "q4_0", cols: 64, wide: 96, tokens: 3, activation: "silu" },
  { type: "q8_0", cols: 96, wide: 64, tokens: 1, activation: "geluTanh", bias: true, bare: true },
  { type: "q6_k", cols: 256, wide: 512, tokens: 1, activation: "swigluOai", factor: 0.5, upFirst: true },
  { type: "mxfp4", cols: 1056, wide: 32, tokens: 1, activation: "sigmoid" },
  // Columns that some kernels cut between workgroups, and leave the sums to norms and the gate.
  { type: "q4_0", cols: 1056, wide: 1088, tokens: 7, activation: "silu", factor: 0.5 },
];

function layer(op: Recorder, given: Given, chain: Chain) {
  const { type, cols, wide, activation, bias = false, bare = false, factor, upFirst = false } = chain;
  let seed = 1;
  const vector = (cols: number) => given.weight("vector", "f32", 1, cols, seed++);
  const norm = (x: ReturnType<Given["input"]>) => op.rmsNorm(x, bare ? null : vector(cols), 1e-5);
  const product = (x: ReturnType<Given["input"]>, rows: number) =>
    op.matmul(x, given.weight("matrix", type, rows, x.cols, seed++), bias ? vector(rows) : null);
  const plus = (x: ReturnType<Given["input"]>, more: ReturnType<Given["input"]>) => {
    const sum = op.add(x, more);
    return factor === undefined ? sum : op.scale(sum, factor);
  };
  const first = given.input(cols, seed++);
  const x = plus(first, product(norm(first), cols));
  const normed = norm(x);
  const [a, b] = [product(normed, wide), product(normed, wide)];
  const gated = op.gate(...(upFirst ? ([b, a] as const) : ([a, b] as const)), activation, upFirst ? 2 : 0);
  const last = norm(plus(x, product(gated, cols)));
  return product(last, 35);
}

interface Append {
  readonly type: TensorType;
  readonly kv: string;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly cols: number;
  readonly steps: DeviceCase["steps"];
  /** x is 1 or -1, which 8 bits hold, so that no product is off and no code is another; else it is a normed sum. */
  readonly isExact?: boolean;
  /** Norms of heads, biases. */
  readonly norms?: boolean;
  readonly biases?: boolean;
}

/** Rows of one token after others: at the beginning of a page, in its second half, in the next page. */
const APPENDS: readonly Append[] = [
  {
    ...{ type: "q4_0", kv: "int4", heads: 4, kvHeads: 2, headDim: 64 },
    cols: 64,
    steps: [1, 1],
    isExact: true,
  },
  {
    ...{ type: "q8_0", kv: "int4", heads: 8, kvHeads: 2, headDim: 128 },
    ...{ cols: 96, steps: [22, 1, 1], isExact: true },
  },
  { ...{ type: "q6_k", kv: "f16", heads: 4, kvHeads: 2, headDim: 64 }, cols: 256, steps: [31, 1, 1] },
  {
    ...{ type: "q4_0", kv: "f16", heads: 4, kvHeads: 2, headDim: 64 },
    ...{ cols: 64, steps: [1, 1], norms: true, biases: true },
  },
  {
    ...{ type: "q4_0", kv: "int4", heads: 8, kvHeads: 2, headDim: 128 },
    ...{ cols: 64, steps: [50, 1, 1], isExact: true, norms: true },
  },
  {
    ...{ type: "q4_0", kv: "k4c-v4r-n32-f32", heads: 16, kvHeads: 2, headDim: 64 },
    ...{ cols: 64, steps: [95, 1, 1], isExact: true },
  },
  // Columns that some kernels cut between workgroups, and leave the sums to the append.
  { ...{ type: "q4_0", kv: "f16", heads: 4, kvHeads: 2, headDim: 64 }, cols: 1056, steps: [5] },
  {
    ...{ type: "q4_0", kv: "int4", heads: 4, kvHeads: 2, headDim: 64 },
    ...{ cols: 1056, steps: [[1, 1, 1, 1, 1]], isExact: true },
  },
  {
    ...{ type: "q4_0", kv: "int4", heads: 4, kvHeads: 2, headDim: 64 },
    ...{ cols: 1056, steps: [30, 7], isExact: true },
  },
];

/** Queries, keys and values, turned, and attention over them. */
function attention(op: Recorder, given: Given, append: Append) {
  const { type, kv, heads, kvHeads, headDim, cols, isExact = false, norms = false, biases = false } = append;
  let seed = 1;
  const vector = (size = cols) => given.weight("vector", "f32", 1, size, seed++);
  const product = (x: ReturnType<Given["input"]>, rows: number, biased = false) =>
    op.matmul(x, given.weight("matrix", type, rows, x.cols, seed++), biased ? vector(rows) : null);
  const normed = (x: ReturnType<Given["input"]>, count: number) =>
    norms ? op.rmsNorm(x, vector(headDim), 1e-5, count) : x;
  const sum = () => {
    const first = given.input(cols, seed++);
    return op.rmsNorm(op.add(first, product(op.rmsNorm(first, vector(), 1e-5), cols)), vector(), 1e-5);
  };
  const x = isExact ? given.shaped(cols, seed++, Math.sign) : sum();
  const [q, k, v] = [heads, kvHeads, kvHeads].map((count) => product(x, count * headDim, biases));
  const cache = given.cache({ codec: kv, kvHeads, headDim, window: null });
  const rope = op.ropeTable(ropeFrequencies(10_000, headDim));
  const queries = op.rope(normed(q, heads), heads, rope);
  op.appendKv(cache, op.rope(normed(k, kvHeads), kvHeads, rope), v);
  return op.attend(cache, queries, { heads, scale: 1 / Math.sqrt(headDim) });
}

function appendCases(tolerances: typeof TOLERANCES): DeviceCase[] {
  return APPENDS.map((append) => ({
    name: `q, k and v into ${append.kv}, ${append.type}, ${append.heads}/${append.kvHeads} heads of ${append.headDim}${append.norms ? ", norms" : ""}${append.biases ? ", biases" : ""}, steps ${JSON.stringify(append.steps)}`,
    kv: append.kv,
    tolerance: append.isExact ? tolerances.attendInt4 : tolerances.quantizedMatmul,
    // Matrices take weights as f16: products of many rows are off by enough to give a number another code. Weights rounded
    // so on the reference give the case with steps [30,7] an error of 0.0161; an H200 has 0.0146.
    matrixTolerance: append.isExact ? 2 * tolerances.attendInt4 : undefined,
    steps: append.steps,
    build: (op, given) => attention(op, given, append),
  }));
}

export function chainCases(tolerances: typeof TOLERANCES): DeviceCase[] {
  return [...appendCases(tolerances), ...layerCases(tolerances)];
}

function layerCases(tolerances: typeof TOLERANCES): DeviceCase[] {
  return CHAINS.map((chain) => ({
    name: `a layer's matmuls, norms and ${chain.activation} gate, ${chain.type} ${chain.cols} and ${chain.wide} wide${chain.bias ? ", biases" : ""}, ${chain.tokens} tokens`,
    // Five roundings of activations, one behind the other.
    tolerance: 2 * tolerances.quantizedMatmul,
    steps: [chain.tokens],
    build: (op, given) => layer(op, given, chain),
  }));
}
