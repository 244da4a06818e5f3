/**
 * What a GGUF says of its model is honoured or refused by name: keys of the architecture, and every tensor. Ids are
 * llama.cpp's (test/cases/README.md).
 */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { Device } from "../../src/device/contract.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { wasmDevice } from "../../src/device/wasm/wasm.ts";
import { loadEngineModel } from "../../src/engine/load-checkpoint.ts";
import { bufferSource } from "../../src/format/buffer-source.ts";
import { ggufCheckpoint } from "../../src/format/checkpoints.ts";
import { FormatError, UnsupportedError } from "../../src/format/errors.ts";
import { attentionIn, type ModelConfig } from "../../src/model/config.ts";
import { openModel } from "../../src/model/model.ts";
import { syntheticCheckpoint } from "../../src/model/synthetic.ts";
import { tinyModel } from "../engine/tiny-model.ts";
import { type GgufContent, rewriteGguf } from "../format/rewrite-gguf.ts";
import { type KeyValue, T, type WrittenTensor } from "../format/write-gguf.ts";

const PROMPT = "the one in the inn and the other on the shore";

const file = (name: string) =>
  new Uint8Array(readFileSync(new URL(`../cases/models/${name}.gguf`, import.meta.url)));
const BASE = file("base");
const PLAIN = [20, 167, 52, 186, 293, 268, 167, 205, 52, 167, 52, 105];
const SCALED = [55, 161, 265, 265, 302, 178, 73, 181, 167, 105, 101, 101];

async function ids(
  bytes: Uint8Array,
  device: () => Device | Promise<Device> = referenceDevice,
): Promise<readonly number[]> {
  const checkpoint = await ggufCheckpoint(bufferSource("file", bytes));
  const model = await loadEngineModel(checkpoint, device, { kv: "f16" });
  try {
    return (await model.generate(PROMPT, { raw: true, maxTokens: 12, ignoreEnd: true }).result()).ids;
  } finally {
    await model.close();
  }
}

const withKeys = (...more: KeyValue[]) => rewriteGguf(BASE, ({ keys }) => keys.push(...more));

async function configOf(bytes: Uint8Array): Promise<ModelConfig> {
  const checkpoint = await ggufCheckpoint(bufferSource("file", bytes));
  return (await openModel(checkpoint)).config;
}

/** q, k and v of each layer as one matrix. */
function fuse({ tensors }: GgufContent): void {
  const parts = tensors.filter(({ name }) => /attn_[qkv]\.weight$/.test(name));
  for (let at = 0; at < parts.length; at += 3) {
    const [q, ...others] = parts.slice(at, at + 3);
    q.name = q.name.replace("attn_q", "attn_qkv");
    const rows = [q, ...others].reduce((sum, { dims }) => sum + Number(dims[1]), 0);
    q.dims = [q.dims[0], rows];
    q.data = new Uint8Array(Buffer.concat([q, ...others].map(({ data }) => data!)));
    for (const other of others) tensors.splice(tensors.indexOf(other), 1);
  }
}

describe("a llama in GGUF says what llama.cpp says", () => {
  it.each([
    [
      "biases of the feed-forward",
      () => file("bias-ffn"),
      [60, 2, 151, 222, 277, 297, 267, 145, 191, 313, 30, 121],
    ],
    [
      "a bias of attn_output",
      () => file("bias-attn-output"),
      [111, 161, 276, 245, 145, 128, 225, 137, 250, 147, 277, 66],
    ],
    ["none of them", () => BASE, PLAIN],
    ["q, k and v in one matrix", () => rewriteGguf(BASE, fuse), PLAIN],
    [
      "linear scaling",
      () =>
        withKeys(["llama.rope.scaling.type", T.string, "linear"], ["llama.rope.scaling.factor", T.f32, 4]),
      SCALED,
    ],
    ["a factor without a type", () => withKeys(["llama.rope.scaling.factor", T.f32, 4]), SCALED],
    ["scale_linear, as in files of 2023", () => withKeys(["llama.rope.scale_linear", T.f32, 4]), SCALED],
    ["a factor of 0, which means none", () => withKeys(["llama.rope.scaling.factor", T.f32, 0]), PLAIN],
    [
      "type none beside a factor",
      () => withKeys(["llama.rope.scaling.type", T.string, "none"], ["llama.rope.scaling.factor", T.f32, 4]),
      PLAIN,
    ],
    ["a window, which llama has not", () => withKeys(["llama.attention.sliding_window", T.u32, 4]), PLAIN],
  ])("with %s", async (_, bytes, expected) => {
    expect(await ids(await bytes())).toEqual(expected);
    expect(await ids(await bytes(), () => wasmDevice({ threads: 1 }))).toEqual(expected);
  });
});

describe("tensors that no graph takes", () => {
  const extra = (name: string): WrittenTensor => ({ name, dims: [64], type: 0, data: new Uint8Array(256) });
  it.each([
    "blk.0.attn_rot_embd.weight",
    "blk.7.attn_q.bias",
    "output.bias",
    "blk.0.attn_q_norm.weight",
    "x",
  ])("refuses %s", async (name) => {
    const bytes = tinyModel({ tensors: (all) => [...all, extra(name)] });
    await expect(configOf(bytes)).rejects.toThrow(UnsupportedError);
    await expect(configOf(bytes)).rejects.toThrow(`tensor "${name}" in a model of the family llama`);
  });

  it("wants a bias in every layer when one has it", async () => {
    const bytes = tinyModel({ tensors: (all) => [...all, extra("blk.1.attn_output.bias")] });
    await expect(configOf(bytes)).rejects.toThrow("no tensor for attendedBias of layer 0");
  });
});

