/**
 * A config as GGUF key-values: names and units of the GGUF specification (ggml/docs/gguf.md), as llama.cpp's converter
 * writes them. RoPE scalings become keys or tensors of divisors.
 */
import { UnsupportedError } from "../format/errors.ts";
import type { GgufValue } from "../format/gguf-write.ts";
import type { JsonObject } from "../format/json.ts";
import type { Tensor } from "../format/tensor.ts";
import { attentionsOf, type LayerSpec, type ModelConfig, type RopeConfig } from "./config.ts";
import { ropeFrequencies, yarnMagnitude } from "./rope.ts";
import { originOf } from "./rope-parameters.ts";

export type Key = readonly [string, GgufValue];

/** A tensor under its name in the new file; dims with the fastest axis first. */
export interface WrittenTensor {
  readonly name: string;
  readonly dims: readonly number[];
  readonly tensor: Tensor;
}

export interface WrittenKeys {
  /** Without the architecture's prefix. */
  readonly keys: readonly Key[];
  readonly tensors: readonly WrittenTensor[];
}

export const u32 = (value: number): GgufValue => ({ u32: value });
export const f32 = (value: number): GgufValue => ({ f32: value });

/** One number if all layers have the same, otherwise one for each layer. */
function each(layers: readonly LayerSpec[], of: (layer: LayerSpec) => number): GgufValue {
  const values = layers.map(of);
  return values.every((value) => value === values[0]) ? u32(values[0]) : { u32s: values };
}

export function writtenKeys(config: ModelConfig, architecture: string, source: JsonObject): WrittenKeys {
  const { layers, hidden } = config;
  const attentions = attentionsOf(config).map(({ spec }) => spec);
  const full = attentions.find(({ window }) => window === null) ?? attentions[0];
  const sliding = attentions.find(({ window }) => window !== null);
  const delta = layers.map(({ mixer }) => mixer).find((mixer) => mixer.kind === "delta");
  const mixture = layers.find(({ feedForward }) => feedForward.experts)?.feedForward;
  const rope = full.rope ?? attentions.find((spec) => spec.rope !== null)?.rope ?? null;
  const found = ropeKeys(rope, /^qwen3(5|next)/.test(architecture) ? source : null);
  const keys: Key[] = [
    ["context_length", u32(config.trainedContext)],
    ["embedding_length", u32(hidden)],
    ["block_count", u32(layers.length)],
    [
      "feed_forward_length",
      each(layers, ({ feedForward: { width, experts } }) => width || (experts?.width ?? 0)),
    ],
    ["attention.head_count", each(layers, ({ mixer }) => (mixer.kind === "delta" ? full : mixer).heads)],
    ["attention.head_count_kv", each(layers, ({ mixer }) => (mixer.kind === "delta" ? full : mixer).kvHeads)],
    ["attention.key_length", u32(full.headDim)],
    ["attention.value_length", u32(full.headDim)],
    ["attention.layer_norm_rms_epsilon", f32(config.normEpsilon)],
    ...found.keys,
  ];
  const add = (yes: unknown, ...more: Key[]) => yes && keys.push(...more);
  const hasWindows = /^(gemma|gpt-oss|olmo2)/.test(architecture);
  add(hasWindows && sliding, ["attention.sliding_window", u32(sliding?.window ?? 0)]);
  if (hasWindows && sliding?.rope && sliding.rope !== full.rope)
    keys.push(["rope.freq_base_swa", f32(origin(sliding.rope).base)]);
  add(
    mixture,
    ["expert_count", u32(mixture?.experts?.count ?? 0)],
    ["expert_used_count", u32(mixture?.experts?.k ?? 0)],
    ["expert_feed_forward_length", u32(mixture?.experts?.width ?? 0)],
  );
  add(mixture?.width && delta, ["expert_shared_feed_forward_length", u32(mixture?.width ?? 0)]);
  add(config.logitSoftcap > 0, ["final_logit_softcapping", f32(config.logitSoftcap)]);
  add(full.softcap > 0, ["attn_logit_softcapping", f32(full.softcap)]);
  if (delta?.kind === "delta")
    keys.push(
      ["ssm.conv_kernel", u32(delta.kernel)],
      ["ssm.state_size", u32(delta.keyDim)],
      ["ssm.group_count", u32(delta.keyHeads)],
      ["ssm.time_step_rank", u32(delta.valueHeads)],
      ["ssm.inner_size", u32(delta.valueHeads * delta.valueDim)],
      ["full_attention_interval", u32(layers.findIndex(({ mixer }) => mixer.kind === "attention") + 1)],
    );
  return { keys, tensors: found.tensors };
}

