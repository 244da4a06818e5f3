/**
 * Asymmetric integer codes in groups along the head. 4 bits in groups of 32 are the shipped `int4` (Open-TQ-Metal, arXiv
 * 2604.16957); after a rotation, SAW-INT4's idea.
 */
import { affineGrid as grid } from "./grid.ts";
import { BY_TOKEN, eachVector, type Method, type Shape } from "./method.ts";

const sizeOf = ({ group, headDim }: Shape) => (group === 0 ? headDim : Math.min(group, headDim));

export const affine: Method = {
  name: "affine",
  title: "asymmetric integers in groups along the head (4 bits, groups of 32: int4)",
  needs: BY_TOKEN,
  bits: [2, 3, 4, 5, 6, 8],
  groups: [32, 64, 0],
  bitsOf: (shape) => shape.bits + 32 / sizeOf(shape),
  apply(vectors, setting) {
    const size = sizeOf(setting);
    eachVector(vectors, setting.headDim, (vector) => {
      for (let at = 0; at < vector.length; at += size)
        grid(vector, at, 1, Math.min(size, vector.length - at), setting.bits);
    });
  },
};
