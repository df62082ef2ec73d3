"""Checks of notebook 04: the rank a budget allows, the loss mask, LoRA's forward pass."""

from . import Wrong, call, exercise

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
    cases = (([(3, 4)], 21, 3), ([(576, 576), (192, 576)], 20_000, 10), ([(10, 10)], 19, 0), ([(8, 2)] * 5, 400, 8))
    for shapes, budget, right in cases:
        got = call(answer, shapes, budget, hint=COST)
        if got == right:
            continue
        hint = ALL if got in [budget // sum(shape) for shape in shapes] else COST
        if got == budget // sum(outputs * inputs for outputs, inputs in shapes):
            hint = THIN
        elif isinstance(got, int | float) and right < got <= right + 1:
            hint = WHOLE
        raise Wrong(f"for shapes {shapes} and {budget} parameters it gave {got!r}.", hint)


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
        given = f"for parts={parts}, length={length}: "
        got = call(answer, parts, length, STOP, hint=SIDE_BY_SIDE)
        if not isinstance(got, tuple) or len(got) != 2 or not all(isinstance(part, list) for part in got):
            raise Wrong(f"{given}it gave {got!r}, not a pair of lists (input_ids, labels).", SIDE_BY_SIDE)
        got_ids, got_labels = got
        if got_ids != ids:
            raise Wrong(f"{given}input_ids are {got_ids}, expected {ids}.", PADDED)
        if got_labels == [-100 if label == STOP else label for label in labels]:
            said = "the stop token is masked: the model would never learn to stop. Only padding may be."
            raise Wrong(given + said, BY_POSITION)
        if got_labels != labels:
            # Right wherever something is to be learned or was given, and a token where padding stands.
            end = max(i for i, label in enumerate(labels) if label != -100) + 1
            padded = got_labels[:end] == labels[:end] and STOP in got_labels[end:]
            problem = f"{given}labels are {got_labels}, expected {labels}."
            raise Wrong(problem, PADDING_TOO if padded else ONLY_LEARNED)


TWO_PATHS = "a linear layer computes x @ W.T. LoRA adds a second path: x through A, then through B."
TRANSPOSED = (
    "look at the shapes: x is (rows, inputs) and W is (outputs, inputs), so W is transposed, W.T. So are A and B."
)
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

    for rank, alpha, rows in ((1, 1, 1), (2, 16, 3), (4, 2, 2)):
        generator = torch.Generator().manual_seed(rank)
        shapes = ((rows, 7), (5, 7), (rank, 7), (5, rank))
        x, w, a, b = (torch.randn(*shape, generator=generator) for shape in shapes)
        with _products() as made:
            got = call(answer, x, w, a, b, alpha, hint=TRANSPOSED)
        right = torch.nn.functional.linear(x, w + alpha / rank * (b @ a))  # the other way: the matrices are merged
        if not isinstance(got, torch.Tensor):
            problem, hint = f"it gave {type(got).__name__}, not a tensor.", TWO_PATHS
        elif got.shape != right.shape:
            problem, hint = f"its shape is {tuple(got.shape)}, expected {tuple(right.shape)}.", TRANSPOSED
        elif torch.allclose(got, right, atol=1e-4):
            if w.numel() not in made:
                continue
            problem, hint = "the numbers are right, and a matrix of W's size was made on the way.", NEVER_BA
        else:
            path = x @ a.T @ b.T
            known = (
                (x @ w.T, "that is the frozen layer alone; the path through A and B is missing.", TWO_PATHS),
                (alpha / rank * path, "that is the path through A and B alone; the frozen layer is missing.", FROZEN),
                (x @ w.T + path, "the scale alpha / rank is missing: yours is 1.", SCALE),
                (x @ w.T + alpha * path, f"the scale alpha / rank is missing: yours is {alpha}.", SCALE),
            )
            wrong = [(said, hint) for value, said, hint in known if torch.allclose(got, value, atol=1e-4)]
            problem, hint = wrong[0] if wrong else ("the numbers differ.", TWO_PATHS)
        raise Wrong(f"for rank {rank}, alpha {alpha}: {problem}", hint)


def _products():
    """A context that collects how many numbers each product and sum of tensors has that is computed in it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Products(TorchDispatchMode):
        def __enter__(self):
            super().__enter__()
            self.sizes = set()
            return self.sizes

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            result = operation(*args, **(kwargs or {}))
            if operation.overloadpacket.__name__ in ("mm", "bmm", "addmm", "baddbmm", "mul"):
                self.sizes.add(result.numel())
            return result

    return Products()
