/**
 * PolarQuant (arXiv 2502.02617): rotated, then blocks of 16 values as one radius and 15 angles in four levels. Angles of the
 * first level lie in [0, 2 pi) with 4 bits; those above are of two radii, so in [0, pi/2], with 2 bits at levels of least
 * error for what Gaussian values give there (k-means over samples: 8, 4 and 2 values a radius).
 */
import { half, nearest } from "./grid.ts";
import { BY_TOKEN, eachVector, type Method } from "./method.ts";
import { rotate, rotateBack } from "./random.ts";

const BLOCK = 16;
const FIRST = (2 * Math.PI) / 16;
/** Angles of levels 2, 3 and 4. */
const ANGLES = [
  [0.3098, 0.634, 0.9368, 1.261],
  [0.4262, 0.6744, 0.8964, 1.1445],
  [0.5242, 0.7059, 0.8649, 1.0466],
].map((level) => Float64Array.from(level));
/** 8 angles of 4 bits, 4 + 2 + 1 of 2 bits, a float16 radius. */
const BITS = (8 * 4 + 7 * 2 + 16) / BLOCK;

export const polar: Method = {
  name: "polar",
  title: "rotated blocks of 16 in polar coordinates (PolarQuant)",
  needs: BY_TOKEN,
  bits: [4],
  groups: [0],
  rotates: true,
  bitsOf: () => BITS,
  apply(vectors, { headDim, seed }) {
    eachVector(vectors, headDim, (vector) => {
      rotate(vector, seed);
      for (let at = 0; at < headDim; at += BLOCK) quantize(vector.subarray(at, at + BLOCK));
      rotateBack(vector, seed);
    });
  },
};

function quantize(x: Float32Array): void {
  let radii = Float64Array.from(x);
  const levels: Float64Array[] = [];
  while (radii.length > 1) {
    const isFirst = levels.length === 0;
    const next = new Float64Array(radii.length / 2);
    const angles = next.map((_, i) => {
      const [a, b] = [radii[2 * i], radii[2 * i + 1]];
      next[i] = Math.hypot(a, b);
      const angle = Math.atan2(b, a);
      return isFirst ? (Math.floor(angle / FIRST) + 0.5) * FIRST : nearest(ANGLES[levels.length - 1], angle);
    });
    levels.push(angles);
    radii = next;
  }
  let values = Float64Array.of(half(radii[0]));
  for (const angles of levels.reverse()) {
    const wider = new Float64Array(values.length * 2);
    values.forEach((radius, i) => {
      wider[2 * i] = radius * Math.cos(angles[i]);
      wider[2 * i + 1] = radius * Math.sin(angles[i]);
    });
    values = wider;
  }
  x.set(values);
}
