/**
 * After KVarN (arXiv 2606.03458): Hadamard, then the rows and the columns of a tile are divided by their spreads in turn until
 * both are 1, and a uniform grid. Tiles are a page's 32 tokens here, 128 there.
 */
import { half, UNIFORM_BITS, uniform } from "./grid.ts";
import { eachVector, type Method } from "./method.ts";
import { rotate, rotateBack } from "./random.ts";

const ROUNDS = 4;

export const kvarn: Method = {
  name: "kvarn",
  title: "rotated tiles normalised by token and channel (KVarN-like)",
  needs: { keys: "page", values: "page" },
  bits: UNIFORM_BITS.filter((bits) => bits >= 2),
  groups: [0],
  rotates: true,
  bitsOf: ({ bits, headDim }) => bits + 16 / headDim + 16 / 32,
  apply(vectors, { headDim, bits, seed }) {
    const tokens = vectors.length / headDim;
    eachVector(vectors, headDim, (vector) => rotate(vector, seed));
    const rows = new Float64Array(tokens).fill(1);
    const cols = new Float64Array(headDim).fill(1);
    for (let round = 0; round < ROUNDS; round++) {
      for (let t = 0; t < tokens; t++) rows[t] = spread(headDim, (i) => vectors[t * headDim + i] / cols[i]);
      for (let i = 0; i < headDim; i++) cols[i] = spread(tokens, (t) => vectors[t * headDim + i] / rows[t]);
    }
    const [rowScales, colScales] = [rows.map(half), cols.map(half)];
    for (let t = 0; t < tokens; t++)
      for (let i = 0; i < headDim; i++) {
        const scale = rowScales[t] * colScales[i];
        const at = t * headDim + i;
        vectors[at] = scale === 0 ? 0 : scale * uniform(vectors[at] / scale, bits);
      }
    eachVector(vectors, headDim, (vector) => rotateBack(vector, seed));
  },
};

/** Root mean square. */
function spread(count: number, at: (i: number) => number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += at(i) ** 2;
  return Math.sqrt(sum / count) || 1;
}
