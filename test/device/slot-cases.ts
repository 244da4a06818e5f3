/** What every device makes of slots of recurrent states: read, left as they are, written elsewhere, saved; wrong ones refused. */
import { expect } from "vitest";
import type { Allocation, Device, Graph, Run } from "../../src/device/contract.ts";
import { Recorder } from "../../src/device/recorder.ts";
import { randomTensor } from "./random-tensor.ts";

export const VOCAB = 50;

export function stateGraph(): Graph {
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

/** Gives its weights the same values on every device. */
export async function loadWeights(allocation: Allocation, graph: Graph): Promise<void> {
  for (const [i, weight] of graph.weights.entries())
    await allocation.load(weight, randomTensor(weight.name, "f32", weight.rows, weight.cols, i + 1));
}

async function allocated(
  device: Device,
  body: (allocation: Allocation, graph: Graph) => Promise<void>,
): Promise<void> {
  const graph = stateGraph();
  const allocation = await device.allocate(graph);
  try {
    await loadWeights(allocation, graph);
    await body(allocation, graph);
  } finally {
    await allocation.close();
  }
}

const part = (text: number, position: number, tokens: number, from: number | null, to: number): Run => {
  const ids = Uint32Array.from({ length: tokens }, (_, i) => ((position + i) * 7 + 3) % VOCAB);
  return { text, position, ids, outputs: 1, state: { from, to } };
};
const last = (allocation: Allocation, graph: Graph, row = 0) => allocation.read(graph.logits, row, 1);

export const slotCases: readonly (readonly [string, (device: Device) => Promise<void>])[] = [
  [
    "a slot that was read is as before: texts go on from it, also in one step",
    (device) =>
      allocated(device, async (allocation, graph) => {
        await allocation.run({ runs: [part(0, 0, 40, null, 6)] });
        await allocation.run({ runs: [part(0, 40, 5, 6, 0)] });
        const wanted = await last(allocation, graph);
        await allocation.run({ runs: [part(0, 40, 5, 6, 1), part(2, 40, 5, 6, 2), part(1, 0, 3, null, 3)] });
        expect(await last(allocation, graph)).toEqual(wanted);
        expect(await last(allocation, graph, 1)).toEqual(wanted);
      }),
  ],

  [
    "what a slot holds is read and written as numbers of the contract, the same on every device",
    (device) =>
      allocated(device, async (allocation, graph) => {
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
      }),
  ],

  [
    "slots that a step cannot take are refused, and nothing runs",
    (device) =>
      allocated(device, async (allocation, graph) => {
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
      }),
  ],
];
