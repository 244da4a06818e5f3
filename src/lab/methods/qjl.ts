/**
 * QJL (arXiv 2406.03482): signs of Gaussian projections and the norm. sqrt(pi/2) / m |k| S' sign(S k) has the right inner
 * product with every query on average, which is what an estimate from the signs amounts to. `bits`: projections a dim.
 */
import { half } from "./grid.ts";
import { BY_TOKEN, eachVector, type Method } from "./method.ts";
import { gaussianMatrix, norm } from "./random.ts";

/** What the signs say of a vector, in place. perDim: projections for each dim. */
export function signSketch(vector: Float32Array, perDim: number, seed: number): void {
  const dims = vector.length;
  const projections = dims * perDim;
  const matrix = gaussianMatrix(projections, dims, seed);
  const factor = (Math.sqrt(Math.PI / 2) / projections) * half(norm(vector));
  const sum = new Float64Array(dims);
  for (let row = 0; row < projections; row++) {
    let dot = 0;
    for (let i = 0, at = row * dims; i < dims; i++, at++) dot += matrix[at] * vector[i];
    const sign = dot < 0 ? -factor : factor;
    for (let i = 0, at = row * dims; i < dims; i++, at++) sum[i] += sign * matrix[at];
  }
  vector.set(sum);
}

export const qjl: Method = {
  name: "qjl",
  title: "signs of Gaussian projections and the norm (QJL)",
  needs: BY_TOKEN,
  bits: [1, 2, 3, 4],
  groups: [0],
  rotates: true,
  bitsOf: ({ bits, headDim }) => bits + 16 / headDim,
  apply(vectors, { headDim, bits, seed }) {
    eachVector(vectors, headDim, (vector) => signSketch(vector, bits, seed));
  },
};
