"""Checks of notebook 07: the best candidate, what the best of n is worth, the second adapter's forward pass.

Knows: what a right answer does, and which mistake a wrong one points to. Does not know: how to do it; see
notebooks/solutions/07_self_distillation.py. The first hint fits the mistake; the others say more about the way.
"""

import math
from itertools import pairwise

from . import attempt, report

_INDEX = "give back the place of the best score in the list, from 0; not the score itself."
_UNREAD = "None is a score that could not be read: leave those places out before you look for the best."
_FIRST = "of two equal scores the first one wins."
_FLOOR = "compare the best score with `floor` before you give its place back; a score equal to `floor` is good enough."
_NOTHING = "where no score is left, give back None."


def best_place(function):
    """Exercise 1: function(scores, floor) -> index of the best score, None where no score reaches `floor`."""
    name = "best_place"
    more = (
        "first collect the places that count: [i for i, s in enumerate(scores) if s is not None and s >= floor].",
        "max(places, key=lambda i: scores[i], default=None): `max` keeps the first of equal ones.",
    )
    for scores, floor in _PLACES:
        answer, problem = attempt(function, list(scores), floor)
        hint = _INDEX if None not in scores else _UNREAD if any(scores) else _NOTHING
        if not problem:
            problem, hint = _place_problem(answer, scores, floor)
        if problem:
            return report(name, f"for scores {scores} and floor {floor} {problem}", (hint, *more))
    return report(name, "")


_PLACES = (
    ([40, 90, 70], 60),
    ([90, 40], 60),
    ([70, 85, 85, 10], 60),
    ([None, 62, None, 75], 60),
    ([60, 20], 60),
    ([59, 20], 60),
    ([None, None], 60),
)


def _place_problem(answer, scores, floor):
    """(problem, hint) of an answer of exercise 1, ("", "") where it is right."""
    counting = [i for i, score in enumerate(scores) if score is not None]
    best = max(counting, key=lambda i: scores[i], default=None)
    right = best if best is not None and scores[best] >= floor else None
    if answer == right and not isinstance(answer, bool):
        return "", ""
    problem = f"it gave {answer!r}, expected {right!r}."
    if best is None:
        return problem, _NOTHING
    if answer == scores[best]:
        return problem, _INDEX
    if scores[best] <= floor:
        return problem, _FLOOR
    same = [i for i in counting if scores[i] == scores[best]]
    return problem, _FIRST if answer in same else _INDEX


_RANDOM = "no random numbers are needed: the answer is exact."
_MEAN = "one draw gives the mean of all scores; the best of two draws is more. Where does n come in?"
_MOST = "the highest score is what you get with endless draws; with n draws you may miss it."
_PUT_BACK = "each draw is made from all scores, so the same one can come twice: (i / m) ** n."
_AT_MOST = "sort the m scores. What is the chance that one draw is at most the i-th smallest? And that all n draws are?"


def expected_best(function):
    """Exercise 2: function(scores, n) -> the best of n scores drawn from the list, with replacement, on average."""
    name = "expected_best"
    more = (
        "all n draws are at most the i-th smallest: (i / m) ** n. How likely is it that the best of them is it?",
        "sum(s * ((i / m) ** n - ((i - 1) / m) ** n) for i, s in enumerate(sorted(scores), start=1))",
    )
    for scores, n in (([10, 20], 1), ([20, 10], 2), ([50, 50], 3), ([4, 1, 3, 2], 2), ([10, 80, 60, 20, 60], 4)):
        answer, problem = attempt(function, list(scores), n)
        right, hint = _best_of(scores, n), _AT_MOST
        if not problem and not (isinstance(answer, int | float) and math.isclose(answer, right, abs_tol=1e-6)):
            problem, hint = f"it gave {answer!r}, expected {right:.4f}.", _best_hint(answer, scores, n, right)
        if problem:
            return report(name, f"for scores {scores} and n = {n}: {problem}", (hint, *more))
    return report(name, "")


def _best_of(scores, n):
    """The right answer of exercise 2, another way: the sum of the chances that the best is above each step."""
    ordered, m = sorted(scores), len(scores)
    steps = (b - a for a, b in pairwise(ordered))
    return ordered[0] + sum(step * (1 - (i / m) ** n) for i, step in enumerate(steps, start=1))


