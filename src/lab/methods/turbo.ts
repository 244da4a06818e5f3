/**
 * TurboQuant (arXiv 2504.19874). `turbo`: a random rotation makes coordinates near Gaussian, so fixed levels of least error
 * serve all vectors, under one norm. `turbo-prod`: one bit less of that, and QJL's signs of what is left, so that inner
 * products are unbiased. The rotation is signs and a Hadamard transform rather than any orthogonal matrix.
 */
import { gaussianLevels, half, nearest } from "./grid.ts";
import { BY_TOKEN, eachVector, type Method } from "./method.ts";
import { signSketch } from "./qjl.ts";
import { norm, rotate, rotateBack } from "./random.ts";

/** A rotated vector on levels times its norm / sqrt(headDim), in place. */
function toLevels(vector: Float32Array, bits: number): void {
  const levels = gaussianLevels(bits);
  const scale = half(norm(vector)) / Math.sqrt(vector.length);
  for (let i = 0; i < vector.length; i++)
    vector[i] = scale === 0 ? 0 : scale * nearest(levels, vector[i] / scale);
}

export const turbo: Method = {
  name: "turbo",
  title: "rotated, levels of a Gaussian under one norm (TurboQuant, mean squared error)",
  needs: BY_TOKEN,
  bits: [2, 3, 4],
  groups: [0],
  rotates: true,
  bitsOf: ({ bits, headDim }) => bits + 16 / headDim,
  apply(vectors, { headDim, bits, seed }) {
    eachVector(vectors, headDim, (vector) => {
      rotate(vector, seed);
      toLevels(vector, bits);
      rotateBack(vector, seed);
    });
  },
};

export const turboProd: Method = {
  name: "turbo-prod",
  title: "TurboQuant with one bit less, and signs of what is left (inner products)",
  needs: BY_TOKEN,
  bits: [2, 3, 4],
  groups: [0],
  rotates: true,
  bitsOf: ({ bits, headDim }) => bits + 32 / headDim,
  apply(vectors, { headDim, bits, seed }) {
    const rest = new Float32Array(headDim);
    eachVector(vectors, headDim, (vector) => {
      rotate(vector, seed);
      rest.set(vector);
      toLevels(vector, bits - 1);
      for (let i = 0; i < headDim; i++) rest[i] -= vector[i];
      signSketch(rest, 1, seed);
      for (let i = 0; i < headDim; i++) vector[i] += rest[i];
      rotateBack(vector, seed);
    });
  },
};
