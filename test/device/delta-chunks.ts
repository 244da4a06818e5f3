/**
 * The gated delta rule in chunks of tokens (Gated Delta Networks, arXiv 2412.06464, section 3.3; the WY form of DeltaNet, arXiv
 * 2406.06484), as the kernels for prompts have it, in float64. Only the tests use it: the recurrent form is the definition.
 *
 * With S the state before the chunk, decay(t, i) the product of the decays of tokens i + 1 to t, and decay(t) of all up to t:
 *
 *     change(t) = beta(t) (v(t) - decay(t) S k(t) - sum over i < t of decay(t, i) (k(t) . k(i)) change(i))
 *     out(t) = decay(t) S q(t) + sum over i <= t of decay(t, i) (q(t) . k(i)) change(i)
 *     S' = decay(last) S + sum over i of decay(last, i) change(i) k(i)^T
 *
 * Products of decays are made by multiplying, never by exponentials of differences of sums: exact also beside a decay of 0.
 */
import type { DeltaGates, DeltaShape } from "../../src/device/reference/recurrent.ts";

/** As `gatedDelta` of the reference device, in chunks of so many tokens. */
export function deltaInChunks(
  x: Float32Array,
  gates: DeltaGates,
  shape: DeltaShape,
  before: Float32Array | null,
  after: Float32Array,
  out: Float32Array,
  chunk: number,
): void {
  const { tokens, keyHeads, valueHeads, keyDim, valueDim, tiled, epsilon } = shape;
  const cols = 2 * keyHeads * keyDim + valueHeads * valueDim;
  const unit = (at: number, factor: number) => {
    const vector = Float64Array.from(x.subarray(at, at + keyDim));
    const inverse = factor / Math.sqrt(dot(vector, vector) + epsilon);
    return vector.map((value) => value * inverse);
  };
  for (let h = 0; h < valueHeads; h++) {
    const keyHead = tiled ? h % keyHeads : Math.floor(h / (valueHeads / keyHeads));
    const size = valueDim * keyDim;
    const state = Float64Array.from({ length: size }, (_, i) => before?.[h * size + i] ?? 0);
    for (let first = 0; first < tokens; first += chunk) {
      const count = Math.min(chunk, tokens - first);
      const of = <T>(make: (token: number) => T) => Array.from({ length: count }, (_, t) => make(first + t));
      const q = of((t) => unit(t * cols + keyHead * keyDim, 1 / Math.sqrt(keyDim)));
      const k = of((t) => unit(t * cols + (keyHeads + keyHead) * keyDim, 1));
      const decay = of((t) =>
        Math.exp(gates.rates[h] * softplus(gates.a[t * valueHeads + h] + gates.bias[h])),
      );
      const beta = of((t) => 1 / (1 + Math.exp(-gates.b[t * valueHeads + h])));
      const kk = k.map((a) => k.map((b) => dot(a, b)));
      const qk = q.map((a) => k.map((b) => dot(a, b)));
      // between[t][i]: decay(t, i); all[t]: decay(t).
      const between = decay.map(() => new Float64Array(count));
      const all = new Float64Array(count);
      for (let t = 0; t < count; t++) {
        for (let i = 0; i < t; i++) between[t][i] = between[t - 1][i] * decay[t];
        between[t][t] = 1;
        all[t] = (t === 0 ? 1 : all[t - 1]) * decay[t];
      }
      for (let row = 0; row < valueDim; row++) {
        const s = state.subarray(row * keyDim, (row + 1) * keyDim);
        const change = new Float64Array(count);
        for (let t = 0; t < count; t++) {
          const at = (first + t) * valueHeads + h;
          const v = x[(first + t) * cols + 2 * keyHeads * keyDim + h * valueDim + row];
          let known = all[t] * dot(s, k[t]);
          let said = all[t] * dot(s, q[t]);
          for (let i = 0; i < t; i++) known += between[t][i] * kk[t][i] * change[i];
          change[t] = beta[t] * (v - known);
          for (let i = 0; i <= t; i++) said += between[t][i] * qk[t][i] * change[i];
          out[at * valueDim + row] = said;
        }
        for (let j = 0; j < keyDim; j++) {
          s[j] *= all[count - 1];
          for (let i = 0; i < count; i++) s[j] += between[count - 1][i] * change[i] * k[i][j];
        }
      }
    }
    after.set(state, h * size);
  }
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}
