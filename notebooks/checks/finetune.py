"""Self-checks of notebook 04: the rank a budget allows, the loss mask, LoRA's forward pass.

Knows: what a right answer does, and which mistake a wrong one points to. Does not know: how to do it; see
notebooks/solutions/04_lora_finetuning.py. The first hint fits the mistake; the others say more about the way.
"""

from . import attempt, report


def rank_for(function):
    """Exercise 1: function(shapes, budget) -> the largest rank whose LoRA has at most `budget` parameters.

    shapes : [(outputs, inputs)] of the adapted matrices.
    """
    more = (
        "divide the budget by the cost of rank 1, and round down: `//`.",
        "budget // sum(outputs + inputs for outputs, inputs in shapes)",
    )
    cases = (([(3, 4)], 21, 3), ([(576, 576), (192, 576)], 20_000, 10), ([(10, 10)], 19, 0), ([(8, 2)] * 5, 400, 8))
    for shapes, budget, right in cases:
        answer, problem = attempt(function, shapes, budget)
        if problem or answer != right:
            problem = problem or f"for shapes {shapes} and {budget} parameters it gave {answer!r}."
            return report("rank_for", problem, (_rank_hint(answer, shapes, budget), *more))
    return report("rank_for", "")


_COST = "one matrix costs rank × (outputs + inputs). What does rank 1 cost for all of them together?"
_THIN = "A and B are thin: rank × inputs and outputs × rank. Their sizes are added, outputs + inputs, not multiplied."
_WHOLE = "a rank is a whole number, and must stay within the budget: round down."
_ALL = "all matrices are adapted: add up what rank 1 costs for each of them."


