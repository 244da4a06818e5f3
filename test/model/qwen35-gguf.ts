/** Golden checkpoints of Qwen 3.5 and Qwen3-Next as llama.cpp's converter writes them (conversion/qwen.py, 2026). */
import { bufferSource } from "../../src/format/buffer-source.ts";
import { readGguf } from "../../src/format/gguf.ts";
import { attentionsOf, type DeltaSpec } from "../../src/model/config.ts";
import { type Model, openModel } from "../../src/model/model.ts";
import { f32Rows } from "../../src/model/tensors.ts";
import { type KeyValue, T, type WrittenTensor, writeGguf } from "../format/write-gguf.ts";
import { withoutTokenizer } from "./golden.ts";

const NAMES: Record<string, string> = {
  "model.embed_tokens.weight": "token_embd.weight",
  "model.norm.weight": "output_norm.weight",
  "lm_head.weight": "output.weight",
};

const PARTS: Record<string, string> = {
  "input_layernorm.weight": "attn_norm.weight",
  "post_attention_layernorm.weight": "post_attention_norm.weight",
  "self_attn.q_proj.weight": "attn_q.weight",
  "self_attn.k_proj.weight": "attn_k.weight",
  "self_attn.v_proj.weight": "attn_v.weight",
  "self_attn.o_proj.weight": "attn_output.weight",
  "self_attn.q_norm.weight": "attn_q_norm.weight",
  "self_attn.k_norm.weight": "attn_k_norm.weight",
  "linear_attn.in_proj_qkv.weight": "attn_qkv.weight",
  "linear_attn.in_proj_z.weight": "attn_gate.weight",
  "linear_attn.in_proj_a.weight": "ssm_alpha.weight",
  "linear_attn.in_proj_b.weight": "ssm_beta.weight",
  "linear_attn.in_proj_qkvz.weight": "ssm_in.weight",
  "linear_attn.in_proj_ba.weight": "ssm_ba.weight",
  "linear_attn.conv1d.weight": "ssm_conv1d.weight",
  "linear_attn.A_log": "ssm_a",
  "linear_attn.dt_bias": "ssm_dt.bias",
  "linear_attn.norm.weight": "ssm_norm.weight",
  "linear_attn.out_proj.weight": "ssm_out.weight",
  "mlp.gate_proj.weight": "ffn_gate.weight",
  "mlp.up_proj.weight": "ffn_up.weight",
  "mlp.down_proj.weight": "ffn_down.weight",
  "mlp.gate.weight": "ffn_gate_inp.weight",
  "mlp.shared_expert_gate.weight": "ffn_gate_inp_shexp.weight",
  "mlp.shared_expert.gate_proj.weight": "ffn_gate_shexp.weight",
  "mlp.shared_expert.up_proj.weight": "ffn_up_shexp.weight",
  "mlp.shared_expert.down_proj.weight": "ffn_down_shexp.weight",
};

/** Heads of `size` values from value `from` of each row group on: grouped by key head -> one of each key head in turn. */
function tiled(
  values: Float32Array,
  { keyHeads, valueHeads }: DeltaSpec,
  size: number,
  from = 0,
): Float32Array {
  const out = values.slice();
  const each = valueHeads / keyHeads;
  for (let p = 0; p < valueHeads; p++) {
    const source = (p % keyHeads) * each + Math.floor(p / keyHeads);
    out.set(values.subarray(from + source * size, from + (source + 1) * size), from + p * size);
  }
  return out;
}

function convert(part: string, values: Float32Array, cols: number, spec: DeltaSpec): Float32Array {
  const { keyHeads, keyDim, valueDim, kernel } = spec;
  const keys = 2 * keyHeads * keyDim;
  switch (part) {
    case "attn_qkv.weight":
      return tiled(values, spec, valueDim * cols, keys * cols);
    case "ssm_conv1d.weight":
      return tiled(values, spec, valueDim * kernel, keys * kernel);
    case "attn_gate.weight":
      return tiled(values, spec, valueDim * cols);
    case "ssm_alpha.weight":
    case "ssm_beta.weight":
      return tiled(values, spec, cols);
    case "ssm_a":
    case "ssm_dt.bias":
      return tiled(values, spec, 1);
    case "ssm_out.weight": {
      const out = values.slice();
      for (let at = 0; at < values.length; at += cols)
        out.set(tiled(values.subarray(at, at + cols), spec, valueDim), at);
      return out;
    }
    default:
      return values;
  }
}

export interface GgufOptions {
  /** A block behind the layers that predicts a second token. */
  hasExtra?: boolean;
  /** 0 KV heads in layers that do not attend, as Ollama writes them. */
  hasHeads?: boolean;
  more?: readonly KeyValue[];
}

