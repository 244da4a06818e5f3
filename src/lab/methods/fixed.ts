/**
 * Floating point without a scale: FP8 E4M3 and FP4 E2M1 as defined by OCP. The one kind here whose error depends on the size
 * of the values: a counter-example to "scale does not matter".
 */
import { BY_TOKEN, type Method } from "./method.ts";

/** Exponent's bias, bits of the mantissa, the largest number. */
const FORMATS: Readonly<Record<number, { bias: number; mantissa: number; largest: number }>> = {
  8: { bias: 7, mantissa: 3, largest: 448 },
  4: { bias: 1, mantissa: 1, largest: 6 },
};

export const fixed: Method = {
  name: "fixed",
  title: "floating point without a scale (8 bits: FP8 E4M3; 4: FP4 E2M1)",
  needs: BY_TOKEN,
  bits: [8, 4],
  groups: [0],
  bitsOf: ({ bits }) => bits,
  apply(vectors, { bits }) {
    const { bias, mantissa, largest } = FORMATS[bits];
    for (let i = 0; i < vectors.length; i++) {
      const magnitude = Math.min(largest, Math.abs(vectors[i]));
      // Below the smallest normal number the spacing stays.
      const exponent = magnitude === 0 ? 1 - bias : Math.max(1 - bias, Math.floor(Math.log2(magnitude)));
      const spacing = 2 ** (exponent - mantissa);
      const ratio = magnitude / spacing;
      const below = Math.floor(ratio);
      const isUp = ratio - below > 0.5 || (ratio - below === 0.5 && below % 2 === 1);
      vectors[i] = Math.sign(vectors[i]) * Math.min(largest, (isUp ? below + 1 : below) * spacing);
    }
  },
};
