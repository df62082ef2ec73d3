"""Checks of notebook 04: the rank a budget allows, the loss mask, LoRA's forward pass."""

from . import Wrong, call, exercise, expect, table

COST = "one matrix costs rank × (outputs + inputs). What does rank 1 cost for all of them together?"
THIN = "A and B are thin: rank × inputs and outputs × rank. Their sizes are added, outputs + inputs, not multiplied."
WHOLE = "a rank is a whole number, and must stay within the budget: round down."
ALL = "all matrices are adapted: add up what rank 1 costs for each of them."


@exercise(
    "divide the budget by the cost of rank 1, and round down: `//`.",
    "budget // sum(outputs + inputs for outputs, inputs in shapes)",
)
def rank_for(answer):
    """Exercise 1. answer(shapes, budget) → the largest rank whose LoRA has at most `budget` parameters."""
    rows, cases = [], (([(3, 4)], 21), ([(576, 576), (192, 576)], 20_000), ([(10, 10)], 19), ([(8, 2)] * 5, 400))
    for shapes, budget in cases:
        exact = budget / sum(map(sum, shapes))
        one = [(budget // sum(shape), ALL) for shape in shapes]
        product = budget // sum(outputs * inputs for outputs, inputs in shapes)
        rounded = [(value, WHOLE) for value in (exact, exact + 0.5, int(exact) + 1)]
        rows.append(((shapes, budget), int(exact), COST, (product, THIN), *rounded, *one))
    table(answer, rows)


SIDE_BY_SIDE = "build both lists side by side, and return both: `return input_ids, labels`."
PADDED = "input_ids are the ids of all parts, one after another, then pad_id up to `length`."
BY_POSITION = "mask what was padded, by counting places. Never ask what a token's id is."
PADDING_TOO = "padding is not learned either: its labels are -100."
ONLY_LEARNED = "a label is the token itself where `learn` is True, and -100 where it is not."
STOP = 2  # also the padding, as in the embedded model
MASKS = (  # (parts, length, input_ids, labels)
    ([([7, 8], False), ([9, STOP], True)], 4, [7, 8, 9, 2], [-100, -100, 9, 2]),
    ([([7], False), ([9, STOP], True), ([5], False)], 6, [7, 9, 2, 5, 2, 2], [-100, 9, 2, -100, -100, -100]),
    ([([STOP], False), ([4, STOP], True)], 4, [2, 4, 2, 2], [-100, 4, 2, -100]),
)


@exercise(
    "go through the parts: input_ids += ids, and labels += ids if learn else [-100] * len(ids).",
    "missing = length - len(input_ids); then add [pad_id] * missing to the one and [-100] * missing to the other.",
)
def loss_mask(answer):
    """Exercise 2. answer(parts: [(ids, learn)], length, pad_id) → (input_ids, labels), padded on the right."""
    for parts, length, ids, labels in MASKS:
        given = f"parts={parts}, length={length}"
        got = call(answer, parts, length, STOP, hint=SIDE_BY_SIDE)
        if not isinstance(got, tuple) or len(got) != 2:
            raise Wrong(f"for {given} it gave {got!r}, not a pair of lists (input_ids, labels).", SIDE_BY_SIDE)
        end = sum(len(part) for part, _ in parts)
        padding = labels[:end] + [STOP] * (length - end)
        no_stop = [-100 if label == STOP else label for label in labels]
        expect(got[0], ids, f"input_ids of {given}", PADDED)
        expect(got[1], labels, f"labels of {given}", ONLY_LEARNED, [(no_stop, BY_POSITION), (padding, PADDING_TOO)])


TWO_PATHS = "a linear layer computes x @ W.T. LoRA adds a second path: x through A, then through B."
TRANSPOSED = "look at the shapes: x is (rows, inputs), W is (outputs, inputs), so it is W.T. So are A.T and B.T."
SCALE = "the second path is scaled by alpha / rank; rank is the number of rows of A."
FROZEN = "the second path is added to what the frozen layer gives, x @ W.T."
NEVER_BA = "B @ A is as large as W: take x through A first, and what comes out of it, thin, through B."


@exercise(
    "the second path is x @ A.T @ B.T, scaled by alpha / rank; rank is the number of rows of A.",
    "x @ W.T + alpha / A.shape[0] * (x @ A.T @ B.T)",
)
def lora_forward(answer):
    """Exercise 3. answer(x, W, A, B, alpha) → output of a linear layer with LoRA, B A never built."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    for rank, alpha, rows in ((1, 1, 1), (2, 16, 3), (4, 2, 2)):
        generator = torch.Generator().manual_seed(rank)
        shapes = ((rows, 7), (5, 7), (rank, 7), (5, rank))
        x, w, a, b = (torch.randn(*shape, generator=generator) for shape in shapes)
        with FlopCounterMode(display=False) as counter:
            got = call(answer, x, w, a, b, alpha, hint=TRANSPOSED)
        frozen, path, scale = x @ w.T, x @ a.T @ b.T, alpha / rank
        known = ((frozen, TWO_PATHS), (scale * path, FROZEN), (frozen + path, SCALE), (frozen + alpha * path, SCALE))
        hint = TRANSPOSED if getattr(got, "shape", None) != frozen.shape else TWO_PATHS
        # The other way than the solution's: the matrices are merged.
        expect(got, x @ (w + scale * (b @ a)).T, f"rank {rank}, alpha {alpha}", hint, known)
        if rows == 1 and counter.get_total_flops() > 2 * (5 * 7 + rank * (5 + 7)):
            raise Wrong("the numbers are right, and a matrix of W's size was made on the way.", NEVER_BA)
