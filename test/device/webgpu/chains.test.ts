/** In steps of one row products go on with what reads them, where nobody else does. */
import { expect, it } from "vitest";
import { kvCodec } from "../../../src/cache/codecs.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { openModel } from "../../../src/model/model.ts";
import { shapedCheckpoint } from "../../../src/model/shaped.ts";
import { ALL_TRAITS } from "./gpu.ts";

const LIMITS = { maxStorageBufferBindingSize: 2 ** 31 - 4, maxBufferSize: 2 ** 40 };

async function labelsOf(shape: string, type: string) {
  const model = await openModel(await shapedCheckpoint(shape, { type, layers: 2 }));
  const graph = model.record({ context: 64, maxTokens: 64, maxOutputs: 1, codec: kvCodec("int4") });
  const { modes } = compileGraph(graph, ALL_TRAITS, LIMITS);
  return { decode: modes.decode.map(({ label }) => label), few: modes.few.map(({ label }) => label) };
}

const ATTENTION = ["matmul", "appendKv", "attendDecode", "attendMerge"];

it("of Llama: a norm's dispatch and a gate's are left where they are of one layer's three", async () => {
  const { decode, few } = await labelsOf("llama-3.2-1b", "q4_0");
  const layer = [...ATTENTION, "matmul, norm", "matmul, gate"];
  expect(decode.slice(0, 2 + 2 * layer.length + 2)).toEqual([
    ...["embed", "rmsNorm"],
    ...[...layer, "matmul, norm"],
    ...layer,
    "matmul",
  ]);
  expect(few.filter((label) => label.includes(", "))).toEqual([]);
});

it.each([
  // Norms of products, before they are added.
  ["gemma-3-1b", "q4_0", 0, 2],
  // Floats have another kernel.
  ["llama-3.2-1b", "f16", 0, 0],
  // What experts read is no product's alone.
  ["qwen-3-30b-a3b", "q4_0", 0, 0],
])("%s in %s: %d norms and %d gates", async (shape, type, norms, gates) => {
  const { decode } = await labelsOf(shape, type);
  expect(decode.filter((label) => label === "matmul, norm")).toHaveLength(norms);
  expect(decode.filter((label) => label === "matmul, gate")).toHaveLength(gates);
});
