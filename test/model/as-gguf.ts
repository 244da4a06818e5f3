/**
 * Golden checkpoints as llama.cpp's converter writes them: its names and keys, q and k rows of Llama's kin permuted,
 * Gemma's norms plus one, experts stacked, RoPE's scalings as keys or divisors.
 */
import { bufferSource } from "../../src/format/buffer-source.ts";
import { readGguf } from "../../src/format/gguf.ts";
import { type AttentionSpec, attentionIn, type LayerSpec } from "../../src/model/config.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { f32Rows } from "../../src/model/tensors.ts";
import { type KeyValue, T, type WrittenTensor, writeGguf } from "../format/write-gguf.ts";
import { withoutTokenizer } from "./golden.ts";

/** Names of safetensors layers' parts as GGUF has them. */
const PARTS: Record<string, string> = {
  "input_layernorm.weight": "attn_norm.weight",
  "post_attention_layernorm.weight": "ffn_norm.weight",
  "pre_feedforward_layernorm.weight": "ffn_norm.weight",
  "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
  "self_attn.q_proj.weight": "attn_q.weight",
  "self_attn.k_proj.weight": "attn_k.weight",
  "self_attn.v_proj.weight": "attn_v.weight",
  "self_attn.o_proj.weight": "attn_output.weight",
  "self_attn.q_proj.bias": "attn_q.bias",
  "self_attn.k_proj.bias": "attn_k.bias",
  "self_attn.v_proj.bias": "attn_v.bias",
  "self_attn.o_proj.bias": "attn_output.bias",
  "self_attn.qkv_proj.weight": "attn_qkv.weight",
  "self_attn.q_norm.weight": "attn_q_norm.weight",
  "self_attn.k_norm.weight": "attn_k_norm.weight",
  "self_attn.sinks": "attn_sinks.weight",
  "mlp.gate_proj.weight": "ffn_gate.weight",
  "mlp.up_proj.weight": "ffn_up.weight",
  "mlp.gate_up_proj.weight": "ffn_up.weight",
  "mlp.down_proj.weight": "ffn_down.weight",
  "mlp.gate.weight": "ffn_gate_inp.weight",
  "mlp.router.weight": "ffn_gate_inp.weight",
  "mlp.router.bias": "ffn_gate_inp.bias",
  "block_sparse_moe.gate.weight": "ffn_gate_inp.weight",
  layer_scalar: "layer_output_scale.weight",
  "per_layer_input_gate.weight": "inp_gate.weight",
  "per_layer_projection.weight": "proj.weight",
  "post_per_layer_input_norm.weight": "post_norm.weight",
  "router.proj.weight": "ffn_gate_inp.weight",
  "router.scale": "ffn_gate_inp.scale",
  "router.per_expert_scale": "ffn_down_exps.scale",
  "experts.gate_up_proj": "ffn_gate_up_exps.weight",
  "experts.down_proj": "ffn_down_exps.weight",
  "pre_feedforward_layernorm_2.weight": "pre_ffw_norm_2.weight",
  "post_feedforward_layernorm_1.weight": "post_ffw_norm_1.weight",
  "post_feedforward_layernorm_2.weight": "post_ffw_norm_2.weight",
};

const WHOLE: Record<string, string> = {
  "model.embed_tokens.weight": "token_embd.weight",
  "model.norm.weight": "output_norm.weight",
  "lm_head.weight": "output.weight",
  "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
  "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
  "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
};

/** Where the norm after attention is one of its own, or is called so. */
const POST_NORM = ["gemma2", "gemma3", "gemma4", "olmo2", "gpt-oss"];
const PLUS_ONE = ["gemma2", "gemma3"];
const PERMUTED = ["llama", "granite", "smollm3"];

function ggufName(name: string, family: string): string {
  const layer = /^model\.layers\.(\d+)\.(.*)$/.exec(name);
  if (!layer) return WHOLE[name];
  // Mixtral's first files had a tensor for each expert.
  const expert = /^block_sparse_moe\.experts\.(\d+)\.w([123])\.weight$/.exec(layer[2]);
  if (expert)
    return `blk.${layer[1]}.ffn_${["gate", "down", "up"][Number(expert[2]) - 1]}.${expert[1]}.weight`;
  const post = POST_NORM.includes(family) && layer[2].startsWith("post_attention");
  return `blk.${layer[1]}.${post ? "post_attention_norm.weight" : PARTS[layer[2]]}`;
}

type Layer = LayerSpec & { mixer: AttentionSpec };

const written = (name: string, values: Float32Array, dims: number[]): WrittenTensor => ({
  ...{ name, dims, type: 0, data: new Uint8Array(values.slice().buffer) },
});

