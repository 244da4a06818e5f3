/** Recurrent states: the reference against numbers worked out by hand, and what every device makes of slots. */
import { describe, expect, it } from "vitest";
import type { Device } from "../../src/device/contract.ts";
import { conv, gatedDelta } from "../../src/device/reference/recurrent.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { loadWeights, slotCases, stateGraph, VOCAB } from "./slot-cases.ts";

it("conv adds what a kernel sees of the last tokens, and keeps as many of them", () => {
  const weight = Float32Array.of(100, 10, 1, 0.5, 0, 2);
  const out = new Float32Array(4);
  const after = new Float32Array(4);
  conv(Float32Array.of(1, 2, 3, 4), weight, 3, false, null, after, out);
  expect([...out]).toEqual([1, 4, 13, 8]);
  expect([...after]).toEqual([1, 2, 3, 4]);
  const next = new Float32Array(4);
  conv(Float32Array.of(5, 6), weight, 3, false, after, next, out.subarray(0, 2));
  expect([...out.subarray(0, 2)]).toEqual([135, 13]);
  expect([...next]).toEqual([3, 4, 5, 6]);
  expect([...after]).toEqual([1, 2, 3, 4]);
});

it("gatedDelta remembers a value under its key, replaces it by a part, and forgets at its rate", () => {
  const shape = { keyHeads: 1, valueHeads: 1, keyDim: 2, valueDim: 1, tiled: false, epsilon: 0 };
  const run = (q: number[], k: number[], v: number, b: number, before: Float32Array | null) => {
    const [after, out] = [new Float32Array(2), new Float32Array(1)];
    const gates = {
      a: Float32Array.of(1),
      b: Float32Array.of(b),
      // e^(-1 ln(1 + e^0)) = 1/2
      rates: Float32Array.of(-1),
      bias: Float32Array.of(-1),
    };
    gatedDelta(Float32Array.of(...q, ...k, v), gates, { ...shape, tokens: 1 }, before, after, out);
    return { after, out: out[0] };
  };
  const all = 40;
  const first = run([7, 0], [3, 0], 8, all, null);
  expect(first.after[0]).toBeCloseTo(8);
  expect(first.out).toBeCloseTo(8 / Math.SQRT2);
  // Another key: the first value is halved, and still there.
  const second = run([1, 0], [0, 2], 6, all, first.after);
  expect([...second.after]).toEqual([4, 6]);
  // Half of the difference: 2 + (10 - 2) / 2.
  const third = run([1, 0], [1, 0], 10, 0, second.after);
  expect([...third.after]).toEqual([6, 3]);
});

it("gatedDelta: which key head a value head reads", () => {
  const heads = (tiled: boolean) => {
    const out = new Float32Array(4);
    const x = new Float32Array(2 * 2 * 2 + 4);
    // q of head 0 and k of both: e_0; q of head 1: 0.
    x.set([1, 0, 0, 0, 1, 0, 1, 0, 1, 2, 3, 4]);
    const one = new Float32Array(4);
    const gates = { a: one, b: one.fill(40), rates: one.slice().fill(0), bias: one };
    const shape = { tokens: 1, keyHeads: 2, valueHeads: 4, keyDim: 2, valueDim: 1, tiled, epsilon: 1e-30 };
    gatedDelta(x, gates, shape, null, new Float32Array(8), out);
    return [...out].map((value) => value > 0);
  };
  expect(heads(false)).toEqual([true, true, false, false]);
  expect(heads(true)).toEqual([true, false, true, false]);
});

const DEVICES: readonly (readonly [string, () => Device | Promise<Device>])[] = [
  ["reference", referenceDevice],
  ["CPU", () => wasmDevice({ threads: 2 })],
  ["CPU (three memories)", () => wasmDevice({ threads: 2, memory: { dealTo: 3 } })],
];

describe.each(DEVICES)("on the %s device", (_, open) => {
  it.each(slotCases)("%s", async (_, check) => check(await open()));
});

it("on the reference a text's states are the same bits however it is cut into runs", async () => {
  const graph = stateGraph();
  const found: Uint8Array[][] = [];
  for (const cuts of [[40], [1, 2, 37], [13, 13, 14]]) {
    const allocation = await referenceDevice().allocate(graph);
    await loadWeights(allocation, graph);
    let position = 0;
    let slot = 0;
    for (const tokens of cuts) {
      const ids = Uint32Array.from({ length: tokens }, (_, i) => (position + i) % VOCAB);
      const state = { from: position === 0 ? null : slot, to: slot + 1 };
      await allocation.run({ runs: [{ text: 0, position, ids, outputs: 0, state }] });
      slot++;
      position += tokens;
    }
    found.push(await Promise.all(graph.states.map((state) => allocation.readState(state, slot))));
  }
  expect(found[1]).toEqual(found[0]);
  expect(found[2]).toEqual(found[0]);
});
