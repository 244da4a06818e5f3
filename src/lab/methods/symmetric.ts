/** llama.cpp's q4_0 and q8_0: one scale a group, codes around 0, of which the largest magnitude takes the lowest. */
import { half } from "./grid.ts";
import { BY_TOKEN, eachVector, type Method, type Shape } from "./method.ts";

const sizeOf = ({ group, headDim }: Shape) => (group === 0 ? headDim : Math.min(group, headDim));

export const symmetric: Method = {
  name: "symmetric",
  title: "symmetric integers, one scale a group (ggml's q4_0 and q8_0)",
  needs: BY_TOKEN,
  bits: [3, 4, 5, 8],
  groups: [32, 64, 0],
  bitsOf: (shape) => shape.bits + 16 / sizeOf(shape),
  apply(vectors, setting) {
    const size = sizeOf(setting);
    const most = 2 ** (setting.bits - 1);
    eachVector(vectors, setting.headDim, (vector) => {
      for (let at = 0; at < vector.length; at += size) {
        const group = vector.subarray(at, at + size);
        let extreme = 0;
        for (const x of group) if (Math.abs(x) > Math.abs(extreme)) extreme = x;
        const scale = half(extreme / -most);
        const inverse = scale === 0 ? 0 : 1 / scale;
        for (let i = 0; i < group.length; i++)
          group[i] = scale * Math.min(most - 1, Math.max(-most, Math.round(group[i] * inverse)));
      }
    });
  },
};
