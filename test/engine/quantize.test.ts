/** `quantizeModel`: whole files of both kinds, read again; what is refused, and that nothing is left behind then. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { quantizeModel } from "../../src/engine/quantize.ts";
import { dequantize } from "../../src/format/blocks.ts";
import type { Checkpoint } from "../../src/format/checkpoint.ts";
import { f32ToBf16 } from "../../src/format/float16.ts";
import { openCheckpoint } from "../../src/format/open.ts";
import { quantize } from "../../src/format/quantize.ts";
import { rowBytes } from "../../src/format/tensor.ts";
import { openModel } from "../../src/model/model.ts";
import { f32Rows } from "../../src/model/tensors.ts";
import { random } from "../device/random-tensor.ts";
import { writeSafetensors } from "../format/write-safetensors.ts";
import { type TinyModel, tinyModel } from "./tiny-model.ts";

let folder = "";
const at = (name: string) => join(folder, name);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "nibble-quantize-"));
  await writeFile(at("tiny.gguf"), tinyModel());
  await writeFolder(at("hf"));
});
afterAll(() => rm(folder, { recursive: true }));

async function values(checkpoint: Checkpoint, name: string): Promise<Float32Array> {
  const tensor = checkpoint.tensors.get(name)!;
  return f32Rows(tensor, 0, tensor.rows);
}

async function bytesOf({ tensors }: Checkpoint, name: string): Promise<Uint8Array> {
  const { type, rows, cols, readRows } = tensors.get(name)!;
  const bytes = new Uint8Array(rows * rowBytes(type, cols));
  await readRows(0, rows, bytes);
  return bytes;
}

describe("a GGUF quantized", () => {
  it("keeps keys and names, and has the blocks of the reference quantizer", async () => {
    const made = await quantizeModel(at("tiny.gguf"), at("q4_0.gguf"), { type: "q4_0" });
    const [before, after] = [await openCheckpoint(at("tiny.gguf")), await openCheckpoint(at("q4_0.gguf"))];
    try {
      const {
        "general.file_type": fileType,
        "general.quantization_version": version,
        ...kept
      } = after.metadata;
      expect([fileType, version]).toEqual([2, 2]);
      expect(kept).toEqual({ ...before.metadata });
      expect([...after.tensors.keys()]).toEqual([...before.tensors.keys()]);
      expect(made.bytes).toBe((await readFile(at("q4_0.gguf"))).length);
      const source = await values(before, "blk.1.ffn_up.weight");
      const blocks = new Uint8Array(rowBytes("q4_0", source.length));
      quantize("q4_0", source, blocks);
      const wanted = new Float32Array(source.length);
      dequantize("q4_0", blocks, wanted);
      expect(await values(after, "blk.1.ffn_up.weight")).toEqual(wanted);
      expect(await values(after, "blk.1.ffn_norm.weight")).toEqual(
        await values(before, "blk.1.ffn_norm.weight"),
      );
      // The output is wider than the rest; it was q8_0 and stays.
      expect(after.tensors.get("output.weight")!.type).toBe("q8_0");
      await openModel(after);
    } finally {
      await Promise.all([before.close(), after.close()]);
    }
    expect(made.warnings.join()).toMatch(/copied as they are.*rounded a second time/);
  });

  it("to floats loses nothing", async () => {
    await quantizeModel(at("tiny.gguf"), at("f32.gguf"), { type: "F32" });
    const [before, after] = [await openCheckpoint(at("tiny.gguf")), await openCheckpoint(at("f32.gguf"))];
    for (const name of before.tensors.keys())
      expect(await values(after, name)).toEqual(await values(before, name));
    await Promise.all([before.close(), after.close()]);
  });
});

describe("a folder quantized", () => {
  it("is a GGUF with its tokenizer and template", async () => {
    const made = await quantizeModel(at("hf"), at("hf.gguf"), { type: "q8_0" });
    expect(made).toMatchObject({ warnings: [], importance: null });
    const [before, after] = [await openCheckpoint(at("hf")), await openCheckpoint(at("hf.gguf"))];
    try {
      await openModel(after);
      const [a, b] = await Promise.all([before.tokenizer(), after.tokenizer()]);
      for (const text of ["hello hell", "a  b\n", "é"]) expect(b.encode(text)).toEqual(a.encode(text));
      expect([...b.endIds]).toEqual([...a.endIds]);
      expect((await after.chatTemplate())!.source).toBe("{{ messages[0].content }}");
      expect(after.metadata["tokenizer.ggml.model"]).toBe("llama");
      expect(after.metadata["llama.embedding_length"]).toBe(64);
    } finally {
      await Promise.all([before.close(), after.close()]);
    }
  });
});

describe("a folder quantized under an importance", () => {
  it("is read as the GGUF that it becomes", async () => {
    const importance = { text: "hello ".repeat(130) };
    const device = "reference";
    const made = await quantizeModel(at("hf"), at("weighed.gguf"), { type: "q4_1", importance, device });
    expect(made).toMatchObject({ warnings: [], importance: { matrices: 14, datasets: ["text"] } });
    await quantizeModel(at("hf"), at("plain.gguf"), { type: "q4_1" });
    const [weighed, plain] = [
      await openCheckpoint(at("weighed.gguf")),
      await openCheckpoint(at("plain.gguf")),
    ];
    // A column of the embedding has no importance.
    for (const [name, is] of [["token_embd.weight", true] as const, ["blk.0.attn_k.weight", false] as const])
      expect(Buffer.compare(await bytesOf(weighed, name), await bytesOf(plain, name)) === 0, name).toBe(is);
    await Promise.all([weighed.close(), plain.close()]);
  });
});

describe("what is refused leaves no file", () => {
  const refusals: [string, () => Promise<unknown>, string][] = [
    ["a type", () => quantizeModel(at("tiny.gguf"), at("x.gguf"), { type: "q9_z" }), 'quantizing to "q9_z"'],
    [
      "a target that exists",
      () => quantizeModel(at("hf"), at("tiny.gguf"), { type: "q8_0" }),
      "exists already",
    ],
    ["no folder", () => quantizeModel(at("hf"), at("none/x.gguf"), { type: "q8_0" }), "there is no folder"],
    ["no source", () => quantizeModel(at("none"), at("x.gguf"), { type: "q8_0" }), "no such file or folder"],
    [
      "an abort",
      () => {
        const stop = new AbortController();
        const onProgress = () => stop.abort();
        return quantizeModel(at("tiny.gguf"), at("x.gguf"), {
          type: "q4_0",
          signal: stop.signal,
          onProgress,
        });
      },
      "quantizing was stopped",
    ],
    [
      "a weight that is no number",
      async () => {
        const tensors: TinyModel["tensors"] = (all) => {
          all.find(({ name }) => name === "blk.1.ffn_up.weight")!.data!.set([0, 0x7c], 0);
          return all;
        };
        await writeFile(at("nan.gguf"), tinyModel({ tensors }));
        return quantizeModel(at("nan.gguf"), at("x.gguf"), { type: "q4_0" });
      },
      "blk.1.ffn_up.weight, rows 0 to",
    ],
  ];
  it.each(refusals)("%s", async (_what, attempt, message) => {
    await expect(attempt()).rejects.toThrow(message);
    expect(
      (await readdir(folder)).filter((name) => name.startsWith("x.gguf") || name.endsWith(".tmp")),
    ).toEqual([]);
  });
});

/** A llama folder of two layers with a SentencePiece-like tokenizer. */
async function writeFolder(path: string): Promise<void> {
  await mkdir(path);
  const byte = (i: number) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`;
  const pieces = ["▁", "h", "e", "l", "o", "a", "b", "he", "ll", "hell", "▁hell", "hello", "▁hello"];
  const texts = ["<unk>", "<s>", "</s>", ...Array.from({ length: 256 }, (_, i) => byte(i)), ...pieces];
  const merges = ["h e", "l l", "he ll", "▁ hell", "hell o", "▁hell o", "▁ hello"];
  const replace = (pattern: string, content: string) => ({
    type: "Replace",
    pattern: { String: pattern },
    content,
  });
  const tokenizer = {
    added_tokens: [0, 1, 2].map((id) => ({ id, content: texts[id], special: true, normalized: false })),
    normalizer: { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "▁" }, replace(" ", "▁")] },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        replace("▁", " "),
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(texts.map((text, id) => [text, id])),
      merges,
      byte_fallback: true,
      unk_token: "<unk>",
    },
  };
  const [hidden, ffn] = [64, 96];
  const config = {
    ...{ model_type: "llama", vocab_size: texts.length, hidden_size: hidden, intermediate_size: ffn },
    ...{ num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1, max_position_embeddings: 128 },
    ...{ rms_norm_eps: 1e-5, tie_word_embeddings: true },
  };
  const shapes: [string, number[]][] = [
    ["model.embed_tokens.weight", [texts.length, hidden]],
    ["model.norm.weight", [hidden]],
  ];
  for (const layer of [0, 1].map((i) => `model.layers.${i}`))
    shapes.push(
      [`${layer}.input_layernorm.weight`, [hidden]],
      [`${layer}.post_attention_layernorm.weight`, [hidden]],
      [`${layer}.self_attn.q_proj.weight`, [hidden, hidden]],
      [`${layer}.self_attn.k_proj.weight`, [hidden / 2, hidden]],
      [`${layer}.self_attn.v_proj.weight`, [hidden / 2, hidden]],
      [`${layer}.self_attn.o_proj.weight`, [hidden, hidden]],
      [`${layer}.mlp.gate_proj.weight`, [ffn, hidden]],
      [`${layer}.mlp.up_proj.weight`, [ffn, hidden]],
      [`${layer}.mlp.down_proj.weight`, [hidden, ffn]],
    );
  const files: Record<string, string | Uint8Array> = {
    "config.json": JSON.stringify(config),
    "tokenizer.json": JSON.stringify(tokenizer),
    "tokenizer_config.json": JSON.stringify({
      bos_token: "<s>",
      eos_token: "</s>",
      unk_token: "<unk>",
      add_bos_token: true,
    }),
    "chat_template.jinja": "{{ messages[0].content }}",
    "model.safetensors": writeSafetensors(
      Object.fromEntries(shapes.map(([name, shape], i) => [name, bf16(shape, i)])),
    ),
  };
  for (const [name, content] of Object.entries(files)) await writeFile(join(path, name), content);
}

function bf16(shape: readonly number[], seed: number) {
  const next = random(seed + 1);
  const bits = Uint16Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => f32ToBf16(next() - 0.5));
  return { dtype: "BF16", shape, data: new Uint8Array(bits.buffer) };
}
