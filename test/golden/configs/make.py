"""Writes cases.json and logits.f32: tiny checkpoints in every spelling of config.json, and transformers' logits for them.

Run by hand with torch 2.13.0 and transformers 5.24.0 (`python make.py`); tests need only what it writes. Weights are no
file: `weights.py` makes them of a tensor's name and shape, as test/model/folder-cases.ts does. Logits are kept at the
positions KEPT of TOKENS tokens, float32, one case after another.
"""

import json, os, tempfile

import numpy, torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from weights import values

TOKENS, KEPT = 48, [20, 47]
HERE = os.path.dirname(os.path.abspath(__file__))

SHAPE = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=256, rope_theta=500.0,
)
GEMMA = dict(head_dim=16, query_pre_attn_scalar=16, sliding_window=8, sliding_window_pattern=3)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
LINEAR = dict(rope_type="linear", factor=4.0)
ABSENT = "absent"


BASES = {
    family: dict(SHAPE, model_type=family, **(dict(head_dim=16) if family == "qwen3" else {}))
    for family in ["llama", "mistral", "qwen2", "qwen3"]
}
BASES["gemma3_text"] = dict(SHAPE, model_type="gemma3_text", **GEMMA)
del BASES["gemma3_text"]["rope_theta"]


def config(family, changes):
    return {key: value for key, value in dict(BASES[family], **changes).items() if value != ABSENT}


def cases():
    for family in ["llama", "mistral", "qwen2", "qwen3", "gemma3_text"]:
        # Nullable and missing numbers.
        yield family, {}
        yield family, dict(num_key_value_heads=2)
        yield family, dict(rms_norm_eps=0.01)
        yield family, dict(rope_theta=ABSENT)
        yield family, dict(tie_word_embeddings=True)
        yield family, dict(tie_word_embeddings=False)
        yield family, dict(attention_bias=True, mlp_bias=True)
        # Window and kinds of layers, in the ways of all families.
        yield family, dict(sliding_window=8)
        yield family, dict(sliding_window=8, max_window_layers=1, use_sliding_window=True)
        yield family, dict(layer_types=["full_attention"] * 3, sliding_window=8 if family in ["mistral", "gemma3_text"] else None, head_dim=16)
        # RoPE in every place.
        yield family, dict(rope_scaling=LINEAR)
        yield family, dict(rope_scaling=LLAMA3)
        # Of another family.
        yield family, dict(query_pre_attn_scalar=50, rope_local_base_freq=100.0)
        yield family, dict(hidden_act="gelu_pytorch_tanh")
        yield family, dict(eos_token_id=[1, 2], bos_token_id=1, pad_token_id=3, torch_dtype="float16", attention_dropout=0.5)
    for family in ["llama", "mistral", "qwen2"]:
        yield family, dict(head_dim=32)
        yield family, dict(hidden_size=48, num_attention_heads=1, head_dim=16)
    for family in ["llama", "mistral", "qwen2", "qwen3"]:
        yield family, dict(rope_parameters=dict(rope_type="default", rope_theta=777.0))
        yield family, dict(rope_theta=ABSENT, rope_parameters=dict(LLAMA3, rope_theta=777.0))
        yield family, dict(rope_parameters=dict(rope_type="default"))
        yield family, dict(rope_parameters=dict(LINEAR), rope_scaling=dict(rope_type="default"))
        yield family, dict(rope_scaling=dict(type="linear", factor=4.0))
        yield family, dict(rope_scaling={}, rope_parameters=None)
        yield family, dict(rope_scaling=LLAMA3, original_max_position_embeddings=64)
        yield family, dict(hidden_activation="gelu_pytorch_tanh", hidden_act="swish")
    yield "llama", dict(num_key_value_heads=None, head_dim=None)
    yield "mistral", dict(head_dim=None)
    yield "qwen2", dict(num_key_value_heads=None)
    yield "qwen3", dict(num_key_value_heads=None, head_dim=ABSENT)
    yield "llama", dict(attention_bias=True)
    yield "llama", dict(mlp_bias=True)
    yield "mistral", dict(sliding_window=None)
    yield "mistral", dict(sliding_window=8, head_dim=16, layer_types=["sliding_attention", "full_attention", "sliding_attention"])
    yield "qwen3", dict(attention_bias=True)
    for family in ["qwen2", "qwen3"]:
        yield family, dict(sliding_window=8, use_sliding_window=True)
        yield family, dict(sliding_window=None, use_sliding_window=True, max_window_layers=0)
        yield family, dict(sliding_window=8, use_sliding_window=True, layer_types=["sliding_attention", "full_attention", "sliding_attention"])
    gemma = [
        dict(rope_parameters=dict(full_attention=dict(rope_type="default", rope_theta=777.0))),
        dict(rope_parameters=dict(sliding_attention=dict(LINEAR))),
        dict(rope_parameters=dict(full_attention=dict(LINEAR), sliding_attention=dict(rope_type="default")), rope_theta=300.0),
        dict(rope_scaling=LLAMA3, original_max_position_embeddings=64),
        dict(sliding_window_pattern=2),
        dict(sliding_window_pattern=1),
        dict(sliding_window_pattern=ABSENT, _sliding_window_pattern=2),
        dict(layer_types=["full_attention", "sliding_attention", "full_attention"]),
        dict(final_logit_softcapping=2.0),
        dict(query_pre_attn_scalar=ABSENT),
        dict(hidden_activation="gelu_pytorch_tanh", hidden_act="silu"),
        dict(hidden_activation="silu"),
        dict(use_bidirectional_attention=False),
    ]
    for changes in gemma:
        yield "gemma3_text", changes


def logits(made):
    gemma = made["model_type"].startswith("gemma3")
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/config.json", "w") as file:
            json.dump(made, file)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        if model.config.tie_word_embeddings:
            del shapes["lm_head.weight"]
        save_file({name: torch.tensor(values(name, shape, gemma)) for name, shape in shapes.items()}, f"{folder}/model.safetensors")
        model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
        ids = torch.tensor([[(i * 37) % 64 for i in range(TOKENS)]])
        with torch.no_grad():
            found = model(ids, use_cache=False).logits[0][KEPT]
    # Layers are alike: one stands for all.
    return {name.replace("layers.0.", "layers.*."): shape for name, shape in shapes.items() if ".layers." not in name or "layers.0." in name}, found.numpy()


written, tables, arrays = [], [], []
for family, changes in cases():
    made = config(family, changes)
    try:
        shapes, found = logits(made)
    except Exception as error:
        raise SystemExit(f"transformers refuses {made}: {error}")
    if shapes not in tables:
        tables.append(shapes)
    written.append([family, changes, tables.index(shapes)])
    arrays.append(found)
with open(f"{HERE}/cases.json", "w") as file:
    lines = lambda rows: "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]"
    file.write(f'{{"bases":{json.dumps(BASES)},\n"tensors":{lines(tables)},\n"cases":{lines(written)}}}\n')
numpy.stack(arrays).astype("<f4").tofile(f"{HERE}/logits.f32")
print(len(written), "cases")
