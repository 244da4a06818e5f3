"""Weights of tiny checkpoints, made of a tensor's name and shape, as `values` of test/model/folder-cases.ts makes them."""

import numpy


def values(name, shape, gemma):
    """Uniform in steps that float32 holds exactly; norms and factors around 1, or around 0 in Gemma 2 and 3, which add the 1."""
    state = 2166136261
    for byte in name.encode():
        state = ((state ^ byte) * 16777619) % 2**32
    count = int(numpy.prod(shape))
    made = numpy.empty(count, dtype=numpy.float32)
    for i in range(count):
        state ^= (state << 13) % 2**32
        state ^= state >> 17
        state ^= (state << 5) % 2**32
        made[i] = (state >> 20) / 2048 - 1
    if len(shape) == 1:
        return (made * 0.5 + (1 if ("norm" in name or "scal" in name) and not gemma else 0)).reshape(shape)
    return (made * 0.5).reshape(shape)
