/** Which format a model gets when nobody says: layers whose keys a bias carries far out get one that holds. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DEFAULT_KV } from "../../src/cache/codecs.ts";
import type { Device } from "../../src/device/contract.ts";
import { gpuFormats } from "../../src/device/webgpu/kv.ts";
import { chooseKv } from "../../src/engine/kv-choice.ts";
import { defaultKv } from "../../src/engine/kv-names.ts";
import { codecsOf } from "../../src/engine/plan.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { filled, goldenModel } from "../model/golden.ts";

/** Any format; int4, or kv4, where nothing is said. */
const ANY: Pick<Device, "defaultKv" | "kvFormats"> = { kvFormats: null };
const PACKING = { ...ANY, defaultKv: "kv4" };

describe("the format of a model", () => {
  let model: Model;
  beforeAll(async () => {
    model = await goldenModel("qwen2");
  });
  afterAll(() => model.checkpoint.close());

  const withBias = (layers: readonly number[], size: number, isMeant = (row: number) => row % 7 === 0) => {
    const tensors = new Map(model.checkpoint.tensors);
    for (const layer of layers) {
      const name = `model.layers.${layer}.self_attn.k_proj.bias`;
      tensors.set(
        name,
        filled(tensors.get(name)!, (row) => (isMeant(row) ? size : 1)),
      );
    }
    return openModel({ ...model.checkpoint, tensors });
  };

  it("is kv4 on a GPU whose matrices read it, int4 on another", () => {
    expect(defaultKv(gpuFormats({ matrices: true }))).toBe("kv4");
    expect(defaultKv(gpuFormats({ matrices: false }))).toBe("int4");
  });

  it("is the default, whatever small biases its keys have", async () => {
    for (const device of [ANY, PACKING]) {
      expect(await chooseKv(model, device)).toBe(defaultKv(device));
      expect(await chooseKv(await withBias([0, 1], 3), device)).toBe(defaultKv(device));
    }
  });

  const last = 3;
  /** Of two pairs that hardly turn within a page: channels by themselves hold them, groups of a token's channels do not. */
  const slow = (size: number) => withBias([0, last], size, (row) => row % 32 === 30 || row % 32 === 31);

  it("is kv4 in layers whose key biases stand out of groups, where the default has groups", async () => {
    expect(await chooseKv(await slow(30), ANY)).toBe(`int4+kv4@0+kv4@${last}`);
    expect(await chooseKv(await slow(30), PACKING)).toBe("kv4");
    expect(await chooseKv(await slow(30), { ...ANY, defaultKv: "rq4" })).toBe(`rq4+kv4@0+kv4@${last}`);
  });

  it("is float16 there on a device that has no kv4", async () => {
    expect(await chooseKv(await slow(30), { kvFormats: ["f16", "int4"] })).toBe(`int4+f16@0+f16@${last}`);
  });

  it("keeps float16 in layers whose key biases are huge, and only there", async () => {
    const biased = await withBias([0, last], 300);
    expect(await chooseKv(biased, PACKING)).toBe(`kv4+f16@0+f16@${last}`);
    const kv = await chooseKv(biased, ANY);
    expect(kv).toBe(`${DEFAULT_KV}+f16@0+f16@${last}`);
    const codec = codecsOf(biased, kv);
    expect(biased.config.layers.map((_, layer) => codec(layer).name)).toEqual(
      biased.config.layers.map((_, layer) => (layer === 0 || layer === last ? "f16" : DEFAULT_KV)),
    );
  });

  it("is the default where keys have no bias, or are normed after it", async () => {
    for (const family of ["llama", "qwen3", "gemma3"]) {
      const other = await goldenModel(family);
      for (const device of [ANY, PACKING]) expect(await chooseKv(other, device)).toBe(defaultKv(device));
      await other.checkpoint.close();
    }
  });
});
