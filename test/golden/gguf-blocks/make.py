"""
Golden blocks of the types that ggml's quantizer does not make without an importance matrix: random bytes with scales of
ordinary size, and the values that the reference implementation gives. Made with gguf 0.19.0 and numpy (PyPI):

    python -m venv venv && venv/bin/pip install gguf==0.19.0 numpy
    venv/bin/python test/golden/gguf-blocks/make.py            # writes <type>.bin and <type>.f32 here
    venv/bin/python test/golden/gguf-blocks/make.py --grids    # prints the strings of src/format/blocks/grids.ts, and sums

Q1_0 and Q2_0 are not in that release: see `own` below.
"""
import hashlib
import pathlib
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

HERE = pathlib.Path(__file__).parent
BLOCKS = 18

# Offsets of f16 scales in a block, and their sizes (values of about 0.05).
F16 = {
    "IQ3_S": (0, 0.0005), "IQ3_XXS": (0, 0.0005), "IQ2_S": (0, 0.001), "IQ2_XS": (0, 0.001), "IQ2_XXS": (0, 0.001),
    "IQ1_S": (0, 0.005), "IQ1_M": None, "NVFP4": None, "TQ1_0": (52, 0.05), "TQ2_0": (64, 0.05), "Q1_0": (0, 0.05),
    "Q2_0": (0, 0.05),
}
# Q2_0 has no number in that release: 64 values, [d][16 bytes].
SIZES = {name: GGML_QUANT_SIZES[GGMLQuantizationType[name]][1] for name in F16 if name != "Q2_0"} | {"Q2_0": 18}


def own(name, raw):
    """By ggml-quants.c, dequantize_row_q1_0 and dequantize_row_q2_0: bits from the lowest of each byte on."""
    width = 1 if name == "Q1_0" else 2
    d = np.ascontiguousarray(raw[:, :2]).view(np.float16).astype(np.float32)
    bits = np.unpackbits(raw[:, 2:], axis=1, bitorder="little").reshape(len(raw), -1, width)
    codes = (bits << np.arange(width)).sum(2)
    return d * (2 * codes - 1 if width == 1 else codes - 1).astype(np.float32)


def blocks(name, rng):
    raw = rng.integers(0, 256, (BLOCKS, SIZES[name]), dtype=np.uint8)
    size = (rng.uniform(0.5, 1.5, BLOCKS) * rng.choice([-1, 1], BLOCKS)).astype(np.float32)
    if name == "IQ1_M":
        # The scale's four nibbles are the upper ones of four 16-bit words.
        half = (size * 0.005).astype(np.float16).view(np.uint16)
        for word in range(4):
            at = 48 + 2 * word + 1
            raw[:, at] = (raw[:, at] & 15) | (((half >> (4 * word)) & 15) << 4).astype(np.uint8)
    elif name == "NVFP4":
        # Any e4m3; both kinds of NaN and both zeros among them.
        raw[0, :4] = [0, 0x7F, 0xFF, 0x80]
    else:
        at, scale = F16[name]
        raw[:, at:at + 2] = (size * scale).astype(np.float16).view(np.uint8).reshape(BLOCKS, 2)
    return raw


def golden():
    rng = np.random.default_rng(12)
    for name in F16:
        raw = blocks(name, rng)
        (HERE / f"{name.lower()}.bin").write_bytes(raw.tobytes())
        values = own(name, raw) if name in ("Q1_0", "Q2_0") else quants.dequantize(raw, GGMLQuantizationType[name])
        (HERE / f"{name.lower()}.f32").write_bytes(values.astype(np.float32).tobytes())


DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def grids():
    for name in ["IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_S"]:
        quant = getattr(quants, name)
        quant.init_grid()
        grid = quant.grid.reshape(quant.grid_shape)
        levels = list(quant.grid_map)
        digits = np.searchsorted(np.array(levels), grid)
        numbers = (digits * len(levels) ** np.arange(grid.shape[1])).sum(1)
        assert (np.diff(numbers) > 0).all()
        text = ""
        for gap in np.diff(numbers, prepend=-1):
            text += "/" * (gap // 63) + DIGITS[gap % 63]
        print(name, hashlib.sha256(digits.astype(np.uint8).tobytes()).hexdigest(), text, sep="\n")


if __name__ == "__main__":
    grids() if sys.argv[1:] == ["--grids"] else golden()