/** Experts as one tensor of three dims; gpt-oss's [in, out] with gate and up by turns as [out, in] apart. */
async function experts(model: Model, done: Set<string>): Promise<WrittenTensor[]> {
  const { tensors } = model.checkpoint;
  const out: WrittenTensor[] = [];
  for (const [i, { feedForward }] of model.config.layers.entries()) {
    if (!feedForward.experts) continue;
    const { count, width } = feedForward.experts;
    const { hidden } = model.config;
    for (const part of ["gate", "up", "down"]) {
      const names = Array.from(
        { length: count },
        (_, e) => `model.layers.${i}.mlp.experts.${e}.${part}_proj.weight`,
      );
      if (!tensors.has(names[0])) continue;
      const all = await Promise.all(
        names.map((name) => f32Rows(tensors.get(name)!, 0, tensors.get(name)!.rows)),
      );
      const { rows, cols } = tensors.get(names[0])!;
      out.push(
        written(`blk.${i}.ffn_${part}_exps.weight`, Float32Array.from(all.flatMap((v) => [...v])), [
          cols,
          rows,
          count,
        ]),
      );
      for (const name of names) done.add(name);
    }
    const fused = (name: string) => `model.layers.${i}.mlp.experts.${name}`;
    if (!tensors.has(fused("gate_up_proj"))) continue;
    const read = async (name: string) => {
      done.add(fused(name));
      const tensor = tensors.get(fused(name))!;
      return f32Rows(tensor, 0, tensor.rows);
    };
    const [gateUp, bias, down, downBias] = await Promise.all(
      ["gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"].map(read),
    );
    for (const [at, part] of ["gate", "up"].entries()) {
      const weight = new Float32Array(count * width * hidden).map((_, n) => {
        const [e, row, col] = [Math.floor(n / hidden / width), Math.floor(n / hidden) % width, n % hidden];
        return gateUp[(e * hidden + col) * 2 * width + 2 * row + at];
      });
      out.push(written(`blk.${i}.ffn_${part}_exps.weight`, weight, [hidden, width, count]));
      out.push(
        written(
          `blk.${i}.ffn_${part}_exps.bias`,
          new Float32Array(count * width).map((_, n) => bias[2 * n + at]),
          [width, count],
        ),
      );
    }
    const turned = new Float32Array(count * hidden * width).map((_, n) => {
      const [e, row, col] = [Math.floor(n / width / hidden), Math.floor(n / width) % hidden, n % width];
      return down[(e * width + col) * hidden + row];
    });
    out.push(written(`blk.${i}.ffn_down_exps.weight`, turned, [width, hidden, count]));
    out.push(written(`blk.${i}.ffn_down_exps.bias`, downBias, [hidden, count]));
  }
  return out;
}

/** Rows (half, i) of each head to (i, half); a bias has columns of one. */
function permuted(values: Float32Array, cols: number, headDim: number): Float32Array {
  const bias = values.length === cols;
  const width = bias ? 1 : cols;
  const out = new Float32Array(values.length);
  for (let row = 0; row < values.length / width; row++) {
    const inHead = row % headDim;
    const half = Math.floor(inHead / (headDim / 2));
    const target = row - inHead + 2 * (inHead % (headDim / 2)) + half;
    out.set(values.subarray(row * width, (row + 1) * width), target * width);
  }
  return out;
}

interface Parameters {
  [key: string]: unknown;
  rope_theta?: number;
  rope_type?: string;
}

/** The keys and tensors of RoPE. */
function ropeOf(model: Model, full: Layer): { keys: [string, number, unknown][]; tensors: WrittenTensor[] } {
  const said = model.checkpoint.metadata.rope_parameters as Parameters | undefined;
  const own = (said?.full_attention ?? said ?? {}) as Parameters;
  const { rope, headDim } = full.mixer;
  const base = own.rope_theta ?? 1e6;
  const keys: [string, number, unknown][] = [["rope.freq_base", T.f32, base]];
  const tensors: WrittenTensor[] = [];
  const original = own.original_max_position_embeddings as number;
  const plain = Float64Array.from({ length: headDim / 2 }, (_, i) => base ** ((-2 * i) / headDim));
  if (own.rope_type === "yarn")
    keys.push(
      ["rope.scaling.type", T.string, "yarn"],
      ["rope.scaling.factor", T.f32, own.factor],
      ["rope.scaling.original_context_length", T.u32, original],
    );
  else if (own.rope_type === "longrope") {
    keys.push(
      ["rope.scaling.original_context_length", T.u32, original],
      ["rope.scaling.attn_factor", T.f32, rope!.magnitude],
    );
    for (const kind of ["long", "short"])
      tensors.push(
        written(`rope_factors_${kind}.weight`, Float32Array.from(own[`${kind}_factor`] as number[]), [
          headDim / 2,
        ]),
      );
  } else {
    // Of what does not turn the frequency is 0: llama.cpp divides by 1e30.
    const divisors = Float32Array.from(plain, (frequency, i) =>
      Math.min(frequency / rope!.frequencies[i], 1e30),
    );
    if (divisors.some((d) => d !== 1)) tensors.push(written("rope_freqs.weight", divisors, [headDim / 2]));
  }
  return { keys, tensors };
}

