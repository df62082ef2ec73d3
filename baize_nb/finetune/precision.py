"""dtype "auto": whether training computes in float32 or, where a processor is quicker with it, in bfloat16.

Knows: how to time one layer. Does not know: models, training.
Only newer processors multiply in bfloat16 (AVX512-BF16, AMX); the others take it apart, and are many times slower.
"""

import time

import torch

from . import forecast
from .fastlora import _Lora

MARGIN = 1.2  # bfloat16 keeps two to three digits of each number: that must be worth something
TOKENS, RANK = 256, 8


def choose(dtype):
    """ "float32" or "bfloat16" for "auto", any other dtype as it is. On a GPU "auto" is float32: there, name one."""
    if dtype != "auto":
        return dtype
    if torch.cuda.is_available():
        return "float32"
    ratio = times_as_fast()
    chosen = "bfloat16" if ratio >= MARGIN else "float32"
    print(f"dtype   {chosen}; on this processor bfloat16 is {ratio:.2g} times as fast as float32")
    return chosen


def times_as_fast(seconds=0.8):
    """How many times as fast as in float32 a LoRA layer is forth and back in bfloat16, on this processor, by trying."""
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    layers = {dtype: _layer(dtype) for dtype in best}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for dtype, tensors in layers.items():  # in turn: whoever else is at work disturbs both
            start = time.perf_counter()
            _Lora.apply(*tensors, 2.0, 0.0).sum().backward()
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]


def _layer(dtype):
    """(x, W, A, B) of a layer of the embedded model; LoRA's own numbers are float32 whatever the others are."""
    outputs, inputs = forecast.shapes("embedded").matrices()["up_proj"]
    x, weight = torch.ones(TOKENS, inputs, dtype=dtype, requires_grad=True), torch.ones(outputs, inputs, dtype=dtype)
    return x, weight, torch.ones(RANK, inputs, requires_grad=True), torch.ones(outputs, RANK, requires_grad=True)
