/** Cosines and sines of a step's positions, for devices whose kernels would lose them in float32. */
import type { Rope } from "./contract.ts";

/**
 * Fills `into` [tokens, 2, pairs] f32: the cosines of each position, then its sines, both times the magnitude.
 * Angles are float64: at position 100,000 a float32 angle is off by 0.004.
 */
export function writeTurns(rope: Rope, position: number, tokens: number, into: Float32Array): void {
  const { frequencies, magnitude } = rope;
  const pairs = frequencies.length;
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < pairs; i++) {
      const angle = (position + t) * frequencies[i];
      into[(2 * t + 0) * pairs + i] = Math.cos(angle) * magnitude;
      into[(2 * t + 1) * pairs + i] = Math.sin(angle) * magnitude;
    }
  }
}
