/** Cosines and sines of a step's positions, for devices whose kernels would lose them in float32. */
import type { Rope } from "./contract.ts";

/**
 * Fills `into` [rows, 2, pairs] f32: the cosines of each position, then its sines, both times the
 * magnitude. Angles are float64: at position 100,000 a float32 angle is off by 0.004.
 */
export function writeAngles(
  { frequencies, magnitude }: Rope,
  positions: Uint32Array,
  into: Float32Array,
): void {
  const pairs = frequencies.length;
  positions.forEach((position, row) => {
    for (let i = 0; i < pairs; i++) {
      const angle = position * frequencies[i];
      into[(2 * row + 0) * pairs + i] = Math.cos(angle) * magnitude;
      into[(2 * row + 1) * pairs + i] = Math.sin(angle) * magnitude;
    }
  });
}
