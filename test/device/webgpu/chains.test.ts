/** In steps of one row products go on with what reads them, where nobody else does. */
import { expect, it } from "vitest";
import { kvCodec } from "../../../src/cache/codecs.ts";
import { compileGraph } from "../../../src/device/webgpu/program.ts";
import { openModel } from "../../../src/model/model.ts";
import { shapedCheckpoint } from "../../../src/model/shaped.ts";
import { ALL_TRAITS } from "./gpu.ts";

const LIMITS = { maxStorageBufferBindingSize: 2 ** 31 - 4, maxBufferSize: 2 ** 40 };

async function labelsOf(shape: string, type: string, kv = "int4") {
  const model = await openModel(await shapedCheckpoint(shape, { type, layers: 2 }));
  const graph = model.record({ context: 64, maxTokens: 64, maxOutputs: 1, codec: kvCodec(kv) });
  const { modes } = compileGraph(graph, ALL_TRAITS, LIMITS);
  return { decode: modes.decode.map(({ label }) => label), few: modes.few.map(({ label }) => label) };
}

it("of Llama: each product but the logits' goes on, and no row of outputs is taken", async () => {
  const { decode, few } = await labelsOf("llama-3.2-1b", "q4_0");
  const products = ["matmul, norm", "matmul, gate", "matmul, norm"];
  const layer = ["matmul, append", "attendDecode", "attendMerge", ...products];
  expect(decode).toEqual(["embed", "rmsNorm", ...layer, ...layer, "matmul"]);
  expect(few.filter((label) => label.includes(", "))).toEqual([]);
  expect(few).toContain("takeOutputs");
});

it.each([
  ["int4", 2],
  ["f16", 2],
  // What is not packed yet is f16.
  ["kv4", 2],
  // Whole heads are rotated.
  ["rq4", 0],
])("q, k and v go into %s: %d of 2 layers", async (kv, count) => {
  const { decode } = await labelsOf("llama-3.2-1b", "q4_0", kv);
  expect(decode.filter((label) => label === "matmul, append")).toHaveLength(count);
  expect(decode.filter((label) => label === "packKv")).toHaveLength(kv === "kv4" ? 2 : 0);
});

it.each([
  // Biases.
  ["qwen-2.5-7b", 2],
  // Norms of heads.
  ["qwen-3-4b", 2],
  // Of heads of 256, which are more than a workgroup has.
  ["gemma-3-4b", 0],
])("q, k and v of %s: %d of 2 layers", async (shape, count) => {
  const { decode } = await labelsOf(shape, "q4_0");
  expect(decode.filter((label) => label === "matmul, append")).toHaveLength(count);
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
