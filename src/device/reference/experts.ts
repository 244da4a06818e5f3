/**
 * The definitions of the operations of a mixture of experts, like those in ops.ts: the experts of a row, their
 * products, and their sum. `picks` [rows, 2k] holds k ids, then k weights. (Switch Transformers, arXiv 2101.03961;
 * Mixtral, 2401.04088)
 */
import { matmul } from "./ops.ts";

/** logits [rows, experts] -> picks. weights [experts] or null: factors on the softmax values. */
export function route(
  logits: Float32Array,
  experts: number,
  k: number,
  normalise: boolean,
  weights: Float32Array | null,
  picks: Float32Array,
): void {
  for (let row = 0; row * experts < logits.length; row++) {
    const scores = logits.subarray(row * experts, (row + 1) * experts);
    const max = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const exps = Array.from(scores, (score) => Math.exp(score - max));
    const total = exps.reduce((a, b) => a + b, 0);
    // A stable sort: ties stay in the order of ids. NaN is last.
    const sortable = Array.from(scores, (score) => (Number.isNaN(score) ? Number.NEGATIVE_INFINITY : score));
    const order = sortable.map((_, id) => id).sort((a, b) => sortable[b] - sortable[a] || a - b);
    const chosen = order.slice(0, k);
    const whole = normalise ? chosen.reduce((sum, id) => sum + exps[id], 0) : total;
    chosen.forEach((id, i) => {
      picks[row * 2 * k + i] = id;
      picks[row * 2 * k + k + i] = (exps[id] / whole) * (weights ? weights[id] : 1);
    });
  }
}

export interface ExpertMatrices {
  /** [experts, rows, cols] */
  readonly weight: Float32Array;
  /** [experts, rows] or null. */
  readonly bias: Float32Array | null;
  readonly rows: number;
  readonly cols: number;
}

/** x [tokens, cols], shared by all picks, or [tokens, k, cols]; out [tokens, k, rows]. */
export function expertMatmul(
  x: Float32Array,
  picks: Float32Array,
  k: number,
  { weight, bias, rows, cols }: ExpertMatrices,
  out: Float32Array,
): void {
  const tokens = picks.length / 2 / k;
  const own = x.length > tokens * cols;
  for (let pick = 0; pick < tokens * k; pick++) {
    const token = Math.floor(pick / k);
    const first = picks[token * 2 * k + (pick % k)] * rows;
    const at = (own ? pick : token) * cols;
    matmul(
      x.subarray(at, at + cols),
      weight.subarray(first * cols, (first + rows) * cols),
      bias?.subarray(first, first + rows) ?? null,
      rows,
      cols,
      out.subarray(pick * rows, (pick + 1) * rows),
    );
  }
}

/** x [tokens, k, cols]; out [tokens, cols]: the weighted sum over the picks, in their order. */
export function combine(x: Float32Array, picks: Float32Array, k: number, out: Float32Array): void {
  const tokens = picks.length / 2 / k;
  const cols = out.length / tokens;
  for (let token = 0; token < tokens; token++) {
    for (let c = 0; c < cols; c++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += picks[token * 2 * k + k + i] * x[(token * k + i) * cols + c];
      out[token * cols + c] = sum;
    }
  }
}