function origin(rope: RopeConfig) {
  const found = originOf(rope);
  if (!found) throw new UnsupportedError("this RoPE in a GGUF");
  return found;
}

/** `mrope`: the config.json of a family with RoPE sections. */
function ropeKeys(rope: RopeConfig | null, mrope: JsonObject | null): WrittenKeys {
  if (!rope) return { keys: [], tensors: [] };
  const { type, base, dims, factor = 1, ...own } = origin(rope);
  const keys: Key[] = [
    ["rope.freq_base", f32(base)],
    ["rope.dimension_count", u32(dims)],
  ];
  if (mrope) keys.push(["rope.dimension_sections", { i32s: mropeSections(mrope, dims / 2) }]);
  const original = own.originalContext ?? 0;
  const { magnitude = 1 } = rope;
  const tensors: WrittenTensor[] = [];
  switch (type) {
    case "linear":
      keys.push(["rope.scaling.type", { string: "linear" }], ["rope.scaling.factor", f32(factor)]);
      break;
    case "yarn": {
      const rest = magnitude / yarnMagnitude(factor);
      keys.push(
        ["rope.scaling.type", { string: "yarn" }],
        ["rope.scaling.factor", f32(factor)],
        ["rope.scaling.original_context_length", u32(original)],
      );
      if (own.betaFast !== 32) keys.push(["rope.scaling.yarn_beta_fast", f32(own.betaFast ?? 32)]);
      if (own.betaSlow !== 1) keys.push(["rope.scaling.yarn_beta_slow", f32(own.betaSlow ?? 1)]);
      if (Math.abs(rest - 1) > 1e-6) keys.push(["rope.scaling.attn_factor", f32(rest)]);
      break;
    }
    case "longrope":
      keys.push(
        ["rope.scaling.original_context_length", u32(original)],
        ["rope.scaling.attn_factor", f32(magnitude)],
      );
      tensors.push(divisors("rope_factors_long.weight", own.long ?? []));
      tensors.push(divisors("rope_factors_short.weight", own.short ?? []));
      break;
    case "llama3":
    case "proportional": {
      const plain = ropeFrequencies(base, dims);
      // Pairs that are not rotated have frequency 0: llama.cpp divides by 1e30.
      const by = Array.from(plain, (frequency, i) => Math.min(frequency / rope.frequencies[i], 1e30));
      tensors.push(divisors("rope_freqs.weight", by));
    }
  }
  return { keys, tensors };
}

/** Sections of Qwen 3.5's image positions. For text they are all the same, but llama.cpp requires the key. */
function mropeSections(source: JsonObject, pairs: number): number[] {
  const text = (source.text_config ?? source) as JsonObject;
  const parameters = (text.rope_parameters ?? text.rope_scaling) as JsonObject | null | undefined;
  const sections = parameters?.mrope_section;
  const third = Math.floor(pairs / 3);
  if (!Array.isArray(sections) || !sections.every((size) => Number.isInteger(size) && size >= 0))
    return [pairs - 2 * third, third, third, 0];
  return [...sections, 0, 0, 0, 0].slice(0, 4);
}

function divisors(name: string, values: readonly number[]): WrittenTensor {
  const floats = Float32Array.from(values);
  const tensor: Tensor = {
    ...{ name, type: "f32", rows: 1, cols: floats.length },
    async readRows(_first, count, into) {
      if (count > 0) into.set(new Uint8Array(floats.buffer));
    },
  };
  return { name, dims: [floats.length], tensor };
}

/** Keys as a reader of the file would see them. */
export function metadataOf(keys: ReadonlyMap<string, GgufValue>): Record<string, unknown> {
  const floats = (value: GgufValue) => ("f32" in value ? Math.fround(value.f32) : Object.values(value)[0]);
  return Object.fromEntries([...keys].map(([key, value]) => [key, floats(value)]));
}
