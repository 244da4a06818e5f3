/** MXFP4 weights of safetensors folders, as OpenAI and MLX lay them out, stand for the values of transformers' formula. */
import { expect, it } from "vitest";
import { kvCodec } from "../../src/cache/codecs.ts";
import { referenceDevice } from "../../src/device/reference/reference.ts";
import { FormatError } from "../../src/format/errors.ts";
import { openSafetensors } from "../../src/format/safetensors.ts";
import { openModel } from "../../src/model/model.ts";
import { f32Rows } from "../../src/model/tensors.ts";
import { random } from "../device/random-tensor.ts";
import { setAllPages, withoutTokenizer } from "../model/golden.ts";
import { memoryFolder } from "./memory-folder.ts";
import { type WrittenEntry, writeSafetensors } from "./write-safetensors.ts";

/** transformers' integrations/mxfp4.py: FP4_VALUES, but for the sign of its second 0. */
const VALUES = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6];

interface Packed {
  blocks: Uint8Array;
  scales: Uint8Array;
  /** In the order of the codes: byte j holds values 2j, in its low half, and 2j + 1. */
  values: Float32Array;
}

function packed(groups: number, seed: number): Packed {
  const next = random(seed);
  const blocks = Uint8Array.from({ length: groups * 16 }, () => Math.floor(next() * 256));
  const scales = Uint8Array.from({ length: groups }, () => 122 + Math.floor(next() * 4));
  const values = Float32Array.from({ length: groups * 32 }, (_, i) => {
    const code = (blocks[i >> 1] >> (4 * (i & 1))) & 15;
    return VALUES[code] * 2 ** (scales[i >> 5] - 127);
  });
  return { blocks, scales, values };
}

const u8 = (shape: number[], data: Uint8Array): WrittenEntry => ({ dtype: "U8", shape, data });
const f32 = (shape: number[], values: Float32Array): WrittenEntry => ({
  ...{ dtype: "F32", shape, data: new Uint8Array(values.slice().buffer) },
});

const open = (entries: Record<string, WrittenEntry>, config: object) =>
  openSafetensors(
    memoryFolder({ "config.json": JSON.stringify(config), "model.safetensors": writeSafetensors(entries) }),
  );

const OPENAI = { quantization_config: { quant_method: "mxfp4", modules_to_not_convert: ["lm_head"] } };

it("reads OpenAI's blocks and scales as one tensor", async () => {
  const { blocks, scales, values } = packed(2 * 5 * 3, 1);
  const { tensors } = await open(
    { w_blocks: u8([2, 5, 3, 16], blocks), w_scales: u8([2, 5, 3], scales) },
    OPENAI,
  );
  expect([...tensors.keys()]).toEqual(["w"]);
  const tensor = tensors.get("w")!;
  expect(tensor).toMatchObject({ type: "mxfp4", rows: 10, cols: 96 });
  expect(await f32Rows(tensor, 0, 10)).toEqual(values);
  expect(await f32Rows(tensor, 7, 2)).toEqual(values.slice(7 * 96, 9 * 96));
});

it("reads MLX's words and scales", async () => {
  const { blocks, scales, values } = packed(4 * 2, 2);
  const weight = { dtype: "U32", shape: [4, 8], data: blocks };
  const { tensors } = await open(
    { "m.weight": weight, "m.scales": u8([4, 2], scales) },
    { quantization: { bits: 4, group_size: 32, mode: "mxfp4" } },
  );
  expect(await f32Rows(tensors.get("m.weight")!, 0, 4)).toEqual(values);
});

it("refuses scales of another count", async () => {
  const { blocks, scales } = packed(6, 3);
  const failure = open({ w_blocks: u8([2, 3, 16], blocks), w_scales: u8([5], scales.slice(0, 5)) }, OPENAI);
  await expect(failure).rejects.toThrow(FormatError);
  await expect(failure).rejects.toThrow('"w_blocks": 96 bytes for scales of U8 [5]');
});

it("gpt-oss says the same with experts in MXFP4 as with the floats that they stand for", async () => {
  const [experts, hidden, width, vocab] = [3, 32, 32, 64];
  const next = random(9);
  const floats = (...shape: number[]) =>
    f32(
      shape,
      Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => next() - 0.5),
    );
  const layer = (name: string) => `model.layers.0.${name}`;
  const projection = (name: string, rows: number, cols: number) => ({
    [layer(`self_attn.${name}.weight`)]: floats(rows, cols),
    [layer(`self_attn.${name}.bias`)]: floats(rows),
  });
  const common = {
    "model.embed_tokens.weight": floats(vocab, hidden),
    "model.norm.weight": floats(hidden),
    "lm_head.weight": floats(vocab, hidden),
    [layer("input_layernorm.weight")]: floats(hidden),
    [layer("post_attention_layernorm.weight")]: floats(hidden),
    [layer("self_attn.sinks")]: floats(2),
    ...projection("q_proj", 32, hidden),
    ...projection("k_proj", 16, hidden),
    ...projection("v_proj", 16, hidden),
    ...projection("o_proj", hidden, 32),
    [layer("mlp.router.weight")]: floats(experts, hidden),
    [layer("mlp.router.bias")]: floats(experts),
    [layer("mlp.experts.gate_up_proj_bias")]: floats(experts, 2 * width),
    [layer("mlp.experts.down_proj_bias")]: floats(experts, hidden),
  };
  /** As both: packed [experts, out, in], floats [experts, in, out]. */
  const both = (name: string, rows: number, cols: number, seed: number) => {
    const { blocks, scales, values } = packed((experts * rows * cols) / 32, seed);
    const turned = values.map((_, n) => {
      const [e, col, row] = [Math.floor(n / rows / cols), Math.floor(n / rows) % cols, n % rows];
      return values[(e * rows + row) * cols + col];
    });
    return [
      {
        [layer(`${name}_blocks`)]: u8([experts, rows, cols / 32, 16], blocks),
        [layer(`${name}_scales`)]: u8([experts, rows, cols / 32], scales),
      },
      { [layer(name)]: f32([experts, cols, rows], turned) },
    ];
  };
  const gateUp = both("mlp.experts.gate_up_proj", 2 * width, hidden, 4);
  const down = both("mlp.experts.down_proj", hidden, width, 5);
  const config = {
    ...{ model_type: "gpt_oss", vocab_size: vocab, hidden_size: hidden, intermediate_size: width },
    ...{ num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 16 },
    ...{ num_local_experts: experts, num_experts_per_tok: 2, sliding_window: 8 },
  };
  const logits = async (entries: Record<string, WrittenEntry>, more: object) => {
    const { config: metadata, tensors, close } = await open(entries, { ...config, ...more });
    const model = await openModel(
      withoutTokenizer({ kind: "safetensors", name: "folder", metadata, tensors, close }),
    );
    const graph = model.record({ context: 32, maxTokens: 6, maxOutputs: 6, codec: kvCodec("f32") });
    const allocation = await referenceDevice().allocate(graph);
    for (const weight of graph.weights) await allocation.load(weight, model.tensor(weight));
    setAllPages(graph, allocation);
    const ids = Uint32Array.of(1, 9, 33, 20, 5, 60);
    await allocation.run({ runs: [{ text: 0, ids, position: 0, outputs: 6 }] });
    return allocation.read(graph.logits, 0, 6);
  };
  const wanted = await logits({ ...common, ...gateUp[1], ...down[1] }, {});
  expect(await logits({ ...common, ...gateUp[0], ...down[0] }, OPENAI)).toEqual(wanted);
});