describe("keys of the architecture", () => {
  it.each<[string, KeyValue, string]>([
    ["another scale", ["llama.attention.scale", T.f32, 0.5], "llama.attention.scale 0.5"],
    ["Granite's factors", ["llama.residual_scale", T.f32, 0.22], "llama.residual_scale"],
    ["attention that looks ahead", ["llama.attention.causal", T.bool, 0], "llama.attention.causal false"],
    ["groups of experts", ["llama.expert_group_count", T.u32, 8], "llama.expert_group_count 8"],
    ["a cap of logits", ["llama.final_logit_softcapping", T.f32, 30], "llama.final_logit_softcapping 30"],
    ["partial RoPE", ["llama.rope.dimension_count", T.u32, 16], "llama.rope.dimension_count 16"],
    [
      "values of another size",
      ["llama.attention.value_length", T.u32, 64],
      "llama.attention.value_length 64",
    ],
    ["another scaling", ["llama.rope.scaling.type", T.string, "ntk"], 'RoPE scaling "ntk"'],
  ])("refuses %s", async (_, key, message) => {
    const bytes = tinyModel({ keys: (all) => [...all, key] });
    await expect(configOf(bytes)).rejects.toThrow(UnsupportedError);
    await expect(configOf(bytes)).rejects.toThrow(message);
  });

  it.each<[string, KeyValue, string]>([
    [
      "4294967295 layers",
      ["llama.block_count", T.u32, 0xffffffff],
      "llama.block_count is 4294967295; allowed: integers 1 to 1024",
    ],
    ["half a layer", ["llama.block_count", T.f32, 1.5], "llama.block_count is 1.5"],
    ["no layer", ["llama.block_count", T.u32, 0], "llama.block_count is 0"],
    ["-1 layers", ["llama.block_count", T.i32, -1], "llama.block_count is -1"],
    ["1e300 layers", ["llama.block_count", T.f64, 1e300], "llama.block_count is 1e+300"],
    ["no number of layers", ["llama.block_count", T.f32, Number.NaN], "llama.block_count is not a number"],
    ["layers in words", ["llama.block_count", T.string, "two"], 'llama.block_count is "two"'],
    ["a huge head", ["llama.attention.key_length", T.u32, 1e8], "llama.attention.key_length is 100000000"],
    [
      "infinite epsilon",
      ["llama.attention.layer_norm_rms_epsilon", T.f32, Number.POSITIVE_INFINITY],
      "is infinite",
    ],
    ["a base of 0", ["llama.rope.freq_base", T.f32, 0], "llama.rope.freq_base is 0"],
    ["a negative factor", ["llama.rope.scaling.factor", T.f32, -4], "llama.rope.scaling.factor is -4"],
  ])("refuses %s", async (_, key, message) => {
    const bytes = tinyModel({ keys: (all) => [...all.filter(([name]) => name !== key[0]), key] });
    await expect(configOf(bytes)).rejects.toThrow(FormatError);
    await expect(configOf(bytes)).rejects.toThrow(message);
  });

  const gemma = async (metadata: Record<string, unknown>) => {
    const checkpoint = await syntheticCheckpoint("gemma-3-270m", { layers: 3, vocab: 64 });
    const own = Object.fromEntries(Object.entries(metadata).map(([key, value]) => [`gemma3.${key}`, value]));
    return (await openModel({ ...checkpoint, metadata: { ...checkpoint.metadata, ...own } })).config;
  };

  it("reads Gemma 3's windows as llama.cpp does", async () => {
    const kinds = async (metadata: Record<string, unknown>) => {
      return (await gemma(metadata)).layers.map((layer) => attentionIn(layer).window ?? "full").join(" ");
    };
    const window = "attention.sliding_window";
    expect(await kinds({})).toBe("512 512 512");
    expect(await kinds({ [window]: 0 })).toBe("full full full");
    expect(await kinds({ [`${window}_pattern`]: 2 })).toBe("512 full 512");
    expect(await kinds({ [`${window}_pattern`]: 1 })).toBe("full full full");
    expect(await kinds({ [`${window}_pattern`]: 0 })).toBe("512 512 512");
    expect(await kinds({ [`${window}_pattern`]: [true, false, false] })).toBe("512 full full");
    expect(await kinds({ [`${window}_pattern`]: Uint32Array.of(0, 1, 0) })).toBe("full 512 full");
    for (const pattern of [[true], [1, 2, 0], ["a", "b", "c"], -1, 1e9])
      await expect(kinds({ [`${window}_pattern`]: pattern })).rejects.toThrow(FormatError);
  });

  it("caps Gemma 3's logits", async () => {
    expect((await gemma({ final_logit_softcapping: 30 })).logitSoftcap).toBe(30);
    expect((await gemma({ final_logit_softcapping: 0 })).logitSoftcap).toBe(0);
    await expect(gemma({ final_logit_softcapping: -1 })).rejects.toThrow("final_logit_softcapping is -1");
  });

  it("reads Qwen 2 without biases, and with one of the output", async () => {
    const checkpoint = await syntheticCheckpoint("qwen-2.5-0.5b", { layers: 2, vocab: 64 });
    const bare = new Map([...checkpoint.tensors].filter(([name]) => !name.endsWith(".bias")));
    expect((await openModel({ ...checkpoint, tensors: bare })).config.biases).toEqual([]);
    const { rows: _, ...vector } = checkpoint.tensors.get("output_norm.weight")!;
    const output = { ...vector, name: "output.bias", rows: 1, cols: 64 };
    const more = new Map([...checkpoint.tensors, [output.name, output]]);
    expect((await openModel({ ...checkpoint, tensors: more })).config.biases).toContain("output");
  });
});
