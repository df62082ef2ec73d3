"""Self-checks of notebook 04: the rank a budget allows, the loss mask, LoRA's forward pass.

Knows: what a right answer does. Does not know: how to do it; see notebooks/solutions/04_lora_finetuning.py.
"""

from . import attempt, report


def rank_for(function):
    """Exercise 1: function(shapes, budget) -> the largest rank whose LoRA has at most `budget` parameters.

    shapes : [(outputs, inputs)] of the adapted matrices.
    """
    hints = (
        "One matrix costs rank × (outputs + inputs). What does rank 1 cost for all of them together?",
        "Divide the budget by the cost of rank 1, and round down: `//`.",
    )
    cases = (([(3, 4)], 21, 3), ([(576, 576), (192, 576)], 20_000, 10), ([(10, 10)], 19, 0), ([(8, 2)] * 5, 400, 8))
    for shapes, budget, right in cases:
        answer, problem = attempt(function, shapes, budget)
        if problem or answer != right:
            problem = problem or f"for shapes {shapes} and {budget} parameters it gave {answer!r}."
            return report("rank_for", problem, hints)
    return report("rank_for", "")


def loss_mask(function):
    """Exercise 2: function(parts, length, pad_id) -> (input_ids, labels), both padded on the right to `length`.

    parts : [(ids, learn)] in order; a label is the token where learn is True, -100 elsewhere, padding included.
    """
    hints = (
        "Go through the parts and build both lists side by side; they must stay equally long.",
        "Padding is added at the end, by counting: length - len(input_ids). Never ask what a token's id is.",
        "labels += ids if learn else [-100] * len(ids), and -100 for each padded place.",
    )
    stop = 2  # also the padding, as in the embedded model
    cases = (
        ([([7, 8], False), ([9, stop], True)], 4, [7, 8, 9, 2], [-100, -100, 9, 2]),
        ([([7], False), ([9, stop], True), ([5], False)], 6, [7, 9, 2, 5, 2, 2], [-100, 9, 2, -100, -100, -100]),
        ([([stop], False), ([4, stop], True)], 4, [2, 4, 2, 2], [-100, 4, 2, -100]),
    )
    for parts, length, ids, labels in cases:
        answer, problem = attempt(function, parts, length, stop)
        problem = problem or _mask_problem(answer, ids, labels)
        if problem:
            return report("loss_mask", f"for parts={parts}, length={length}: {problem}", hints)
    return report("loss_mask", "")


def _mask_problem(answer, ids, labels):
    """What is wrong with an answer of exercise 2, or ""."""
    if not isinstance(answer, tuple) or len(answer) != 2:
        return f"it gave {answer!r}, not a pair (input_ids, labels)."
    got_ids, got_labels = (list(part) if part is not None else None for part in answer)
    if got_ids != ids:
        return f"input_ids are {got_ids}, expected {ids}."
    if got_labels == labels:
        return ""
    if got_labels == [-100 if label == 2 else label for label in labels]:
        return "the stop token is masked: the model would never learn to stop. Only padding may be."
    return f"labels are {got_labels}, expected {labels}."


def lora_forward(function):
    """Exercise 3: function(x, W, A, B, alpha) -> output of a linear layer with LoRA, as peft computes it.

    x : (rows, inputs) · W : (outputs, inputs) · A : (rank, inputs) · B : (outputs, rank), torch tensors.
    """
    hints = (
        "A linear layer computes x @ W.T. LoRA adds a second path: x through A, then through B.",
        "The second path is scaled by alpha / rank, and rank is the number of rows of A.",
        "x @ W.T + alpha / A.shape[0] * (x @ A.T @ B.T)",
    )
    for rank, alpha, rows in ((1, 1, 1), (2, 16, 3), (4, 2, 2)):
        inputs = _matrices(rank, rows)
        answer, problem = attempt(function, *inputs, alpha)
        problem = problem or _forward_problem(answer, inputs, alpha)
        if problem:
            return report("lora_forward", f"for rank {rank}, alpha {alpha}: {problem}", hints)
    return report("lora_forward", "")


def _matrices(rank, rows):
    """x, W, A, B with 5 inputs and 3 outputs, the same on every call."""
    import torch

    generator = torch.Generator().manual_seed(rank)
    return [torch.randn(*shape, generator=generator) for shape in ((rows, 5), (3, 5), (rank, 5), (3, rank))]


def _forward_problem(answer, inputs, alpha):
    """What is wrong with an answer of exercise 3, or "". The reference merges the matrices first."""
    import torch

    x, weight, a, b = inputs
    right = torch.nn.functional.linear(x, weight + alpha / len(a) * (b @ a))
    if not isinstance(answer, torch.Tensor):
        return f"it gave {type(answer).__name__}, not a tensor."
    if answer.shape != right.shape:
        return f"its shape is {tuple(answer.shape)}, expected {tuple(right.shape)}."
    if torch.allclose(answer, right, atol=1e-5):
        return ""
    if torch.allclose(answer, x @ weight.T, atol=1e-5):
        return "that is the frozen layer alone; the path through A and B is missing."
    if torch.allclose(answer, x @ weight.T + x @ a.T @ b.T, atol=1e-5):
        return "the scale alpha / rank is missing."
    return "the numbers differ."
