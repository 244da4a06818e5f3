/**
 * After KVQuant (arXiv 2401.18079): levels that are not evenly spaced, and 1 % of the values exact. Keys are normalised by
 * channel over a page, values by token. Unlike there, keys have their RoPE already, and levels are a Gaussian's rather than
 * calibrated.
 */
import { gaussianLevels, half, nearest } from "./grid.ts";
import type { Method } from "./method.ts";

const OUTLIERS = 0.01;
/** An outlier's value and its place, 16 bits each. */
const OUTLIER_BITS = 32;

export const kvquant: Method = {
  name: "kvquant",
  title: "levels of a Gaussian, 1 % outliers exact, keys by channel (KVQuant-like)",
  needs: { keys: "page", values: "page" },
  bits: [2, 3, 4],
  groups: [0],
  // A mean and a spread a channel of 32 tokens, or a token.
  bitsOf: ({ bits, headDim, part }) => bits + OUTLIERS * OUTLIER_BITS + 32 / (part === "keys" ? 32 : headDim),
  apply(vectors, { headDim, part, bits }) {
    const tokens = vectors.length / headDim;
    const [lines, count, step, stride] =
      part === "keys" ? [headDim, tokens, 1, headDim] : [tokens, headDim, headDim, 1];
    const exact = outliers(vectors, lines, count, step, stride);
    const levels = gaussianLevels(bits);
    for (let line = 0; line < lines; line++) {
      let sum = 0;
      let squares = 0;
      let kept = 0;
      for (let i = 0, at = line * step; i < count; i++, at += stride) {
        if (exact.has(at)) continue;
        kept++;
        sum += vectors[at];
        squares += vectors[at] ** 2;
      }
      if (kept === 0) continue;
      const mean = half(sum / kept);
      const spread = half(Math.sqrt(Math.max(0, squares / kept - (sum / kept) ** 2)));
      for (let i = 0, at = line * step; i < count; i++, at += stride) {
        if (exact.has(at)) vectors[at] = half(vectors[at]);
        else
          vectors[at] = spread === 0 ? mean : mean + spread * nearest(levels, (vectors[at] - mean) / spread);
      }
    }
  },
};

/** The places of the 1 % farthest from their line's mean, in units of its spread. */
function outliers(
  x: Float32Array,
  lines: number,
  count: number,
  step: number,
  stride: number,
): ReadonlySet<number> {
  const far: { at: number; by: number }[] = [];
  for (let line = 0; line < lines; line++) {
    let sum = 0;
    let squares = 0;
    for (let i = 0, at = line * step; i < count; i++, at += stride) {
      sum += x[at];
      squares += x[at] ** 2;
    }
    const mean = sum / count;
    const spread = Math.sqrt(Math.max(1e-30, squares / count - mean ** 2));
    for (let i = 0, at = line * step; i < count; i++, at += stride)
      far.push({ at, by: Math.abs(x[at] - mean) / spread });
  }
  far.sort((a, b) => b.by - a.by);
  return new Set(far.slice(0, Math.round(OUTLIERS * x.length)).map(({ at }) => at));
}
