/**
 * Conformance cases of recurrent states: convolutions and gated delta rules over runs of one token and of many, of one text
 * and of several, with states that are read in one slot and written in another.
 */
import type { Recorder } from "../../src/device/recorder.ts";
import type { DeviceCase, Given, TOLERANCES } from "./device-cases.ts";

interface Convolution {
  channels: number;
  kernel: number;
  activation: "silu" | null;
  steps: DeviceCase["steps"];
}

const CONVOLUTIONS: Convolution[] = [
  { channels: 96, kernel: 4, activation: "silu", steps: [5] },
  // Shorter than the kernel, so that a new state keeps some of the old one.
  { channels: 96, kernel: 4, activation: "silu", steps: [1, 1, 1, 2, 1] },
  { channels: 33, kernel: 2, activation: null, steps: [3, 1, 70] },
  { channels: 64, kernel: 8, activation: "silu", steps: [2, 9, 1, 3, 1] },
  {
    channels: 160,
    kernel: 4,
    activation: "silu",
    steps: [
      [33, 2, 0],
      [1, 1, 70],
      [2, 0, 1],
      [1, 1, 1],
    ],
  },
];

interface Delta {
  keyHeads: number;
  valueHeads: number;
  keyDim: number;
  valueDim: number;
  tiled?: boolean;
  /** Everything forgotten, or nothing; all taken in, or nothing: at some tokens. */
  extreme?: boolean;
  steps: DeviceCase["steps"];
  onlyFast?: boolean;
}

/** The shapes of Qwen 3.5 0.8B to 27B and of tests. */
const DELTAS: Delta[] = [
  { keyHeads: 2, valueHeads: 4, keyDim: 16, valueDim: 16, steps: [1, 1, 1] },
  { keyHeads: 2, valueHeads: 4, keyDim: 16, valueDim: 16, tiled: true, steps: [7, 1] },
  { keyHeads: 1, valueHeads: 3, keyDim: 32, valueDim: 64, steps: [5, 20, 1], onlyFast: true },
  { keyHeads: 2, valueHeads: 2, keyDim: 64, valueDim: 32, steps: [17, 3], onlyFast: true },
  { keyHeads: 1, valueHeads: 2, keyDim: 128, valueDim: 128, tiled: true, steps: [1, 11, 2] },
  { keyHeads: 2, valueHeads: 6, keyDim: 128, valueDim: 128, steps: [70, 1, 300, 1], onlyFast: true },
  { keyHeads: 1, valueHeads: 2, keyDim: 48, valueDim: 80, steps: [9, 1], onlyFast: true },
  // A GPU fetches four tokens of these at a time, and two.
  { keyHeads: 1, valueHeads: 2, keyDim: 256, valueDim: 20, steps: [11, 1] },
  { keyHeads: 1, valueHeads: 1, keyDim: 512, valueDim: 12, steps: [5] },
  {
    keyHeads: 2,
    valueHeads: 4,
    keyDim: 32,
    valueDim: 32,
    steps: [
      [19, 2, 0],
      [1, 1, 20],
      [9, 0, 1],
      [1, 1, 1],
    ],
  },
  // Prompts, which go in chunks, and what follows from their states.
  { keyHeads: 1, valueHeads: 3, keyDim: 32, valueDim: 40, steps: [3, 61] },
  { keyHeads: 2, valueHeads: 4, keyDim: 32, valueDim: 32, extreme: true, steps: [40, 67] },
  {
    keyHeads: 1,
    valueHeads: 2,
    keyDim: 16,
    valueDim: 20,
    extreme: true,
    steps: [[26, 1, 40], [1, 33, 24], 50],
  },
];

/** Gates at a token: 1e4 forgets everything and -80 nothing; 80 takes all of a value in and -200 nothing. */
const EXTREMES: { a: readonly (number | null)[]; b: readonly (number | null)[] } = {
  a: [null, 1e4, null, -80, null],
  b: [null, 80, -200],
};

/** a and b of ordinary size; rates as of models, whose states last from one token to hundreds. */
function delta(op: Recorder, given: Given, shape: Omit<Delta, "steps" | "onlyFast">, seed: number) {
  const { keyHeads, valueHeads, keyDim, valueDim, extreme = false, ...more } = shape;
  const gate = (which: "a" | "b", x: number, row: number) => {
    const all = EXTREMES[which];
    return (extreme ? all[row % all.length] : null) ?? x;
  };
  return op.gatedDelta(
    {
      x: given.input(2 * keyHeads * keyDim + valueHeads * valueDim, seed),
      a: given.shaped(valueHeads, seed + 1, (x, row) => gate("a", x, row)),
      b: given.shaped(valueHeads, seed + 2, (x, row) => gate("b", 2 * x, row)),
    },
    {
      rates: given.shapedVector(valueHeads, seed + 3, (x, _, head) => -(4 ** -head) - 0.01 * Math.abs(x)),
      bias: given.shapedVector(valueHeads, seed + 4, (x) => x),
    },
    { layer: 0, epsilon: 1e-6, keyHeads, valueHeads, keyDim, valueDim, ...more },
  );
}

export function stateCases(tolerances: typeof TOLERANCES): DeviceCase[] {
  return [
    ...CONVOLUTIONS.map(({ channels, kernel, activation, steps }) => ({
      name: `conv of ${channels} channels, kernel ${kernel}, ${activation}, steps ${JSON.stringify(steps)}`,
      tolerance: tolerances.float,
      steps,
      build: (op: Recorder, given: Given) => {
        const weight = given.weight("vector", "f32", 1, channels * kernel, 2);
        return op.conv(given.input(channels, 1), weight, { layer: 0, kernel, activation });
      },
    })),
    ...DELTAS.map(({ steps, onlyFast, ...shape }) => ({
      name: `gatedDelta of ${shape.valueHeads}/${shape.keyHeads} heads of ${shape.valueDim} x ${shape.keyDim}${shape.tiled ? ", tiled" : ""}${shape.extreme ? ", extreme gates" : ""}, steps ${JSON.stringify(steps)}`,
      tolerance: tolerances.delta,
      ...{ steps, onlyFast },
      build: (op: Recorder, given: Given) => delta(op, given, shape, 1),
    })),
    {
      name: "a recurrent layer: conv, gatedDelta, norm and gate, over two layers",
      tolerance: 2 * tolerances.delta,
      steps: [
        [9, 2],
        [1, 10],
        [1, 1],
      ],
      build(op, given) {
        const shape = { keyHeads: 2, valueHeads: 4, keyDim: 32, valueDim: 32 };
        let z = given.input(128, 9);
        for (const layer of [0, 1]) {
          const weight = given.weight("vector", "f32", 1, 256 * 4, 3 + layer);
          const mixed = op.conv(op.matmul(z, given.weight("matrix", "f32", 256, 128, 20 + layer)), weight, {
            ...{ layer, kernel: 4, activation: "silu" },
          });
          const gates = op.matmul(z, given.weight("matrix", "f32", 4, 128, 30 + layer));
          const vector = (seed: number) => given.shapedVector(4, seed, (x) => -Math.abs(x));
          const out = op.gatedDelta(
            { x: mixed, a: gates, b: gates },
            { rates: vector(40 + layer), bias: vector(50 + layer) },
            { layer, epsilon: 1e-6, ...shape },
          );
          const norm = given.weight("vector", "f32", 1, 32, 60 + layer);
          z = op.gate(z, op.rmsNorm(out, norm, 1e-6, 4), "silu");
        }
        return z;
      },
    },
  ];
}