export async function asGguf(model: Model): Promise<Model> {
  const { config, checkpoint } = model;
  const { family } = config;
  const layers: Layer[] = config.layers.map((layer) => ({ ...layer, mixer: attentionIn(layer) }));
  const done = new Set<string>();
  const tensors = await experts(model, done);
  for (const [name, tensor] of checkpoint.tensors) {
    if (done.has(name)) continue;
    let values = await f32Rows(tensor, 0, tensor.rows);
    if (PLUS_ONE.includes(family) && name.includes("norm")) values = values.map((x) => x + 1);
    if (PERMUTED.includes(family) && /[qk]_proj/.test(name))
      values = permuted(values, tensor.cols, layers[0].mixer.headDim);
    const dims = tensor.rows === 1 ? [tensor.cols] : [tensor.cols, tensor.rows];
    tensors.push(written(ggufName(name, family), values, dims));
  }
  const full = layers.find(({ mixer }) => mixer.window === null && mixer.rope) ?? layers[0];
  const sliding = layers.find(({ mixer }) => mixer.window !== null);
  const { mixer, feedForward } = full;
  const each = (of: (layer: Layer) => number) => ({ type: T.u32, items: layers.map(of) });
  const rope = ropeOf(model, full);
  const expertSpec = feedForward.experts;
  const shared = layers.filter(({ mixer }, i) => mixer.cacheOf !== i).length;
  const keys: [string, number, unknown][] = [
    ["context_length", T.u32, config.trainedContext],
    ["embedding_length", T.u32, config.hidden],
    ["block_count", T.u32, layers.length],
    ["feed_forward_length", T.array, each(({ feedForward: f }) => f.width || f.experts!.width)],
    ["attention.head_count", T.array, each(({ mixer }) => mixer.heads)],
    ["attention.head_count_kv", T.array, each(({ mixer }) => mixer.kvHeads)],
    ["attention.key_length", T.u32, mixer.headDim],
    ["attention.value_length", T.u32, mixer.headDim],
    ["attention.layer_norm_rms_epsilon", T.f32, config.normEpsilon],
    ["attention.sliding_window", T.u32, sliding?.mixer.window ?? 0],
    ...rope.keys,
  ];
  const also = (yes: boolean, ...more: [string, number, unknown][]) => yes && keys.push(...more);
  also(
    family === "gemma4",
    ["attention.key_length_swa", T.u32, sliding?.mixer.headDim],
    ["attention.value_length_swa", T.u32, sliding?.mixer.headDim],
    [
      "attention.sliding_window_pattern",
      T.array,
      { type: T.bool, items: layers.map(({ mixer }) => (mixer.window === null ? 0 : 1)) },
    ],
    ["attention.shared_kv_layers", T.u32, shared],
    ["embedding_length_per_layer_input", T.u32, config.perLayerInput],
    ["rope.freq_base_swa", T.f32, 10_000],
  );
  also(
    expertSpec !== null,
    ["expert_count", T.u32, expertSpec?.count],
    ["expert_used_count", T.u32, expertSpec?.k],
    ["expert_feed_forward_length", T.u32, expertSpec?.width],
  );
  also(config.logitSoftcap > 0, ["final_logit_softcapping", T.f32, config.logitSoftcap]);
  also(mixer.softcap > 0, ["attn_logit_softcapping", T.f32, mixer.softcap]);
  also(
    family === "granite",
    ["logit_scale", T.f32, 1 / config.logitScale],
    ["residual_scale", T.f32, config.residualScale],
    ["embedding_scale", T.f32, config.embeddingScale],
    ["attention.scale", T.f32, mixer.scale],
  );
  const written_ = writeGguf({
    keys: [
      ["general.architecture", T.string, family],
      ...keys.map(([key, type, value]) => [`${family}.${key}`, type, value] as KeyValue),
    ],
    tensors: [...tensors, ...rope.tensors],
  });
  const { metadata, tensors: read, close } = await readGguf(bufferSource("converted", written_));
  return openModel(withoutTokenizer({ kind: "gguf", name: "converted", metadata, tensors: read, close }));
}