export async function asGguf({ config, checkpoint }: Model, options: GgufOptions = {}): Promise<Model> {
  const { hasExtra = false, hasHeads = false, more = [] } = options;
  const delta = config.layers.map(({ mixer }) => mixer).find((mixer) => mixer.kind === "delta")!;
  const [{ spec: attention }] = attentionsOf(config);
  const { width, experts } = config.layers[0].feedForward;
  const architecture = experts ? "qwen3next" : "qwen35";
  const tensors: WrittenTensor[] = [];
  const add = (name: string, dims: number[], values: Float32Array) =>
    tensors.push({ name, dims, type: 0, data: new Uint8Array(values.slice().buffer) });
  const stacks = new Map<string, { dims: number[]; each: Float32Array[] }>();
  for (const [name, tensor] of checkpoint.tensors) {
    const { rows, cols } = tensor;
    let values = await f32Rows(tensor, 0, rows);
    if (/norm\.weight$/.test(name) && !name.includes("linear_attn")) values = values.map((x) => x + 1);
    if (name.endsWith("A_log")) values = values.map((x) => -Math.exp(x));
    const expert = /^model\.layers\.(\d+)\.mlp\.experts\.\d+\.(\w+)_proj\.weight$/.exec(name);
    if (expert) {
      const key = `blk.${expert[1]}.ffn_${expert[2]}_exps.weight`;
      const stack = stacks.get(key) ?? { dims: [cols, rows, experts!.count], each: [] };
      stack.each.push(values);
      stacks.set(key, stack);
      continue;
    }
    const layer = /^model\.layers\.(\d+)\.(.*)$/.exec(name);
    const part = layer ? PARTS[layer[2]] : NAMES[name];
    if (layer && !experts) values = convert(part, values, cols, delta);
    const dims = rows === 1 ? [cols] : [cols, rows];
    add(layer ? `blk.${layer[1]}.${part}` : part, dims, values);
  }
  for (const [name, { dims, each }] of stacks) {
    const all = new Float32Array(dims[0] * dims[1] * dims[2]);
    for (const [i, values] of each.entries()) all.set(values, i * dims[0] * dims[1]);
    add(name, dims, all);
  }
  if (hasExtra)
    for (const name of ["attn_q.weight", "nextn.eh_proj.weight", "nextn.enorm.weight"])
      add(`blk.${config.layers.length}.${name}`, [4], new Float32Array(4));
  const counts: Record<string, number> = {
    context_length: config.trainedContext,
    embedding_length: config.hidden,
    block_count: config.layers.length + (hasExtra ? 1 : 0),
    nextn_predict_layers: hasExtra ? 1 : 0,
    feed_forward_length: width,
    "attention.head_count": attention.heads,
    ...(!hasHeads && { "attention.head_count_kv": attention.kvHeads }),
    "attention.key_length": attention.headDim,
    "attention.value_length": attention.headDim,
    "rope.dimension_count": attention.rope!.frequencies.length * 2,
    "ssm.conv_kernel": delta.kernel,
    "ssm.state_size": delta.keyDim,
    "ssm.group_count": delta.keyHeads,
    "ssm.time_step_rank": delta.valueHeads,
    "ssm.inner_size": delta.valueHeads * delta.valueDim,
    full_attention_interval: 4,
    ...(experts && {
      expert_count: experts.count,
      expert_used_count: experts.k,
      expert_feed_forward_length: experts.width,
      expert_shared_feed_forward_length: width,
    }),
  };
  const items = config.layers.map(({ mixer }) => (mixer.kind === "attention" ? mixer.kvHeads : 0));
  const kvHeads: KeyValue = [`${architecture}.attention.head_count_kv`, T.array, { type: T.u32, items }];
  const rope = checkpoint.metadata.rope_parameters as { rope_theta: number };
  const keys: KeyValue[] = [
    ["general.architecture", T.string, architecture],
    ...Object.entries(counts).map(([key, value]): KeyValue => [`${architecture}.${key}`, T.u32, value]),
    [`${architecture}.attention.layer_norm_rms_epsilon`, T.f32, config.normEpsilon],
    [`${architecture}.rope.freq_base`, T.f32, rope.rope_theta],
    ...(hasHeads ? [kvHeads] : []),
    ...more,
    [`${architecture}.rope.dimension_sections`, T.array, { type: T.i32, items: [2, 1, 1, 0] }],
  ];
  const file = await readGguf(bufferSource("converted", writeGguf({ keys, tensors })));
  const { metadata, tensors: read, close } = file;
  return openModel(withoutTokenizer({ kind: "gguf", name: "converted", metadata, tensors: read, close }));
}