def _best_hint(answer, scores, n, right):
    """The hint that fits a wrong answer of exercise 2."""
    if not isinstance(answer, int | float):
        return _AT_MOST
    m, ordered = len(scores), sorted(scores)
    ways = math.comb(m, n)
    kept = sum(s * math.comb(i, n - 1) for i, s in enumerate(ordered)) / ways if ways else None
    guesses = ((sum(scores) / m, _MEAN), (max(scores), _MOST), (kept, _PUT_BACK))
    for guess, hint in guesses:
        if guess is not None and math.isclose(answer, guess, abs_tol=1e-6):
            return hint
    return _RANDOM if abs(answer - right) < 0.1 * abs(right) else _AT_MOST


_PATHS = "three paths, all from the same x, and their results are added: W, the first adapter, the second adapter."
_BOTH_FROM_X = "the second adapter reads x as well. It stands beside the first one, not behind it."
_SCALE = "each adapter's path is scaled by alpha / its own rank, and the rank is the number of rows of its A."
_SHAPES = "x is (rows, inputs), so W is transposed: x @ W.T. So are A and B: x @ A.T @ B.T."


def second_forward(function):
    """Exercise 3: function(x, W, first, second, alpha) -> output of a layer with a frozen and a second adapter.

    x : (rows, inputs) · W : (outputs, inputs) · first, second : (A, B), A (rank, inputs), B (outputs, rank).
    """
    name = "second_forward"
    more = (
        "write a path once, for an adapter (A, B): alpha / len(A) * (x @ A.T @ B.T); then use it for both.",
        "x @ W.T + sum(alpha / len(A) * (x @ A.T @ B.T) for A, B in (first, second))",
    )
    for ranks, alpha in (((2, 2), 2), ((2, 2), 16), ((1, 4), 8)):
        inputs = _layer(*ranks)
        answer, problem = attempt(function, *inputs, alpha)
        hint = _SHAPES
        if not problem:
            problem, hint = _forward_problem(answer, inputs, alpha)
        if problem:
            return report(name, f"for ranks {ranks}, alpha {alpha}: {problem}", (hint, *more))
    return report(name, "")


def _layer(*ranks):
    """x, W and two adapters with 5 inputs and 5 outputs, the same on every call."""
    import torch

    dice = torch.Generator().manual_seed(sum(ranks))
    x, weight = (torch.randn(*shape, generator=dice) for shape in ((3, 5), (5, 5)))
    pairs = [tuple(torch.randn(*s, generator=dice) for s in ((rank, 5), (5, rank))) for rank in ranks]
    return x, weight, *pairs


def _forward_problem(answer, inputs, alpha):
    """(problem, hint) of an answer of exercise 3. The reference adds the matrices up first."""
    import torch

    x, weight, first, second = inputs

    def path(adapter, given=x, scale=None):
        a, b = adapter
        return (alpha / len(a) if scale is None else scale) * (given @ a.T @ b.T)

    right = x @ (weight + sum(alpha / len(a) * (b @ a) for a, b in (first, second))).T
    if not isinstance(answer, torch.Tensor):
        return f"it gave {type(answer).__name__}, not a tensor.", _PATHS
    if answer.shape != right.shape:
        return f"its shape is {tuple(answer.shape)}, expected {tuple(right.shape)}.", _SHAPES
    if torch.allclose(answer, right, atol=1e-4):
        return "", ""
    once = x @ weight.T + path(first)
    wrong = (
        (once, "the second adapter is missing.", _PATHS),
        (x @ weight.T + path(second), "the first adapter is missing: frozen, not gone.", _PATHS),
        (once + path(second, given=once), "the second adapter reads what the first layer gave.", _BOTH_FROM_X),
        (x @ weight.T + path(first, scale=1) + path(second, scale=1), "the scale alpha / rank is missing.", _SCALE),
        (once + path(second, scale=alpha / len(first[0])), "the second path has the first one's rank.", _SCALE),
    )
    return next(((said, hint) for value, said, hint in wrong if torch.allclose(answer, value, atol=1e-4)), _UNKNOWN)


_UNKNOWN = ("the numbers differ.", _PATHS)
