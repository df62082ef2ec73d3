"""Checks of notebook 07: the best candidate, what the best of n is worth, the second adapter's forward pass."""

import math
from itertools import pairwise
from numbers import Real

from . import call, exercise, expect, table

INDEX = "give back the place of the best score in the list, from 0; not the score itself."
UNREAD = "None is a score that could not be read: leave those places out before you look for the best."
FIRST = "of two equal scores the first one wins."
FLOOR = "compare the best score with `floor` before you give its place back; a score equal to `floor` is good enough."
PLACES = (  # (scores, right place with floor 60, hint, known mistakes)
    ([40, 90, 70], 1, INDEX),
    ([90, 40], 0, INDEX),
    ([70, 85, 85, 10], 1, INDEX, (2, FIRST)),
    ([None, 62, None, 75], 3, UNREAD, (75, INDEX)),
    ([60, 20], 0, FLOOR, (60, INDEX)),
    ([59, 20], None, FLOOR),
    ([None, None], None, FLOOR),
)


@exercise(
    "first collect the places that count: [i for i, s in enumerate(scores) if s is not None and s >= floor].",
    "max(places, key=lambda i: scores[i], default=None): `max` keeps the first of equal ones.",
)
def best_place(answer):
    """Exercise 1. answer(scores, floor) → index of the best score, None where no score reaches `floor`."""
    table(answer, [((scores, 60), *rest) for scores, *rest in PLACES])


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
        got = call(answer, scores, n, hint=AT_MOST)
        # Another way than the solution's: the sum of the chances that the best is above each step.
        m, ordered = len(scores), sorted(scores)
        steps = enumerate((b - a for a, b in pairwise(ordered)), start=1)
        right = ordered[0] + sum(step * (1 - (i / m) ** n) for i, step in steps)
        kept = sum(s * math.comb(i, n - 1) for i, s in enumerate(ordered)) / math.comb(m, n) if n <= m else math.nan
        known = ((sum(scores) / m, MEAN), (float(max(scores)), MOST), (kept, PUT_BACK))
        near = isinstance(got, Real) and abs(got - right) < 0.1 * abs(right)
        expect(got, float(right), f"scores {scores} and n = {n}", RANDOM if near else AT_MOST, known)


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

    def path(adapter, given, scale):
        a, b = adapter
        return scale * (given @ a.T @ b.T)

    for (one, two), alpha in (((2, 2), 2), ((2, 2), 16), ((1, 4), 8)):
        generator = torch.Generator().manual_seed(one + two)
        shapes = ((3, 5), (5, 5), (one, 5), (5, one), (two, 5), (5, two))
        x, w, *adapters = (torch.randn(*shape, generator=generator) for shape in shapes)
        first, second = adapters[:2], adapters[2:]
        got = call(answer, x, w, tuple(first), tuple(second), alpha, hint=SHAPES)
        # Another way than the solution's: the matrices are added up first.
        right = x @ (w + sum(alpha / len(a) * (b @ a) for a, b in (first, second))).T
        once = x @ w.T + path(first, x, alpha / one)
        known = (
            (once + path(second, once, alpha / two), BOTH_FROM_X),
            (x @ w.T + path(first, x, 1) + path(second, x, 1), SCALE),
            (once + path(second, x, alpha / one), SCALE),
        )
        hint = PATHS if getattr(got, "shape", None) == right.shape else SHAPES
        expect(got, right, f"ranks {one} and {two}, alpha {alpha}", hint, known)
