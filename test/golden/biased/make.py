"""Key biases that carry channels far out, as Qwen 2.5 and gpt-oss have them, in two golden checkpoints, and what transformers
computes then. python make.py [folder of the models]; writes cases.json and logits.f32 beside it."""
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent
MODELS = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "models"
TOKENS, LAST = 384, 32
# Of the head's rotary pairs the slowest two, or the fastest.
CASES = [("qwen2", "slow", 30), ("qwen2", "fast", 30), ("gpt_oss", "slow", 30), ("gpt_oss", "fast", 30)]

cases, logits = [], []
for number, (family, which, size) in enumerate(CASES):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        MODELS / family, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    layers = model.config.num_hidden_layers
    biased = [0, layers - 1]
    for layer in biased:
        attention = model.model.layers[layer].self_attn
        half = attention.head_dim // 2
        pairs = [half - 1, half - 2] if which == "slow" else [0]
        bias = torch.full_like(attention.k_proj.bias, 0.125)
        for row in range(len(bias)):
            if row % half in pairs:
                bias[row] = size if row % 2 else -size
        with torch.no_grad():
            attention.k_proj.bias.copy_(bias)
    ids = torch.randint(model.config.vocab_size, (TOKENS,), generator=torch.Generator().manual_seed(number))
    with torch.no_grad():
        found = model(ids[None]).logits[0, -LAST:]
    logits.append(found.numpy().astype(np.float32).ravel())
    cases.append({"family": family, "which": which, "size": size, "pairs": pairs, "layers": biased,
                  "ids": ids.tolist(), "last": LAST})

(HERE / "cases.json").write_text(json.dumps({"transformers": transformers.__version__, "torch": torch.__version__,
                                             "cases": cases}) + "\n")
np.concatenate(logits).tofile(HERE / "logits.f32")