def _rank_hint(answer, shapes, budget):
    """The hint that fits a wrong answer of exercise 1."""
    exact = budget / sum(outputs + inputs for outputs, inputs in shapes)
    if answer == budget // sum(outputs * inputs for outputs, inputs in shapes):
        return _THIN
    if isinstance(answer, (int, float)) and exact // 1 < answer <= exact // 1 + 1:
        return _WHOLE
    return _ALL if answer in [budget // sum(shape) for shape in shapes] else _COST


def loss_mask(function):
    """Exercise 2: function(parts, length, pad_id) -> (input_ids, labels), both padded on the right to `length`.

    parts : [(ids, learn)] in order; a label is the token where learn is True, -100 elsewhere, padding included.
    """
    more = (
        "go through the parts: input_ids += ids, and labels += ids if learn else [-100] * len(ids).",
        "missing = length - len(input_ids); then add [pad_id] * missing to the one and [-100] * missing to the other.",
    )
    stop = 2  # also the padding, as in the embedded model
    cases = (
        ([([7, 8], False), ([9, stop], True)], 4, [7, 8, 9, 2], [-100, -100, 9, 2]),
        ([([7], False), ([9, stop], True), ([5], False)], 6, [7, 9, 2, 5, 2, 2], [-100, 9, 2, -100, -100, -100]),
        ([([stop], False), ([4, stop], True)], 4, [2, 4, 2, 2], [-100, 4, 2, -100]),
    )
    for parts, length, ids, labels in cases:
        answer, problem = attempt(function, parts, length, stop)
        hint = _SIDE_BY_SIDE
        if not problem:
            problem, hint = _mask_problem(answer, ids, labels)
        if problem:
            return report("loss_mask", f"for parts={parts}, length={length}: {problem}", (hint, *more))
    return report("loss_mask", "")


_SIDE_BY_SIDE = "build both lists side by side, and return both: `return input_ids, labels`."
_PADDED = "input_ids are the ids of all parts, one after another, then pad_id up to `length`."
_BY_POSITION = "mask what was padded, by counting places. Never ask what a token's id is."
_PADDING_TOO = "padding is not learned either: its labels are -100."
_ONLY_LEARNED = "a label is the token itself where `learn` is True, and -100 where it is not."


def _mask_problem(answer, ids, labels):
    """(problem, hint) of an answer of exercise 2, ("", "") where it is right."""
    if not isinstance(answer, tuple) or len(answer) != 2 or not all(isinstance(part, list) for part in answer):
        return f"it gave {answer!r}, not a pair of lists (input_ids, labels).", _SIDE_BY_SIDE
    got_ids, got_labels = answer
    if got_ids != ids:
        return f"input_ids are {got_ids}, expected {ids}.", _PADDED
    if got_labels == labels:
        return "", ""
    if got_labels == [-100 if label == 2 else label for label in labels]:
        return "the stop token is masked: the model would never learn to stop. Only padding may be.", _BY_POSITION
    # Right wherever something is to be learned or was given, and a token where padding stands.
    end = max(i for i, label in enumerate(labels) if label != -100) + 1
    padded = got_labels[:end] == labels[:end] and 2 in got_labels[end:]
    return f"labels are {got_labels}, expected {labels}.", _PADDING_TOO if padded else _ONLY_LEARNED


def lora_forward(function):
    """Exercise 3: function(x, W, A, B, alpha) -> output of a linear layer with LoRA, as peft computes it.

    x : (rows, inputs) · W : (outputs, inputs) · A : (rank, inputs) · B : (outputs, rank), torch tensors.
    """
    more = (
        "the second path is x @ A.T @ B.T, scaled by alpha / rank; rank is the number of rows of A.",
        "x @ W.T + alpha / A.shape[0] * (x @ A.T @ B.T)",
    )
    for rank, alpha, rows in ((1, 1, 1), (2, 16, 3), (4, 2, 2)):
        inputs = _matrices(rank, rows)
        answer, problem = attempt(function, *inputs, alpha)
        hint = _TRANSPOSED
        if not problem:
            problem, hint = _forward_problem(answer, inputs, alpha)
        if problem:
            return report("lora_forward", f"for rank {rank}, alpha {alpha}: {problem}", (hint, *more))
    return report("lora_forward", "")


_TWO_PATHS = "a linear layer computes x @ W.T. LoRA adds a second path: x through A, then through B."
_TRANSPOSED = (
    "look at the shapes: x is (rows, inputs) and W is (outputs, inputs), so W is transposed, W.T. So are A and B."
)
_SCALE = "the second path is scaled by alpha / rank; rank is the number of rows of A."
_FROZEN = "the second path is added to what the frozen layer gives, x @ W.T."


def _matrices(rank, rows):
    """x, W, A, B with 5 inputs and 3 outputs, the same on every call."""
    import torch

    generator = torch.Generator().manual_seed(rank)
    return [torch.randn(*shape, generator=generator) for shape in ((rows, 5), (3, 5), (rank, 5), (3, rank))]


def _forward_problem(answer, inputs, alpha):
    """(problem, hint) of an answer of exercise 3. The reference merges the matrices first."""
    import torch

    x, weight, a, b = inputs
    right = torch.nn.functional.linear(x, weight + alpha / len(a) * (b @ a))
    if not isinstance(answer, torch.Tensor):
        return f"it gave {type(answer).__name__}, not a tensor.", _TWO_PATHS
    if answer.shape != right.shape:
        return f"its shape is {tuple(answer.shape)}, expected {tuple(right.shape)}.", _TRANSPOSED
    if torch.allclose(answer, right, atol=1e-5):
        return "", ""
    if torch.allclose(answer, x @ weight.T, atol=1e-5):
        return "that is the frozen layer alone; the path through A and B is missing.", _TWO_PATHS
    if torch.allclose(answer, alpha / len(a) * (x @ a.T @ b.T), atol=1e-5):
        return "that is the path through A and B alone; the frozen layer is missing.", _FROZEN
    for scale in (1, alpha):
        if torch.allclose(answer, x @ weight.T + scale * (x @ a.T @ b.T), atol=1e-5):
            return f"the scale alpha / rank is missing: yours is {scale}.", _SCALE
    return "the numbers differ.", _TWO_PATHS
