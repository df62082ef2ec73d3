"""Checks of notebook 07: the best candidate, what the best of n is worth, the second adapter's forward pass."""

import math
from itertools import pairwise
from numbers import Real

from . import Wrong, call, exercise

INDEX = "give back the place of the best score in the list, from 0; not the score itself."
UNREAD = "None is a score that could not be read: leave those places out before you look for the best."
FIRST = "of two equal scores the first one wins."
FLOOR = "compare the best score with `floor` before you give its place back; a score equal to `floor` is good enough."
NOTHING = "where no score is left, give back None."
PLACES = ([40, 90, 70], [90, 40], [70, 85, 85, 10], [None, 62, None, 75], [60, 20], [59, 20], [None, None])


@exercise(
    "first collect the places that count: [i for i, s in enumerate(scores) if s is not None and s >= floor].",
    "max(places, key=lambda i: scores[i], default=None): `max` keeps the first of equal ones.",
)
def best_place(answer):
    """Exercise 1. answer(scores, floor) → index of the best score, None where no score reaches `floor`."""
    floor = 60
    for scores in PLACES:
        hint = INDEX if None not in scores else UNREAD if any(scores) else NOTHING
        got = call(answer, list(scores), floor, hint=hint)
        counting = [i for i, score in enumerate(scores) if score is not None]
        best = max(counting, key=lambda i: scores[i], default=None)
        right = best if best is not None and scores[best] >= floor else None
        if got == right and not isinstance(got, bool):
            continue
        if best is None:
            hint = NOTHING
        elif got != scores[best] and scores[best] <= floor:
            hint = FLOOR
        else:
            hint = FIRST if got in [i for i in counting if scores[i] == scores[best]] else INDEX
        raise Wrong(f"for scores {scores} and floor {floor} it gave {got!r}, expected {right!r}.", hint)


RANDOM = "no random numbers are needed: the answer is exact."
MEAN = "one draw gives the mean of all scores; the best of two draws is more. Where does n come in?"
MOST = "the highest score is what you get with endless draws; with n draws you may miss it."
PUT_BACK = "each draw is made from all scores, so the same one can come twice: (i / m) ** n."
AT_MOST = "sort the m scores. What is the chance that one draw is at most the i-th smallest? And that all n draws are?"


@exercise(
    "all n draws are at most the i-th smallest: (i / m) ** n. How likely is it that the best of them is it?",
    "sum(s * ((i / m) ** n - ((i - 1) / m) ** n) for i, s in enumerate(sorted(scores), start=1))",
)
def expected_best(answer):
    """Exercise 2. answer(scores, n) → the best of n scores drawn from the list, with replacement, on average."""
    for scores, n in (([10, 20], 1), ([20, 10], 2), ([50, 50], 3), ([4, 1, 3, 2], 2), ([10, 80, 60, 20, 60], 4)):
        got = call(answer, list(scores), n, hint=AT_MOST)
        # Another way than the solution's: the sum of the chances that the best is above each step.
        m, ordered = len(scores), sorted(scores)
        steps = enumerate((b - a for a, b in pairwise(ordered)), start=1)
        right = ordered[0] + sum(step * (1 - (i / m) ** n) for i, step in steps)
        number = isinstance(got, Real)
        if number and math.isclose(got, right, abs_tol=1e-6):
            continue
        kept = sum(s * math.comb(i, n - 1) for i, s in enumerate(ordered)) / math.comb(m, n) if n <= m else math.nan
        guesses = ((sum(scores) / m, MEAN), (max(scores), MOST), (kept, PUT_BACK))
        hints = [hint for guess, hint in guesses if number and math.isclose(got, guess, abs_tol=1e-6)]
        near = number and abs(got - right) < 0.1 * abs(right)
        hint = hints[0] if hints else RANDOM if near else AT_MOST
        raise Wrong(f"for scores {scores} and n = {n}: it gave {got!r}, expected {right:.4f}.", hint)


PATHS = "three paths, all from the same x, and their results are added: W, the first adapter, the second adapter."
BOTH_FROM_X = "the second adapter reads x as well. It stands beside the first one, not behind it."
SCALE = "each adapter's path is scaled by alpha / its own rank, and the rank is the number of rows of its A."
SHAPES = "x is (rows, inputs), so W is transposed: x @ W.T. So are A and B: x @ A.T @ B.T."


@exercise(
    "write a path once, for an adapter (A, B): alpha / len(A) * (x @ A.T @ B.T); then use it for both.",
    "x @ W.T + sum(alpha / len(A) * (x @ A.T @ B.T) for A, B in (first, second))",
)
def second_forward(answer):
    """Exercise 3. answer(x, W, first, second, alpha) → output of a layer with a frozen and a second adapter."""
    import torch

    for ranks, alpha in (((2, 2), 2), ((2, 2), 16), ((1, 4), 8)):
        generator = torch.Generator().manual_seed(sum(ranks))
        x, w = (torch.randn(*shape, generator=generator) for shape in ((3, 5), (5, 5)))
        first, second = (
            tuple(torch.randn(*shape, generator=generator) for shape in ((rank, 5), (5, rank))) for rank in ranks
        )
        got = call(answer, x, w, first, second, alpha, hint=SHAPES)
        # Another way than the solution's: the matrices are added up first.
        right = x @ (w + sum(alpha / len(a) * (b @ a) for a, b in (first, second))).T
        if not isinstance(got, torch.Tensor):
            problem, hint = f"it gave {type(got).__name__}, not a tensor.", PATHS
        elif got.shape != right.shape:
            problem, hint = f"its shape is {tuple(got.shape)}, expected {tuple(right.shape)}.", SHAPES
        elif torch.allclose(got, right, atol=1e-4):
            continue
        else:
            problem, hint = _second_forward_problem(got, x, w, first, second, alpha)
        raise Wrong(f"for ranks {ranks}, alpha {alpha}: {problem}", hint)


def _second_forward_problem(got, x, w, first, second, alpha):
    """(problem, hint) of a tensor of the right shape with wrong numbers."""
    import torch

    def path(adapter, given=x, scale=None):
        a, b = adapter
        return (alpha / len(a) if scale is None else scale) * (given @ a.T @ b.T)

    once = x @ w.T + path(first)
    known = (
        (once, "the second adapter is missing.", PATHS),
        (x @ w.T + path(second), "the first adapter is missing: frozen, not gone.", PATHS),
        (once + path(second, given=once), "the second adapter reads what the first layer gave.", BOTH_FROM_X),
        (x @ w.T + path(first, scale=1) + path(second, scale=1), "the scale alpha / rank is missing.", SCALE),
        (once + path(second, scale=alpha / len(first[0])), "the second path has the first one's rank.", SCALE),
    )
    wrong = [(said, hint) for value, said, hint in known if torch.allclose(got, value, atol=1e-4)]
    return wrong[0] if wrong else ("the numbers differ.", PATHS)
