/**
 * The definition of every operation, in plain loops over float32 arrays with float64 sums. Slow on purpose: each sum is
 * added up from its first term to its last. Arrays in, arrays out; shapes as in contract.ts.
 */
import type { Activation } from "../contract.ts";
import { type Rope, turnedPairs } from "../rope-angles.ts";

/** out [tokens, cols]: the rows of table [vocab, cols] with these ids, times a factor. */
export function embed(table: Float32Array, ids: Uint32Array, factor: number, out: Float32Array): void {
  const cols = out.length / ids.length;
  for (let t = 0; t < ids.length; t++) {
    const row = ids[t] * cols;
    for (let i = 0; i < cols; i++) out[t * cols + i] = table[row + i] * factor;
  }
}

/** x, out [rows, groups, size]; weight [size] or null. (RMSNorm, arXiv 1910.07467) */
export function rmsNorm(
  x: Float32Array,
  weight: Float32Array | null,
  size: number,
  epsilon: number,
  out: Float32Array,
): void {
  for (let at = 0; at < x.length; at += size) {
    let sum = 0;
    for (let i = 0; i < size; i++) sum += x[at + i] * x[at + i];
    const inverse = 1 / Math.sqrt(sum / size + epsilon);
    for (let i = 0; i < size; i++) out[at + i] = x[at + i] * inverse * (weight ? weight[i] : 1);
  }
}

/**
 * y [tokens, rows] = x [tokens, cols] times weight [rows, cols] transposed, plus bias [rows]. Four rows at a time: a sum
 * by itself waits for each addition, which takes twice as long (2.6 and 1.3 ns a product, EPYC, 2026-11-30).
 */
export function matmul(
  x: Float32Array,
  weight: Float32Array,
  bias: Float32Array | null,
  rows: number,
  cols: number,
  out: Float32Array,
): void {
  const tokens = x.length / cols;
  for (let t = 0; t < tokens; t++) {
    const [from, to] = [t * cols, t * rows];
    let r = 0;
    for (; r + 4 <= rows; r += 4) {
      const at = r * cols;
      let [a, b, c, d] = bias ? [bias[r], bias[r + 1], bias[r + 2], bias[r + 3]] : [0, 0, 0, 0];
      for (let i = 0; i < cols; i++) {
        const value = x[from + i];
        a += weight[at + i] * value;
        b += weight[at + cols + i] * value;
        c += weight[at + 2 * cols + i] * value;
        d += weight[at + 3 * cols + i] * value;
      }
      out[to + r] = a;
      out[to + r + 1] = b;
      out[to + r + 2] = c;
      out[to + r + 3] = d;
    }
    for (; r < rows; r++) {
      let sum = bias ? bias[r] : 0;
      for (let i = 0; i < cols; i++) sum += weight[r * cols + i] * x[from + i];
      out[to + r] = sum;
    }
  }
}

/**
 * x, out [tokens, heads, headDim]; positions [tokens]; pairs (i, i + frequencies.length) of each head are rotated by
 * position * frequency.
 */
export function rope(
  x: Float32Array,
  heads: number,
  frequencies: Float64Array,
  magnitude: number,
  positions: Uint32Array,
  out: Float32Array,
): void {
  const tokens = positions.length;
  const headDim = x.length / tokens / heads;
  const pairs = frequencies.length;
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < heads; h++) {
      const at = (t * heads + h) * headDim;
      for (let i = 0; i < pairs; i++) {
        const angle = positions[t] * frequencies[i];
        const cos = Math.cos(angle) * magnitude;
        const sin = Math.sin(angle) * magnitude;
        const a = x[at + i];
        const b = x[at + pairs + i];
        out[at + i] = a * cos - b * sin;
        out[at + pairs + i] = b * cos + a * sin;
      }
      for (let i = 2 * pairs; i < headDim; i++) out[at + i] = x[at + i];
    }
  }
}

/**
 * x [tokens, heads, headDim], rotated by `rope`; out: the rotary dims of each head, and with a weight [headDim] all
 * others times it, as in contract.ts.
 */
export function takeTurned(
  x: Float32Array,
  rope: Rope,
  weight: Float32Array | null,
  out: Float32Array,
): void {
  const turning = turnedPairs(rope)!;
  const pairs = rope.frequencies.length;
  const turns = (dim: number) => dim < turning || (dim >= pairs && dim < pairs + turning);
  const headDim = weight?.length ?? 0;
  const size = 2 * turning + headDim;
  const vectors = out.length / size;
  const cols = x.length / vectors;
  for (let n = 0; n < vectors; n++) {
    const vector = x.subarray(n * cols, (n + 1) * cols);
    const into = out.subarray(n * size, (n + 1) * size);
    for (let i = 0; i < turning; i++) {
      into[i] = vector[i];
      into[turning + i] = vector[pairs + i];
    }
    for (let dim = 0; dim < headDim; dim++)
      into[2 * turning + dim] = turns(dim) ? 0 : vector[dim] * weight![dim];
  }
}

