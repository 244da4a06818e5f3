/**
 * Random graphs on the CPU device against the reference. Many small operations on more threads than cores find what a
 * model's regular order hides: a meeting of the threads that is missing, or a value written over too early.
 */
import fc from "fast-check";
import { beforeAll, expect, it } from "vitest";
import type { Device, Graph } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { choice, IDS, MAX_OUTPUTS, MAX_TOKENS, randomGraph } from "./random-graph.ts";
import { randomTensor } from "./random-tensor.ts";

/** A lost row or a race is of the order of 1; rounding in another order, through gates and softmax, of 1e-4. */
const TOLERANCE = 1e-2;

let wasm: Device;
beforeAll(async () => {
  wasm = await wasmDevice({ threads: 3 });
});

async function run(graph: Graph, device: Device): Promise<Float32Array[]> {
  const allocation = await device.allocate(graph);
  try {
    for (const weight of graph.weights) {
      const { id, name, type, rows, cols } = weight;
      await allocation.load(weight, randomTensor(name, type, rows, cols, id));
    }
    const found: Float32Array[] = [];
    // The last step is the shorter one: rows beyond it hold what the first left.
    for (const [position, tokens, outputs] of [
      [0, MAX_TOKENS, MAX_OUTPUTS],
      [MAX_TOKENS, 3, 1],
    ]) {
      const ids = Uint32Array.from({ length: tokens }, (_, i) => (position + 2 * i) % IDS);
      await allocation.run({ ids, position, outputs });
      for (const value of [graph.logits, ...graph.labels.values()])
        found.push(await allocation.read(value, 0, value.rows === "tokens" ? tokens : outputs));
    }
    return found;
  } finally {
    await allocation.close();
  }
}

it("random graphs give what the reference gives", async () => {
  const property = fc.asyncProperty(
    fc.array(choice, { minLength: 5, maxLength: 25 }),
    fc.nat(1000),
    fc.boolean(),
    async (choices, last, keepLabels) => {
      const graph = randomGraph(choices, last, keepLabels);
      const wanted = await run(graph, referenceDevice());
      const found = await run(graph, wasm);
      for (const [i, array] of wanted.entries()) {
        const rms = (x: Float32Array) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length);
        // Gate upon gate leaves the range of float32, where no order of sums is right.
        if (!(rms(array) > 1e-12 && rms(array) < 1e12)) continue;
        expect(rms(array.map((v, k) => v - found[i][k]))).toBeLessThan(TOLERANCE * rms(array));
      }
    },
  );
  await fc.assert(property, { numRuns: 40, seed: 1 });
});
