/**
 * Qwen 3.5 and Qwen3-Next in other files than golden.test.ts reads: as llama.cpp's converter writes them (value heads tiled,
 * norms with their 1, rates made, an extra block behind the layers), beside eyes, and from mlx-lm.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import type { Device } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { sampler } from "../../src/engine/sample.ts";
import { Scheduler } from "../../src/engine/scheduler.ts";
import { Text } from "../../src/engine/text.ts";
import type { Tensor } from "../../src/format/tensor.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { f32Rows } from "../../src/model/tensors.ts";
import { memoryTensor } from "../device/random-tensor.ts";
import { type KeyValue, T } from "../format/write-gguf.ts";
import { type Expected, expected, goldenModel, relativeError } from "./golden.ts";
import { OneText } from "./one-text.ts";
import { asGguf } from "./qwen35-gguf.ts";

/** As golden.test.ts has it for these. */
const LOGIT_ERROR = 4e-4;

async function check(model: Model, golden: Expected, chunk: number, device: Device = referenceDevice()) {
  const text = await OneText.open(model, device, { chunk, context: 160, codec: "f32" });
  const found = await text.values(golden.ids, chunk);
  await text.allocation.close();
  for (const [name, array] of golden.arrays)
    expect(relativeError(found.get(name)!, array), name).toBeLessThan(LOGIT_ERROR);
}

describe.each(["qwen3_5", "qwen3_next"])("%s in other files", (family) => {
  let model: Model;
  let golden: Expected;
  beforeAll(async () => {
    model = await goldenModel(family);
    golden = await expected(family);
  });
  afterAll(() => model.checkpoint.close());

  it.each([false, true])("as a GGUF with an extra block: %s", async (hasExtra) => {
    const gguf = await asGguf(model, { hasExtra, hasHeads: !hasExtra });
    expect(gguf.config.layers).toHaveLength(4);
    await check(gguf, golden, 64);
    await gguf.checkpoint.close();
  });
});

it("refuses value heads in another order than llama.cpp's converter writes", async () => {
  const model = await goldenModel("qwen3_5");
  const more: KeyValue[] = [["qwen35.ssm.v_head_reordered", T.bool, 0]];
  await expect(asGguf(model, { more })).rejects.toThrow("ssm.v_head_reordered");
  await model.checkpoint.close();
});

it("through the engine on the CPU says what transformers says, and reads nothing twice", async () => {
  const model = await goldenModel("qwen3_5");
  const golden = await expected("qwen3_5");
  const options = { context: 160, maxTokens: 32, maxOutputs: 1, codec: kvCodec("f16"), stateSlots: 8 };
  const graph = model.record(options);
  const device = await wasmDevice({ threads: 2 });
  const allocation = await device.allocate(graph);
  for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
  const { vocab } = model.config;
  const scheduler = new Scheduler(graph, allocation, device, { context: 160, vocab });
  const ids = golden.ids.slice(0, 48);
  const text = new Text(scheduler);
  const generation = text.generate(ids, sampler({ temperature: 0 }), { most: 30 });
  for (let token = await generation.next(); token; token = await generation.next()) ids.push(token.id);
  generation.end();
  expect(ids).toEqual(golden.greedy.slice(0, 78));
  // All but the answer's last token, which no step has had.
  expect(await text.read([...ids, 5, 6])).toBe(77);
  await allocation.close();
  await model.checkpoint.close();
});

it("reads the language model of one that sees images, and the files of mlx-lm, the same", async () => {
  const model = await goldenModel("qwen3_5");
  const { checkpoint } = model;
  const golden = await expected("qwen3_5");
  const tensors = new Map(
    [...checkpoint.tensors].map(([name, tensor]) => [
      name.replace(/^model\./, "model.language_model."),
      tensor,
    ]),
  );
  const unused = checkpoint.tensors.get("model.norm.weight")!;
  for (const name of ["model.visual.blocks.0.norm1.weight", "mtp.norm.weight"]) tensors.set(name, unused);
  const metadata = { model_type: "qwen3_5", text_config: checkpoint.metadata, vision_config: {} };
  const nested = await openModel({ ...checkpoint, tensors, metadata });
  expect(nested.config).toEqual({ ...model.config, name: "qwen3_5" });
  await check(nested, golden, 64);

  // Convolutions with their kernel last but one, norms with their 1.
  const mlx = new Map<string, Tensor>();
  for (const [name, tensor] of checkpoint.tensors) {
    const values = await f32Rows(tensor, 0, tensor.rows);
    const isNorm = /norm\.weight$/.test(name) && !name.includes("linear_attn");
    const isConv = name.endsWith("conv1d.weight");
    const [rows, cols] = isConv ? [tensor.rows * tensor.cols, 1] : [tensor.rows, tensor.cols];
    mlx.set(
      name,
      memoryTensor(
        name,
        "f32",
        rows,
        cols,
        new Uint8Array((isNorm ? values.map((x) => x + 1) : values).buffer),
      ),
    );
  }
  await check(await openModel({ ...checkpoint, tensors: mlx }), golden, 64);
  await checkpoint.close();
});

it.each([
  ["layer_types", ["full_attention"], "layer_types"],
  ["layer_types", ["sliding_attention", "x", "x", "x"], '"full_attention", "linear_attention"'],
  ["linear_conv_kernel_dim", 9, "kernel is 9"],
  ["linear_num_value_heads", 3, "3 value heads over 2 key heads"],
  ["linear_key_head_dim", 20, "head size 20"],
  ["attn_output_gate", false, "attn_output_gate"],
])("refuses %s %j", async (key, value, message) => {
  const { checkpoint } = await goldenModel("qwen3_5");
  const metadata = { ...checkpoint.metadata, [key]: value };
  await expect(openModel({ ...checkpoint, metadata })).rejects.toThrow(message);
  await checkpoint.close();
});
