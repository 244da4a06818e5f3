"""
Golden blocks under an importance: what ggml_quantize_chunk of llama.cpp's libggml-base.so makes of input.f32 (6 rows of 768)
and importance.f32 (768, written here), by ctypes:

    python test/golden/gguf-blocks/important.py LIBGGML_BASE.so        # numpy alone; writes important.<type>.bin here
"""
import ctypes
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent
TYPES = {"q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_k": 10, "q3_k": 11, "q4_k": 12, "q5_k": 13, "q6_k": 14}
ROWS, COLS = 6, 768

ggml = ctypes.CDLL(sys.argv[1])
ggml.ggml_row_size.restype = ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
pointer = ctypes.c_void_p
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, *[ctypes.c_int64] * 3, pointer]

rng = np.random.default_rng(16)
importance = np.exp(rng.normal(0, 2, COLS)).astype(np.float32)
# Columns that nothing reaches: single ones, and a group of 32.
importance[rng.integers(0, COLS, 12)] = 0
importance[320:352] = 0
importance.tofile(HERE / "importance.f32")
values = np.fromfile(HERE / "input.f32", np.float32)
assert values.size == ROWS * COLS
for name, number in TYPES.items():
    out = np.zeros(ROWS * ggml.ggml_row_size(number, COLS), np.uint8)
    made = ggml.ggml_quantize_chunk(
        number, values.ctypes.data, out.ctypes.data, 0, ROWS, COLS, importance.ctypes.data
    )
    assert made == out.size
    out.tofile(HERE / f"important.{name}.bin")
