/**
 * KIVI (arXiv 2402.02750): keys by channel over the 32 tokens of a page, since their large channels stay the same from token
 * to token; values by token in groups of 32. Tokens wait as f16 until their page is full.
 */
import { affineGrid } from "./grid.ts";
import { eachVector, type Method } from "./method.ts";

const GROUP = 32;

export const kivi: Method = {
  name: "kivi",
  title: "keys by channel over a page, values by token (KIVI)",
  needs: { keys: "page", values: "page" },
  bits: [2, 3, 4, 8],
  groups: [0],
  bitsOf: ({ bits }) => bits + 32 / GROUP,
  apply(vectors, { headDim, part, bits }) {
    const tokens = vectors.length / headDim;
    if (part === "keys")
      for (let dim = 0; dim < headDim; dim++) affineGrid(vectors, dim, headDim, tokens, bits);
    else
      eachVector(vectors, headDim, (vector) => {
        for (let at = 0; at < headDim; at += GROUP)
          affineGrid(vector, at, 1, Math.min(GROUP, headDim - at), bits);
      });
  },
};
