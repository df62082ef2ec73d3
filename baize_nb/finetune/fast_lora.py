"""LoRA's forward and backward pass in fewer steps than peft's, and whether bfloat16 makes it quicker still.

The arithmetic is peft's, and so is the dropout, by other random numbers. peft draws one for each number of the layer's
input; here only the places that are dropped are drawn, one in twenty. peft makes three tensors as large as the layer's
output and keeps two as large as its input for the backward pass; here the low-rank path is added onto the output in
place, and what dropout left over is computed again when it is needed.
"""

import math
import time
from functools import partial

import torch


class _Lora(torch.autograd.Function):
    """y = x Wᵀ + scale · drop(x) Aᵀ Bᵀ, for a frozen W; dropout's factor 1 / (1 - p) is kept in `ctx.scale`.

    x: (tokens, inputs) · W: (outputs, inputs) · A: (rank, inputs) · B: (outputs, rank)
    x and W may be bfloat16; A and B are float32, as the optimizer wants them, and are rounded for the products only.
    """

    @staticmethod
    def forward(ctx, x, weight, a, b, scale, p):
        gone = dropped_places(x.numel(), p) if p else None
        a, b = a.to(x.dtype), b.to(x.dtype)
        low = _without(x.clone(), gone) @ a.T if p else x @ a.T
        ctx.save_for_backward(x, weight, a, b, gone, low)
        ctx.scale = scale / (1 - p)
        return (x @ weight.T).addmm_(low, b.T, alpha=ctx.scale)

    @staticmethod
    def backward(ctx, grad):
        x, weight, a, b, gone, low = ctx.saved_tensors
        through_b = (grad @ b).mul_(ctx.scale)
        grad_a = through_b.T @ (x if gone is None else _without(x.clone(), gone))
        grad_b = (low.T @ grad).mul_(ctx.scale).T  # in this order: a thin matrix on the left is faster
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).add_(_without(through_b @ a, gone))
        return grad_x, None, grad_a.float(), grad_b.float(), None, None


def dropped_places(size, p):
    """Places among `size` numbers, in rising order, each of which is there with chance p, whatever the others are.

    The gaps between them follow a geometric distribution. Six standard deviations more are drawn than are expected.
    """
    draws = round(size * p + 6 * math.sqrt(size * p)) + 10
    gaps = torch.rand(draws).neg_().log1p_().div_(math.log1p(-p)).long().add_(1)
    places = gaps.cumsum(0).sub_(1)
    return places[: int(torch.searchsorted(places, size))]


def _without(x, gone):
    """x itself, with zeros in these places."""
    if gone is not None:
        x.view(-1).index_fill_(0, gone, 0)
    return x


def use_fast_lora(model):
    """Give the model's LoRA layers the forward pass above, where their base is in float32 or bfloat16; return it."""
    from peft.tuners.lora.layer import Linear

    for layer in model.modules():
        if type(layer) is not Linear or type(layer.base_layer) is not torch.nn.Linear:
            continue
        base, trained = layer.base_layer, (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
        plain = base.bias is None and base.weight.dtype in (torch.float32, torch.bfloat16)
        if plain and all(weight.dtype == torch.float32 for weight in trained):
            layer.forward = partial(_forward, layer, layer.forward)
    return model


def _forward(layer, theirs, x):
    if not layer.training or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return theirs(x)
    a, b, scale = layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.scaling["default"]
    p = getattr(layer.lora_dropout["default"], "p", 0.0)  # without dropout, peft puts an Identity there
    y = _Lora.apply(x.reshape(-1, x.shape[-1]), layer.base_layer.weight, a, b, scale, p)
    return y.view(*x.shape[:-1], -1)


def choose_dtype(dtype: str) -> str:
    """Choose "float32" or "bfloat16" for "auto"; any other dtype stays. On a GPU "auto" is float32: there, name one.

    Only newer processors multiply in bfloat16 (AVX512-BF16, AMX); the others take it apart, and are many times slower.
    """
    if dtype != "auto" or torch.cuda.is_available():
        return dtype.replace("auto", "float32")
    ratio = bfloat16_speedup()
    chosen = "bfloat16" if ratio > 1.2 else "float32"  # it keeps two to three digits: that must be worth something
    print(f"dtype   {chosen}; on this processor bfloat16 is {ratio:.2g} times as fast as float32")
    return chosen


def bfloat16_speedup(seconds: float = 0.8) -> float:
    """Try how many times as fast as in float32 a LoRA layer of the embedded model is forth and back in bfloat16."""
    a, b = torch.ones(8, 576, requires_grad=True), torch.ones(1536, 8, requires_grad=True)  # float32 in both
    end, best = time.perf_counter() + seconds, {torch.float32: math.inf, torch.bfloat16: math.inf}
    while time.perf_counter() < end:
        for dtype in best:  # in turn: whoever else is at work disturbs both
            x, weight = torch.ones(256, 576, dtype=dtype, requires_grad=True), torch.ones(1536, 576, dtype=dtype)
            start = time.perf_counter()
            _Lora.apply(x, weight, a, b, 2.0, 0.0).sum().backward()
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]