/** Reads one cached vector: (kvHead, position, into) -> into holds [headDim], or [keyDim]. */
export type VectorReader = (kvHead: number, position: number, into: Float32Array) => void;

export interface AttendShape {
  tokens: number;
  position: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Dims of queries and keys. Default: headDim. */
  keyDim?: number;
  window: number | null;
  scale: number;
  softcap: number;
  /** [heads], or null. */
  sinks?: Float32Array | null;
}

/** queries [tokens, heads, keyDim], out [tokens, heads, headDim]. Softmax over the visible positions; query head h reads KV head h / (heads / kvHeads). */
export function attend(
  queries: Float32Array,
  key: VectorReader,
  value: VectorReader,
  shape: AttendShape,
  out: Float32Array,
): void {
  const { tokens, position, heads, kvHeads, headDim, window, scale, softcap, sinks } = shape;
  const { keyDim = headDim } = shape;
  const vector = new Float32Array(headDim);
  const keyVector = new Float32Array(keyDim);
  const group = heads / kvHeads;
  for (let t = 0; t < tokens; t++) {
    const last = position + t;
    const first = window === null ? 0 : Math.max(0, last - window + 1);
    const seen = last - first + 1;
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      // Of the heads that share a key and a value, each of which is read once.
      const from = t * heads + kvHead * group;
      const scores = new Float64Array(group * seen);
      for (let p = 0; p < seen; p++) {
        key(kvHead, first + p, keyVector);
        for (let h = 0; h < group; h++) {
          const query = (from + h) * keyDim;
          let dot = 0;
          for (let i = 0; i < keyDim; i++) dot += queries[query + i] * keyVector[i];
          const score = dot * scale;
          scores[h * seen + p] = softcap > 0 ? softcap * Math.tanh(score / softcap) : score;
        }
      }
      const totals = new Float64Array(group);
      for (let h = 0; h < group; h++) {
        const own = scores.subarray(h * seen, (h + 1) * seen);
        const sink = sinks ? sinks[kvHead * group + h] : Number.NEGATIVE_INFINITY;
        let max = sink;
        for (let p = 0; p < seen; p++) max = Math.max(max, own[p]);
        totals[h] = Math.exp(sink - max);
        for (let p = 0; p < seen; p++) {
          own[p] = Math.exp(own[p] - max);
          totals[h] += own[p];
        }
      }
      const sums = new Float64Array(group * headDim);
      for (let p = 0; p < seen; p++) {
        value(kvHead, first + p, vector);
        for (let h = 0; h < group; h++) {
          const weight = scores[h * seen + p];
          for (let i = 0; i < headDim; i++) sums[h * headDim + i] += weight * vector[i];
        }
      }
      for (let h = 0; h < group; h++)
        for (let i = 0; i < headDim; i++) out[(from + h) * headDim + i] = sums[h * headDim + i] / totals[h];
    }
  }
}

/** A gated activation of a gate and the value that it multiplies. */
const ACTIVATIONS: Record<Activation, (gate: number, up: number, limit: number) => number> = {
  silu: (g, u) => (g / (1 + Math.exp(-g))) * u,
  // The tanh form of GELU (arXiv 1606.08415, section 2), which Gemma was trained with.
  geluTanh: (g, u) => 0.5 * g * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (g + 0.044715 * g ** 3))) * u,
  sigmoid: (g, u) => u / (1 + Math.exp(-g)),
  // gpt-oss (openai/gpt-oss, torch/model.py: swiglu).
  swigluOai(gate, up, limit) {
    const g = Math.min(gate, limit);
    return (g / (1 + Math.exp(-1.702 * g))) * (Math.min(Math.max(up, -limit), limit) + 1);
  },
};

/** up, out [rows, cols]; gates [rows, cols / columns]: each applies to `columns` columns. */
export function gate(
  gates: Float32Array,
  up: Float32Array,
  activation: Activation,
  limit: number,
  out: Float32Array,
): void {
  const f = ACTIVATIONS[activation];
  const columns = up.length / gates.length;
  for (let i = 0; i < out.length; i++) out[i] = f(gates[Math.floor(i / columns)], up[i], limit);
}

export function scale(x: Float32Array, factor: number, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) out[i] = x[i] * factor;
}

/** x [groups of all rows, cols]; out [the same groups, size]: columns from .. from + size. */
export function slice(x: Float32Array, cols: number, from: number, size: number, out: Float32Array): void {
  for (let group = 0; group * size < out.length; group++)
    out.set(x.subarray(group * cols + from, group * cols + from + size), group * size);
}

export function add(a: Float32Array, b: Float32Array, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) out[i] = a[i] + b[i];
}

export function softcap(x: Float32Array, cap: number, out: Float32Array): void {
  for (let i = 0; i < out.length; i++) out[i] = cap * Math.tanh(x[i] / cap);
}
