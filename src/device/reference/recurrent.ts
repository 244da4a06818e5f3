/**
 * The definitions of the operations over recurrent states, like those in ops.ts: arrays in, arrays out, token by token.
 * A state is read from one array and written to another; null: the text begins, all zeros.
 */

/**
 * x, out [tokens, channels]; weight [channels, kernel]; before, after [kernel - 1, channels]: the inputs before the first token
 * and before the next one, oldest first. out[t, c] = sum over j of weight[c, j] x[t - kernel + 1 + j, c], then silu if asked.
 */
export function conv(
  x: Float32Array,
  weight: Float32Array,
  kernel: number,
  isSilu: boolean,
  before: Float32Array | null,
  after: Float32Array,
  out: Float32Array,
): void {
  const channels = weight.length / kernel;
  const tokens = x.length / channels;
  const past = kernel - 1;
  const input = (t: number, c: number) => {
    if (t >= 0) return x[t * channels + c];
    return before ? before[(past + t) * channels + c] : 0;
  };
  for (let t = 0; t < tokens; t++)
    for (let c = 0; c < channels; c++) {
      let sum = 0;
      for (let j = 0; j < kernel; j++) sum += weight[c * kernel + j] * input(t - past + j, c);
      out[t * channels + c] = isSilu ? sum / (1 + Math.exp(-sum)) : sum;
    }
  for (let i = 0; i < past; i++)
    for (let c = 0; c < channels; c++) after[i * channels + c] = input(tokens - past + i, c);
}

export interface DeltaShape {
  readonly tokens: number;
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  /** True: value head h uses key head h % keyHeads; else h / (valueHeads / keyHeads). */
  readonly tiled: boolean;
  /** Epsilon of the L2 norms of q and k. */
  readonly epsilon: number;
}

/** For each value head and token: the factor on its state, and how much of the new value it takes in. */
export interface DeltaGates {
  /** [tokens, valueHeads] */
  readonly a: Float32Array;
  readonly b: Float32Array;
  /** [valueHeads] */
  readonly rates: Float32Array;
  readonly bias: Float32Array;
}

/**
 * x [tokens, q | k | v]: q, k [keyHeads, keyDim], v [valueHeads, valueDim]; out [tokens, valueHeads, valueDim]; before, after
 * [valueHeads, valueDim, keyDim]. (Gated delta networks, arXiv 2412.06464, equation 10; norms and gates as in Qwen3-Next.)
 */
export function gatedDelta(
  x: Float32Array,
  gates: DeltaGates,
  shape: DeltaShape,
  before: Float32Array | null,
  after: Float32Array,
  out: Float32Array,
): void {
  const { tokens, keyHeads, valueHeads, keyDim, valueDim, tiled, epsilon } = shape;
  const keyCols = keyHeads * keyDim;
  const cols = 2 * keyCols + valueHeads * valueDim;
  const size = valueDim * keyDim;
  /** x / |x| times factor. */
  const unit = (at: number, factor: number) => {
    const vector = x.subarray(at, at + keyDim);
    const inverse = factor / Math.sqrt(vector.reduce((sum, value) => sum + value * value, epsilon));
    return Float64Array.from(vector, (value) => value * inverse);
  };
  for (let h = 0; h < valueHeads; h++) {
    const keyHead = tiled ? h % keyHeads : Math.floor(h / (valueHeads / keyHeads));
    // Rounded to float32 after each token: the same bits however a text is cut into runs.
    const state = after.subarray(h * size, (h + 1) * size).fill(0);
    if (before) state.set(before.subarray(h * size, (h + 1) * size));
    for (let t = 0; t < tokens; t++) {
      const q = unit(t * cols + keyHead * keyDim, 1 / Math.sqrt(keyDim));
      const k = unit(t * cols + keyCols + keyHead * keyDim, 1);
      const v = x.subarray(t * cols + 2 * keyCols + h * valueDim);
      const gate = t * valueHeads + h;
      const decay = Math.exp(gates.rates[h] * softplus(gates.a[gate] + gates.bias[h]));
      const beta = 1 / (1 + Math.exp(-gates.b[gate]));
      for (let row = 0; row < valueDim; row++) {
        const s = state.subarray(row * keyDim, (row + 1) * keyDim);
        let known = 0;
        for (let i = 0; i < keyDim; i++) known += s[i] * decay * k[i];
        const change = beta * (v[row] - known);
        let sum = 0;
        for (let i = 0; i < keyDim; i++) {
          s[i] = s[i] * decay + change * k[i];
          sum += s[i] * q[i];
        }
        out[(t * valueHeads + h) * valueDim + row] = sum;
      }
    }
  }
}

/** ln(1 + e^x), also if e^x overflows. */
function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}
