/** Recurrent states: the reference against numbers worked out by hand, and what every device makes of slots. */
import { describe, expect, it } from "vitest";
import type { Allocation, Device, Graph, Run } from "../../src/device/contract.ts";
import { WASM_LACKS } from "../../src/device/lacks.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { conv, gatedDelta } from "../../src/device/reference/recurrent.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { randomTensor } from "./random-tensor.ts";

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

const VOCAB = 50;

function stateGraph(): Graph {
  const op = new Recorder(40, 3);
  const input = (name: string, cols: number) => op.embed(op.weight(name, "matrix", "f32", VOCAB, cols), 20);
  const vector = (name: string, cols: number) => op.weight(name, "vector", "f32", 1, cols);
  const x = op.conv(input("x", 128), vector("conv", 128 * 4), { layer: 0, kernel: 4, activation: "silu" });
  const [a, b] = [input("a", 4), input("b", 4)];
  const heads = { keyHeads: 2, valueHeads: 4, keyDim: 16, valueDim: 16 };
  const weights = { rates: vector("rates", 4), bias: vector("bias", 4) };
  const out = op.gatedDelta({ x, a, b }, weights, { layer: 0, ...heads, epsilon: 1e-6 });
  return op.finish(op.takeOutputs(out), { texts: 3, blocks: 8, stateSlots: 7 });
}

const DEVICES: readonly (readonly [string, () => Device | Promise<Device>])[] = [
  ["reference", referenceDevice],
  ...(["gatedDelta", "conv"].some((name) => WASM_LACKS.has(name))
    ? []
    : [["CPU", () => wasmDevice({ threads: 2 })] as const]),
];

describe.each(DEVICES)("on the %s device", (_, open) => {
  const allocated = async (body: (allocation: Allocation, graph: Graph) => Promise<void>) => {
    const graph = stateGraph();
    const allocation = await (await open()).allocate(graph);
    try {
      for (const [i, { name, rows, cols }] of graph.weights.entries())
        await allocation.load(graph.weights[i], randomTensor(name, "f32", rows, cols, i + 1));
      await body(allocation, graph);
    } finally {
      await allocation.close();
    }
  };
  const part = (text: number, position: number, tokens: number, from: number | null, to: number): Run => {
    const ids = Uint32Array.from({ length: tokens }, (_, i) => ((position + i) * 7 + 3) % VOCAB);
    return { text, position, ids, outputs: 1, state: { from, to } };
  };
  const last = (allocation: Allocation, graph: Graph, row = 0) => allocation.read(graph.logits, row, 1);

  it("a slot that was read is as before: texts go on from it, also in one step", () =>
    allocated(async (allocation, graph) => {
      await allocation.run({ runs: [part(0, 0, 40, null, 6)] });
      await allocation.run({ runs: [part(0, 40, 5, 6, 0)] });
      const wanted = await last(allocation, graph);
      await allocation.run({ runs: [part(0, 40, 5, 6, 1), part(2, 40, 5, 6, 2), part(1, 0, 3, null, 3)] });
      expect(await last(allocation, graph)).toEqual(wanted);
      expect(await last(allocation, graph, 1)).toEqual(wanted);
    }));

  it("what a slot holds is read and written as numbers of the contract, the same on every device", () =>
    allocated(async (allocation, graph) => {
      await allocation.run({ runs: [part(0, 0, 40, null, 0)] });
      for (const state of graph.states) {
        const bytes = await allocation.readState(state, 0);
        expect(bytes.length).toBe(state.values * 4);
        await allocation.writeState(state, 5, bytes);
        expect(await allocation.readState(state, 5)).toEqual(bytes);
      }
      await allocation.run({ runs: [part(1, 40, 1, 0, 1), part(2, 40, 1, 5, 2)] });
      expect(await last(allocation, graph, 1)).toEqual(await last(allocation, graph));
      // The last three inputs of the convolution, as the embedding gives them.
      const row = graph.ops[0].op === "embed" ? graph.ops[0].table : null;
      expect(graph.states[0].values).toBe(3 * row!.cols);
    }));

  it("slots that a step cannot take are refused, and nothing runs", () =>
    allocated(async (allocation, graph) => {
      const refused = (runs: Run[], what: string) => expect(allocation.run({ runs })).rejects.toThrow(what);
      await refused([{ ...part(0, 0, 1, null, 0), state: null }], "state of a run");
      await refused([part(0, 0, 1, null, 7)], "slot of states is 7; allowed: integers 0 to 6");
      await refused([part(0, 0, 1, 3, 0)], "a slot to read at position 0");
      await refused([part(0, 5, 1, null, 0)], "no slot to read at position 5");
      await refused([part(0, 5, 1, 2, 2)], "slot to write is 2");
      await refused([part(0, 5, 1, 1, 2), part(1, 5, 1, 2, 3)], "slot to write");
      await refused([part(0, 5, 1, 1, 2), part(1, 5, 1, 3, 1)], "slot to write");
      await refused([part(0, 5, 1, 1, 2), part(1, 5, 1, 3, 2)], "slot to write");
      await expect(allocation.writeState(graph.states[0], 0, new Uint8Array(4))).rejects.toThrow(
        "bytes of a state",
      );
      await expect(allocation.readState(graph.states[0], 7)).rejects.toThrow("slot of states");
    }));
});

it("on the reference a text's states are the same bits however it is cut into runs", async () => {
  const graph = stateGraph();
  const found: Uint8Array[][] = [];
  for (const cuts of [[40], [1, 2, 37], [13, 13, 14]]) {
    const allocation = await referenceDevice().allocate(graph);
    for (const [i, { name, rows, cols }] of graph.weights.entries())
      await allocation.load(graph.weights[i], randomTensor(name, "f32", rows, cols, i + 1));
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
