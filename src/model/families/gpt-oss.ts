/**
 * gpt-oss (OpenAI, arXiv 2508.10925): Llama's block with a sink for each head, a window in every other layer, biases
 * everywhere, YaRN, and experts with a clamped SwiGLU. The experts' weights are published in MXFP4.
 */
import { BOUNDS } from "../bounds.ts";
import type { BiasName } from "../config.ts";
import { all, only } from "../keys.ts";
import { preNormModel } from "../layers.ts";
import { at, LLAMA_NAMES, type Place, type TakePart } from "../names.ts";
import { regroupRows, regroupValues, transposeEach } from "../tensors.ts";
import { ATTENTION_BIASES, DEFAULTS, type Family, folderKeys, ggufKeys } from "./family.ts";

const PATTERN = 2;
/** The clamp of gate and up, from openai/gpt-oss, torch/model.py. GGUF does not contain it. */
const LIMIT = 7;

const EXPERT_BIASES: readonly BiasName[] = ["router", "expertGate", "expertUp", "expertDown"];

/**
 * Gate and up rows alternate in one matrix for each expert. Hugging Face stores floats as [experts, in, out], and MXFP4
 * as [experts, out, in].
 */
const ofGateUp: TakePart = (tensor, { name, config, layer }) => {
  const { width } = layer.feedForward.experts!;
  const every = { group: 2 * width, from: name.startsWith("expertGate") ? 0 : 1, step: 2, count: width };
  if (name.endsWith("Bias")) return regroupValues(tensor, every, name);
  const rows = tensor.type === "mxfp4" ? tensor : transposeEach(tensor, config.hidden, "by output");
  return regroupRows(rows, every, name);
};

const ofDown: TakePart = (tensor, { layer }) => {
  const { width } = layer.feedForward.experts!;
  return tensor.type === "mxfp4" ? tensor : transposeEach(tensor, width, "by output");
};

const gateUp = (part: "gate" | "up", kind: "weight" | "bias") => {
  const fused: Place = {
    of: `mlp.experts.gate_up_proj${kind === "bias" ? "_bias" : ""}`,
    take: ofGateUp,
  };
  return at(`ffn_${part}_exps.${kind}`, [`mlp.experts.${part}_proj.${kind}`, fused]);
};

export const gptOss: Family = {
  name: "gpt-oss",
  gguf: {
    "gpt-oss": {
      keys: ggufKeys({
        ...all("read", "attention.sliding_window", "attention.sliding_window_pattern", "rope.freq_base_swa"),
        ...all("read", "expert_count", "expert_used_count", "expert_feed_forward_length"),
      }),
      biases: [...ATTENTION_BIASES, ...EXPERT_BIASES],
      async config(file) {
        const { fields, headDim } = file;
        file.same("rope.dimension_count", headDim);
        const windows = file.windows(PATTERN);
        // The model was trained with an exact ramp. llama.cpp rounds its ends to whole pairs, a difference of 0.1 pairs
        // at both ends.
        const rope = await file.rope({ truncate: false });
        const sliding = fields.has("rope.freq_base_swa")
          ? await file.rope({ truncate: false, baseKey: "rope.freq_base_swa" })
          : rope;
        const experts = {
          count: fields.number("expert_count", BOUNDS.experts),
          k: fields.number("expert_used_count", BOUNDS.experts),
          width: fields.number("expert_feed_forward_length", BOUNDS.ffn),
          normalise: true,
        };
        return {
          ...file.whole({ activation: "swigluOai", activationLimit: LIMIT }),
          layers: file.layersOf(
            (layer) => ({
              ...{ window: windows[layer], sinks: true },
              rope: windows[layer] === null ? rope : sliding,
            }),
            () => ({ width: 0, experts }),
          ),
        };
      },
    },
  },
  folders: {
    gpt_oss: {
      defaults: {
        ...DEFAULTS,
        ...{ vocab_size: 201_088, hidden_size: 2880, intermediate_size: 2880, num_hidden_layers: 36 },
        ...{ num_attention_heads: 64, num_key_value_heads: 8, head_dim: 64, rms_norm_eps: 1e-5 },
        ...{ max_position_embeddings: 131_072, sliding_window: 128, num_experts_per_tok: 4 },
        ...{ swiglu_limit: LIMIT, attention_bias: true },
        rope_parameters: {
          ...{ rope_type: "yarn", factor: 32, beta_fast: 32, beta_slow: 1, truncate: false },
          original_max_position_embeddings: 4096,
        },
      },
      keys: folderKeys({
        ...all("read", "sliding_window", "layer_types", "attention_bias", "swiglu_limit"),
        ...all("read", "num_local_experts", "num_experts", "num_experts_per_tok"),
        // The published files have these keys twice.
        ...all("harmless", "experts_per_token", "initial_context_length"),
        ...all("harmless", "router_aux_loss_coef", "output_router_logits"),
        hidden_act: only("silu"),
        swiglu_alpha: only(1.702),
      }),
      config(file) {
        const windows = file.windows((layer) => layer % PATTERN === 0);
        const rope = file.rope({ base: 150_000 });
        const experts = {
          count: file.expertCount(128),
          k: file.config.number("num_experts_per_tok", BOUNDS.experts),
          width: file.config.number("intermediate_size", BOUNDS.ffn),
          normalise: true,
        };
        return {
          ...file.whole({
            activation: "swigluOai",
            activationLimit: file.multiplier("swiglu_limit"),
            biases: [...(file.flag("attention_bias") ? ATTENTION_BIASES : []), ...EXPERT_BIASES],
          }),
          layers: file.layersOf(
            (layer) => ({ rope, window: windows[layer], sinks: true }),
            () => ({ width: 0, experts }),
          ),
        };
      },
    },
  },
  names: {
    model: LLAMA_NAMES.model,
    layer: {
      ...LLAMA_NAMES.layer,
      ffnNorm: at("post_attention_norm.weight", "post_attention_layernorm.weight"),
      sinks: at("attn_sinks.weight", "self_attn.sinks"),
      router: at("ffn_gate_inp.weight", "mlp.router.weight"),
      routerBias: at("ffn_gate_inp.bias", "mlp.router.bias"),
      expertGate: gateUp("gate", "weight"),
      expertUp: gateUp("up", "weight"),
      expertGateBias: gateUp("gate", "bias"),
      expertUpBias: gateUp("up", "bias"),
      expertDown: at("ffn_down_exps.weight", [
        "mlp.experts.down_proj.weight",
        { of: "mlp.experts.down_proj", take: ofDown },
      ]),
      expertDownBias: at("ffn_down_exps.bias", ["mlp.experts.down_proj.bias", "mlp.experts.down_proj_bias"]),
    },
  },
  forward: preNormModel,
};
