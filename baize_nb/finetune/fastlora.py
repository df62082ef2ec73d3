"""LoRA's forward and backward pass in fewer steps than peft's: the same arithmetic, and the same dropout by other dice.

Knows: one linear layer with LoRA on it. Does not know: models, training, files.

On a processor, most of what LoRA costs is not its arithmetic. Dropout draws a random number for each number of the
layer's input; here only the places that are dropped are drawn, one in twenty. peft makes three tensors as large as the
layer's output and keeps two as large as its input for the backward pass; here the low-rank path is added onto the
output in place, and what dropout left over is computed again when it is needed.
"""

import math

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


def quicken(model):
    """The model, whose LoRA layers now compute as above: on a base in float32 or bfloat16, where they have no bias.

    Others (a quantized base, one in float16) go on as peft wrote them.
    """
    from peft.tuners.lora.layer import Linear

    for layer in model.modules():
        if type(layer) is Linear and type(layer.base_layer) is torch.nn.Linear and _plain(layer):
            layer.forward = _forward_of(layer)
    return model


def _plain(layer):
    ours = (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    base = layer.base_layer
    quick = base.bias is None and base.weight.dtype in (torch.float32, torch.bfloat16)
    return quick and all(weight.dtype == torch.float32 for weight in ours)


def _forward_of(layer):
    """A forward pass for one layer; outside of training, on a GPU, or within autocast, it is peft's own."""
    theirs = layer.forward

    def forward(x):
        if not layer.training or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return theirs(x)
        a, b, scale = layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.scaling["default"]
        p = getattr(layer.lora_dropout["default"], "p", 0.0)  # without dropout, peft puts an Identity there
        y = _Lora.apply(x.reshape(-1, x.shape[-1]), layer.base_layer.weight, a, b, scale, p)
        return y.view(*x.shape[:-1], -1)

    return forward
