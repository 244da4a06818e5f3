/** Which format a model gets when nobody says: layers whose keys a bias carries far out stay in float16. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DEFAULT_KV } from "../../src/cache/codecs.ts";
import { gpuFormats } from "../../src/device/webgpu/kv.ts";
import { chooseKv } from "../../src/engine/kv-choice.ts";
import { defaultKv } from "../../src/engine/kv-names.ts";
import { codecsOf } from "../../src/engine/plan.ts";
import type { Tensor } from "../../src/format/tensor.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { goldenModel } from "../model/golden.ts";

/** The tensor with other numbers. */
function filled(tensor: Tensor, numbers: (row: number) => number): Tensor {
  const all = Float32Array.from({ length: tensor.rows * tensor.cols }, (_, i) => numbers(i));
  const bytes = new Uint8Array(all.buffer);
  return {
    ...tensor,
    type: "f32",
    readRows: async (first, count, into) => {
      const size = tensor.cols * 4;
      into.set(bytes.subarray(first * size, (first + count) * size));
    },
  };
}

describe("the format of a model", () => {
  let model: Model;
  beforeAll(async () => {
    model = await goldenModel("qwen2");
  });
  afterAll(() => model.checkpoint.close());

  const withBias = (layers: readonly number[], size: number) => {
    const tensors = new Map(model.checkpoint.tensors);
    for (const layer of layers) {
      const name = `model.layers.${layer}.self_attn.k_proj.bias`;
      tensors.set(
        name,
        filled(tensors.get(name)!, (row) => (row % 7 === 0 ? size : 1)),
      );
    }
    return openModel({ ...model.checkpoint, tensors });
  };

  it("is kv4 on a GPU whose matrices read it, int4 on another", () => {
    expect(defaultKv(gpuFormats({ matrices: true }))).toBe("kv4");
    expect(defaultKv(gpuFormats({ matrices: false }))).toBe("int4");
  });

  it("is the default, whatever small biases its keys have", async () => {
    expect(await chooseKv(model, {})).toBe(DEFAULT_KV);
    expect(await chooseKv(await withBias([0, 1], 3), {})).toBe(DEFAULT_KV);
  });

  it("keeps float16 in layers whose key biases are huge, and only there", async () => {
    const last = model.config.layers.length - 1;
    const biased = await withBias([0, last], 300);
    const kv = await chooseKv(biased, {});
    expect(kv).toBe(`${DEFAULT_KV}+f16@0+f16@${last}`);
    const codec = codecsOf(biased, kv);
    expect(biased.config.layers.map((_, layer) => codec(layer).name)).toEqual(
      biased.config.layers.map((_, layer) => (layer === 0 || layer === last ? "f16" : DEFAULT_KV)),
    );
  });

  it("is the default where keys have no bias, or are normed after it", async () => {
    for (const family of ["llama", "qwen3", "gemma3"]) {
      const other = await goldenModel(family);
      expect(await chooseKv(other, {})).toBe(DEFAULT_KV);
      await other.checkpoint.close();
    }
  });
});
