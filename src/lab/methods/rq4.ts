/** The shipped `rq4`: rotated 4-bit codes under one scale a vector (cache/codec-rotated.ts). Other draws flip other signs first. */
import { rq4 as codec } from "../../cache/codec-rotated.ts";
import { BY_TOKEN, eachVector, type Method } from "./method.ts";
import { signs } from "./random.ts";

export const rq4: Method = {
  name: "rq4",
  title: "rotated 4-bit codes, one scale a vector (rq4, as it ships)",
  needs: BY_TOKEN,
  bits: [4],
  groups: [0],
  rotates: true,
  bitsOf: ({ headDim }) => 4 + 16 / headDim,
  apply(vectors, { headDim, part, seed }) {
    const bytes = new Uint8Array(codec.vectorBytes(headDim));
    const sign = seed === 0 ? null : signs(headDim, seed);
    const flip = (vector: Float32Array) => {
      if (sign) for (let i = 0; i < vector.length; i++) vector[i] *= sign[i];
    };
    eachVector(vectors, headDim, (vector) => {
      flip(vector);
      codec.encode(vector, bytes, part);
      codec.decode(bytes, vector);
      flip(vector);
    });
  },
};
