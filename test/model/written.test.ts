/**
 * Folders as GGUFs: the model of every golden family, read again as a GGUF, is the folder's: the same graph over the same
 * weights. (Qwen 3.5's heads stand in another order there, so its logits are compared.)
 */
import { describe, expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { f32Rows } from "../../src/model/tensors.ts";
import { asCheckpoint, writtenModel } from "../../src/model/written.ts";
import { FAMILIES, goldenModel, LATER, relativeError } from "./golden.ts";
import { OneText } from "./one-text.ts";

/** What their GGUFs cannot say: a scale of scores and a pattern of layers that only the golden configs have. */
const REFUSED = { gemma2: "layers.0.mixer.scale", smollm3: "layers.1.mixer.rope" };

async function again(model: Model): Promise<Model> {
  return openModel(asCheckpoint(await writtenModel(model), "as GGUF"));
}

async function weights(model: Model): Promise<Float32Array[]> {
  const graph = model.record({ context: 1, maxTokens: 1, maxOutputs: 1, codec: kvCodec("f32") });
  return Promise.all(graph.weights.map((weight) => model.tensor(weight)).map((t) => f32Rows(t, 0, t.rows)));
}

async function logits(model: Model): Promise<Float32Array> {
  const text = await OneText.open(model, referenceDevice(), { chunk: 4, context: 16, codec: "f32" });
  const values = await text.values([5, 17, 3], 4);
  await text.allocation.close();
  return values.get("logits")!;
}

describe("a folder's model as GGUF", () => {
  const names = [...FAMILIES, ...LATER, "qwen3_next"].filter((name) => !Object.hasOwn(REFUSED, name));

  it.each(names)("%s has the same weights", async (name) => {
    const model = await goldenModel(name);
    const [before, after] = [await weights(model), await weights(await again(model))];
    expect(after.length).toBe(before.length);
    for (const [i, values] of before.entries())
      expect(Buffer.compare(bytes(after[i]), bytes(values))).toBe(0);
    await model.checkpoint.close();
  });

  it("qwen3_5 computes the same", async () => {
    const model = await goldenModel("qwen3_5");
    expect(relativeError(await logits(await again(model)), await logits(model))).toBeLessThan(1e-5);
    await model.checkpoint.close();
  });

  it.each(Object.entries(REFUSED))(
    "%s is refused by the name of what GGUF cannot say",
    async (name, what) => {
      const model = await goldenModel(name);
      await expect(writtenModel(model)).rejects.toThrow(what);
      await model.checkpoint.close();
    },
  );

  it("windows that GGUFs of llama do not have are told", async () => {
    const golden = await goldenModel("mistral");
    const metadata = { ...golden.checkpoint.metadata, sliding_window: 64 };
    const { warnings } = await writtenModel(await openModel({ ...golden.checkpoint, metadata }));
    expect(warnings).toEqual([expect.stringContaining("its layers have a window of 64 tokens")]);
    await golden.checkpoint.close();
  });

  it("experts have three dims, their biases two", async () => {
    const model = await goldenModel("gpt_oss");
    const { tensors } = await writtenModel(model);
    const dims = Object.fromEntries(tensors.map(({ name, dims }) => [name, dims]));
    const { hidden, layers } = model.config;
    const { count, width } = layers[0].feedForward.experts!;
    expect(dims["blk.0.ffn_gate_exps.weight"]).toEqual([hidden, width, count]);
    expect(dims["blk.0.ffn_down_exps.weight"]).toEqual([width, hidden, count]);
    expect(dims["blk.0.ffn_up_exps.bias"]).toEqual([width, count]);
    await model.checkpoint.close();
  });
});

const bytes = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
