"""Exercises of notebook 07: their checks, and mistakes with the hint that fits. Used by test_exercises.py."""

import random
from itertools import combinations

from exercises import solutions_of

from checks import distillation as checks

SOLUTIONS = solutions_of("07_self_distillation")
EXERCISES = {
    "best_place": checks.best_place,
    "expected_best": checks.expected_best,
    "second_forward": checks.second_forward,
}


def crashes_on_unread(scores, floor):
    """Compares numbers with None."""
    best = max(scores)
    return scores.index(best) if best >= floor else None


def last_of_equals(scores, floor):
    """Takes the later of two equal scores."""
    best, place = floor, None
    for i, score in enumerate(scores):
        if score is not None and score >= best:
            best, place = score, i
    return place


def above_the_floor(scores, floor):
    """Leaves out what just reaches the floor."""
    return SOLUTIONS["best_place"](scores, floor + 1)


def no_floor(scores, floor):
    """Forgets the floor."""
    return SOLUTIONS["best_place"](scores, 0)


def the_score(scores, floor):
    """Gives the score back, not its place."""
    return max((s for s in scores if s is not None and s >= floor), default=None)


def simulated(scores, n):
    """Tries it out many times."""
    dice = random.Random(0)
    return sum(max(dice.choices(scores, k=n)) for _ in range(5000)) / 5000


def without_putting_back(scores, n):
    """Draws the same score only once."""
    if n >= len(scores):
        return SOLUTIONS["expected_best"](scores, n)
    groups = list(combinations(scores, n))
    return sum(max(group) for group in groups) / len(groups)


def path(x, adapter, scale):
    A, B = adapter
    return scale * (x @ A.T @ B.T)


def second_behind_first(x, W, first, second, alpha):
    """Gives the second adapter what came out of the first layer."""
    once = x @ W.T + path(x, first, alpha / len(first[0]))
    return once + path(once, second, alpha / len(second[0]))


def second_instead_of_first(x, W, first, second, alpha):
    """Forgets the frozen one."""
    return x @ W.T + path(x, second, alpha / len(second[0]))


def no_scale(x, W, first, second, alpha):
    """Adds B A as it is."""
    return x @ W.T + path(x, first, 1) + path(x, second, 1)


def one_rank_for_both(x, W, first, second, alpha):
    """Takes the first adapter's rank for the second one's."""
    scale = alpha / len(first[0])
    return x @ W.T + path(x, first, scale) + path(x, second, scale)


MISTAKES = [
    ("best_place", crashes_on_unread, checks._UNREAD),
    ("best_place", last_of_equals, checks._FIRST),
    ("best_place", above_the_floor, checks._FLOOR),
    ("best_place", no_floor, checks._FLOOR),
    ("best_place", the_score, checks._INDEX),
    ("expected_best", lambda scores, n: sum(scores) / len(scores), checks._MEAN),
    ("expected_best", lambda scores, n: max(scores) if n > 1 else sum(scores) / len(scores), checks._MOST),
    ("expected_best", without_putting_back, checks._PUT_BACK),
    ("expected_best", simulated, checks._RANDOM),
    ("second_forward", second_behind_first, checks._BOTH_FROM_X),
    ("second_forward", second_instead_of_first, checks._PATHS),
    ("second_forward", no_scale, checks._SCALE),
    ("second_forward", one_rank_for_both, checks._SCALE),
]
