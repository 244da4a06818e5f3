/** The chunked form of the gated delta rule, which kernels for prompts compute, against the recurrent one, which defines it. */
import { describe, expect, it } from "vitest";
import { type DeltaGates, type DeltaShape, gatedDelta } from "../../src/device/reference/recurrent.ts";
import { deltaWorkBytes } from "../../src/device/wasm/program.ts";
import { deltaInChunks } from "./delta-chunks.ts";
import { KernelBench } from "./kernels.ts";
import { gaussian, random } from "./random-tensor.ts";

const HEADS = { keyHeads: 1, valueHeads: 2, keyDim: 16, valueDim: 8, tiled: false, epsilon: 1e-6 };
const COLS = 2 * HEADS.keyHeads * HEADS.keyDim + HEADS.valueHeads * HEADS.valueDim;

/** What a and b are at a token, of a random number; decay e^(rate ln(1 + e^a)), beta 1 / (1 + e^-b). */
interface Gates {
  a(x: number, token: number): number;
  b(x: number, token: number): number;
}

const GATES: Readonly<Record<string, Gates>> = {
  "ordinary gates": { a: (x) => x, b: (x) => 2 * x },
  "nothing forgotten, all taken in": { a: () => -80, b: () => 80 },
  "everything forgotten at each token": { a: () => 1e4, b: (x) => x },
  "everything forgotten at some tokens": { a: (x, t) => (t % 7 === 5 ? 1e4 : x - 4), b: (x) => x },
  "nothing taken in": { a: (x) => x - 4, b: () => -200 },
  "all or nothing taken in": { a: (x) => x - 4, b: (_, t) => (t % 3 === 0 ? 80 : -200) },
};

/** Keys that differ, or the same at each token: then each change undoes the one before. */
const KEYS: Readonly<Record<string, (x: number, col: number) => number>> = {
  "random keys": (x) => x,
  "the same keys": (_, col) => (col % 5) - 2,
  "no keys": () => 0,
};

function given(tokens: number, { a, b }: Gates, key: (x: number, col: number) => number) {
  const next = random(tokens);
  const [from, to] = [HEADS.keyDim, 2 * HEADS.keyDim];
  const x = Float32Array.from({ length: tokens * COLS }, (_, i) => {
    const col = i % COLS;
    const value = gaussian(next);
    return col >= from && col < to ? key(value, col) : value;
  });
  const each = (make: (x: number, token: number) => number) =>
    Float32Array.from({ length: tokens * HEADS.valueHeads }, (_, i) =>
      make(gaussian(next), Math.floor(i / HEADS.valueHeads)),
    );
  const gates: DeltaGates = {
    ...{ a: each(a), b: each(b) },
    ...{ rates: Float32Array.of(-1, -0.05), bias: Float32Array.of(0, 0.5) },
  };
  const size = HEADS.valueHeads * HEADS.valueDim * HEADS.keyDim;
  return { x, gates, before: Float32Array.from({ length: size }, () => gaussian(next)) };
}

type Form = (
  ...args: [
    x: Float32Array,
    gates: DeltaGates,
    shape: DeltaShape,
    before: Float32Array,
    after: Float32Array,
    out: Float32Array,
  ]
) => void;

/** Outputs and the last state; the tokens come in runs that end at `cuts`, with the states there. */
function run({ x, gates, before }: ReturnType<typeof given>, cuts: readonly number[], form: Form) {
  const { valueHeads, valueDim } = HEADS;
  const out = new Float32Array((x.length / COLS) * valueHeads * valueDim);
  const states = [before];
  for (const [i, end] of cuts.entries()) {
    const first = i === 0 ? 0 : cuts[i - 1];
    const part = (values: Float32Array, cols: number) => values.subarray(first * cols, end * cols);
    const own = { ...gates, a: part(gates.a, valueHeads), b: part(gates.b, valueHeads) };
    const after = new Float32Array(before.length);
    const shape = { ...HEADS, tokens: end - first };
    form(part(x, COLS), own, shape, states[i], after, part(out, valueHeads * valueDim));
    states.push(after);
  }
  return { out, states: states.slice(1) };
}

/** The largest difference over the largest number. */
function differs(found: Float32Array, wanted: Float32Array): number {
  const most = wanted.reduce((a, b) => Math.max(a, Math.abs(b)), 1e-30);
  return found.reduce((worst, value, i) => Math.max(worst, Math.abs(value - wanted[i])), 0) / most;
}

/** Of the definition, which rounds its states to float32 after each token. */
const TOLERANCE = 2e-6;

describe.each(Object.entries(GATES))("gatedDelta in chunks: %s", (_, gates) => {
  it.each(Object.entries(KEYS))("%s", (_, key) => {
    for (const [tokens, chunk] of [
      [64, 64],
      [70, 16],
      [33, 8],
      [5, 16],
    ]) {
      const all = given(tokens, gates, key);
      const wanted = run(all, [tokens], gatedDelta);
      const found = run(all, [tokens], (...args) => deltaInChunks(...args, chunk));
      expect(differs(found.out, wanted.out)).toBeLessThan(TOLERANCE);
      expect(differs(found.states[0], wanted.states[0])).toBeLessThan(TOLERANCE);
    }
  });
});

it("gatedDelta in chunks: states at cuts within chunks, and what follows from them", () => {
  const all = given(80, GATES["ordinary gates"], KEYS["random keys"]);
  const cuts = [1, 32, 35, 64, 80];
  const wanted = run(all, cuts, gatedDelta);
  const found = run(all, cuts, (...args) => deltaInChunks(...args, 16));
  for (const [i, state] of found.states.entries())
    expect(differs(state, wanted.states[i])).toBeLessThan(TOLERANCE);
  expect(differs(found.out, wanted.out)).toBeLessThan(TOLERANCE);
  // And the same as of one run, whose chunks begin elsewhere.
  const whole = run(all, [80], (...args) => deltaInChunks(...args, 16));
  expect(differs(found.out, whole.out)).toBeLessThan(TOLERANCE);
});

it("the CPU's kernel has a work area of the size that is planned for it", async () => {
  const bench = await KernelBench.open("auto", 1);
  for (const keyDim of [16, 128])
    expect(bench.call.deltaWorkBytes(bench.place(64), keyDim)).toBe(deltaWorkBytes(keyDim));
});
