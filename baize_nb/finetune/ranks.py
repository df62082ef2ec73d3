"""How much of LoRA's rank an update uses: its singular values, and the model with only the largest of them.

Knows: the matrices A and B of a peft model. Does not know: how they were trained.

The update of a matrix is B A, of rank r at most. Its singular values say how far it moves along each of r directions;
the best approximation of a lower rank keeps the largest. Both come cheaply, without building B A: with B = Q R and
A' = P S, B A is Q (R S') P', and R S' is only r × r.
"""

from contextlib import contextmanager

import torch


def spectrum(tuned):
    """Share of the update's squared size that lies in each direction, largest first, averaged over all matrices.

    tuned : a peft model that was trained (an update that is zero has no directions). Returns r numbers that sum to 1.
    """
    squares = torch.stack([_directions(a.data, b.data)[1] ** 2 for a, b in _updates(tuned)])
    return (squares / squares.sum(1, keepdim=True)).mean(0).tolist()


@contextmanager
def keeping(tuned, rank):
    """Inside, every update is its best approximation of this rank; afterwards it is as before. Built in notebook 04."""
    updates = _updates(tuned)
    before = [(a.data, b.data) for a, b in updates]
    try:
        for a, b in updates:
            left, values, right = _directions(a.data, b.data)
            values[rank:] = 0
            a.data, b.data = right, left * values
        yield
    finally:
        for (a, b), (old_a, old_b) in zip(updates, before, strict=True):
            a.data, b.data = old_a, old_b


def _updates(tuned):
    """[(A, B)] of all LoRA layers."""
    layers = [m for m in tuned.modules() if "default" in getattr(m, "lora_A", {})]
    return [(layer.lora_A["default"].weight, layer.lora_B["default"].weight) for layer in layers]


def _directions(a, b):
    """(left, singular values, right) of b @ a: (outputs, rank), (rank,) largest first, (rank, inputs)."""
    q, r = torch.linalg.qr(b)
    p, s = torch.linalg.qr(a.T)
    left, values, right = torch.linalg.svd(r @ s.T)
    return q @ left, values, right @ p.T
