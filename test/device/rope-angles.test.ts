/** Cosines and sines by the addition theorem: exact to float32's last digit, and the same however positions come. */
import { expect, it } from "vitest";
import { Angles } from "../../src/device/rope-angles.ts";
import { llama3Scaled, ropeFrequencies, yarnFrequencies } from "../../src/model/rope.ts";

const plain = ropeFrequencies(500_000, 128);
const LLAMA3 = { factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 8192 };
const SCALED = { base: 10_000, dims: 64, factor: 32, originalContext: 4096 };
const YARN = { ...SCALED, betaFast: 32, betaSlow: 1, truncate: true };
/** Frequencies, magnitude, largest difference: float32's last digit below 1, or below 2. */
const ROPES: [string, Float64Array, number, number][] = [
  ["plain", plain, 1, 2 ** -24],
  ["linear", ropeFrequencies(10_000, 64, 8), 1, 2 ** -24],
  ["llama3", llama3Scaled(plain, LLAMA3), 1, 2 ** -24],
  ["YaRN", yarnFrequencies(YARN), 1.35, 2 ** -23],
  ["still pairs", Float64Array.of(1, 0.01, 1e-30, 0), 1, 2 ** -24],
  // Its angles of up to 10^9 are themselves exact to 10^-7.
  ["as fast as they may be", Float64Array.of(1000, 999.9, Math.PI), 1, 2 ** -22],
];

it.each(ROPES)("%s: as from Math.cos and Math.sin", (_, frequencies, magnitude, allowed) => {
  const pairs = frequencies.length;
  const angles = new Angles({ id: 0, frequencies, magnitude });
  // Up to 2^20, each rest of 64.
  const positions = Uint32Array.from({ length: 4096 }, (_, i) => i * 255 + (i >> 6));
  const found = new Float32Array(positions.length * 2 * pairs);
  angles.write(positions, found);
  let largest = 0;
  for (const [row, position] of positions.entries())
    for (let i = 0; i < pairs; i++) {
      const angle = position * frequencies[i];
      const at = 2 * row * pairs + i;
      largest = Math.max(largest, Math.abs(found[at] - Math.fround(Math.cos(angle) * magnitude)));
      largest = Math.max(largest, Math.abs(found[at + pairs] - Math.fround(Math.sin(angle) * magnitude)));
    }
  expect(largest).toBeLessThanOrEqual(allowed);
});

it("depends on the position alone: in one step, one by one, backwards, and after far positions", () => {
  const rope = { id: 0, frequencies: plain, magnitude: 1 };
  const positions = Uint32Array.from({ length: 700 }, (_, i) => 130_900 + i);
  const cols = 2 * plain.length;
  const whole = new Float32Array(positions.length * cols);
  new Angles(rope).write(positions, whole);
  const angles = new Angles(rope);
  const row = new Float32Array(cols);
  for (let i = positions.length - 1; i >= 0; i--) {
    angles.write(positions.subarray(i, i + 1), row);
    expect(row).toEqual(whole.subarray(i * cols, (i + 1) * cols));
    if (i % 7 === 0) angles.write(Uint32Array.of(positions[i] + 64 * 32, 3), new Float32Array(2 * cols));
  }
});
