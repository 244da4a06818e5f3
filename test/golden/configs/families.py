"""Writes families.json and families.f32: tiny checkpoints of the families of 2024 to 2026, with shapes and keys that the
golden models do not have, and transformers' logits for them.

Run by hand with torch 2.13.0 and transformers 5.24.0 (`python families.py`); tests need only what it writes. As in make.py
weights are no file, and logits are kept at the positions KEPT of TOKENS tokens, float32, one case after another.
"""

import json, os, struct, tempfile

import numpy, torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from weights import values

TOKENS, KEPT = 48, [20, 47]
HERE = os.path.dirname(os.path.abspath(__file__))
S, F = "sliding_attention", "full_attention"
BASE = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=False, pad_token_id=0,
)


def yarn(**more):
    return dict(dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32), **more)


def longrope(original, **more):
    short, long = [1 + i / 10 for i in range(8)], [2.0 + i for i in range(8)]
    return dict(dict(rope_type="longrope", rope_theta=10000.0, short_factor=short, long_factor=long,
                original_max_position_embeddings=original), **more)


GEMMA4 = dict(sliding_window=7, head_dim=16, global_head_dim=32, hidden_size_per_layer_input=0, vocab_size_per_layer_input=64)
CASES = [
    ("gemma2", dict(head_dim=16, sliding_window=8, layer_types=[F, S, S], attn_logit_softcapping=None, final_logit_softcapping=None,
        attention_bias=True, query_pre_attn_scalar=24, rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=5000.0))),
    ("gemma2", dict(head_dim=32, num_key_value_heads=2, sliding_window=5, attn_logit_softcapping=2.0, final_logit_softcapping=3.0)),
    ("granite", dict(mlp_bias=True, attention_bias=True, embedding_multiplier=3.0, logits_scaling=4.0, residual_multiplier=0.5,
        attention_multiplier=0.1, rope_parameters=yarn())),
    ("granite", dict(tie_word_embeddings=True)),
    ("smollm3", dict(num_hidden_layers=4, no_rope_layer_interval=2, use_sliding_window=True, sliding_window=8, attention_bias=True, mlp_bias=True)),
    ("smollm3", dict(num_hidden_layers=5, tie_word_embeddings=True)),
    ("smollm3", dict(no_rope_layers=[0, 1, 0], layer_types=[F, S, F], use_sliding_window=True, sliding_window=6)),
    ("olmo2", dict(attention_bias=True, rope_parameters=yarn(attention_factor=1.3))),
    ("olmo2", dict(num_key_value_heads=2, tie_word_embeddings=True)),
    ("phi3", dict(hidden_size=64, sliding_window=9, original_max_position_embeddings=32,
        rope_parameters=longrope(32, partial_rotary_factor=0.5))),
    ("phi3", dict(original_max_position_embeddings=64, rope_parameters=longrope(64))),
    ("phi3", dict(tie_word_embeddings=True)),
    ("llama", dict(rope_parameters=yarn(mscale=1.2, mscale_all_dim=0.7, beta_fast=8.0, beta_slow=2.0))),
    ("llama", dict(rope_parameters=yarn(truncate=False, attention_factor=0.9))),
    ("llama", dict(rope_parameters=longrope(32, factor=8.0))),
    ("qwen2", dict(rope_parameters=yarn())),
    ("qwen3", dict(head_dim=16, rope_parameters=yarn())),
    ("mistral", dict(sliding_window=None, rope_parameters=yarn())),
    ("gemma4_text", dict(GEMMA4, num_hidden_layers=7, num_key_value_heads=2, num_global_key_value_heads=1, attention_k_eq_v=True, attention_bias=True, global_head_dim=48)),
    ("gemma4_text", dict(GEMMA4, layer_types=[S, F, S], num_global_key_value_heads=2, final_logit_softcapping=3.0, rope_parameters={
        F: dict(rope_type="proportional", rope_theta=5000.0, partial_rotary_factor=0.5), S: dict(rope_type="default", rope_theta=777.0)})),
    ("gemma4_text", dict(GEMMA4, num_hidden_layers=5, layer_types=[S, F, S, S, F], num_kv_shared_layers=2, hidden_size_per_layer_input=8,
        final_logit_softcapping=2.0, tie_word_embeddings=True)),
    ("gemma4_text", dict(GEMMA4, num_hidden_layers=4, layer_types=[F, S, S, F], num_kv_shared_layers=2, use_double_wide_mlp=True, hidden_size_per_layer_input=16)),
    ("gemma4_text", dict(GEMMA4, num_hidden_layers=2, layer_types=[S, F], enable_moe_block=True, num_experts=5, top_k_experts=3, moe_intermediate_size=16)),
    ("gemma4_unified_text", dict(GEMMA4, num_hidden_layers=6, attention_k_eq_v=True, num_global_key_value_heads=1)),
    ("qwen3_moe", dict(num_hidden_layers=4, head_dim=32, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24, norm_topk_prob=False,
        mlp_only_layers=[1], decoder_sparse_step=2, attention_bias=True, use_sliding_window=True, sliding_window=8)),
    ("qwen3_moe", dict(num_experts=4, num_experts_per_tok=1, moe_intermediate_size=16, norm_topk_prob=True, rope_parameters=yarn())),
    ("mixtral", dict(num_local_experts=4, num_experts_per_tok=3, sliding_window=8)),
    ("mixtral", dict(num_local_experts=3, num_experts_per_tok=1, tie_word_embeddings=True, head_dim=32)),
    ("gpt_oss", dict(head_dim=16, num_local_experts=5, num_experts_per_tok=3, sliding_window=6, layer_types=[F, S, F], attention_bias=False, swiglu_limit=0.5)),
    ("gpt_oss", dict(head_dim=32, num_local_experts=4, num_experts_per_tok=2, sliding_window=6, intermediate_size=32,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0), tie_word_embeddings=True)),
    ("gpt_oss", dict(head_dim=16, num_local_experts=4, num_experts_per_tok=1, sliding_window=6)),
]


def shapes_of(file):
    with open(file, "rb") as data:
        header = json.loads(data.read(struct.unpack("<Q", data.read(8))[0]))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def logits(made):
    plus_one = made["model_type"] in ["gemma2"]
    with tempfile.TemporaryDirectory() as folder:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**made))
        # The publishers' names, and the config as transformers writes it: the test takes `made`.
        model.save_pretrained(folder)
        shapes = shapes_of(f"{folder}/model.safetensors")
        save_file({name: torch.tensor(values(name, shape, plus_one)) for name, shape in shapes.items()}, f"{folder}/model.safetensors")
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
        ids = torch.tensor([[(i * 37) % 64 for i in range(TOKENS)]])
        with torch.no_grad():
            return shapes, model(ids, use_cache=False).logits[0][KEPT].numpy()


written, arrays = [], []
for family, changes in CASES:
    made = {**BASE, "model_type": family, **changes}
    shapes, found = logits(made)
    written.append([made, shapes])
    arrays.append(found)
with open(f"{HERE}/families.json", "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in written) + "\n]\n")
numpy.stack(arrays).astype("<f4").tofile(f"{HERE}/families.f32")
print(len(written), "cases")
