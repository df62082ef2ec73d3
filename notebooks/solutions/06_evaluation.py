"""Solutions of notebook 06: one function per exercise."""

import math
import random

from baize_nb import judging


def two_orders(a_first, b_first):
    """Exercise 1: a win only where both orders agree. a_first: the judge's letter when a was shown first."""
    return {("A", "B"): "a", ("B", "A"): "b"}.get((a_first, b_first), "tie")


def interval_of(values, statistic):
    """Exercise 2: the middle 95 % of the statistic of samples drawn with replacement."""
    results = sorted(statistic(random.choices(values, k=len(values))) for _ in range(2000))
    return results[50], results[1949]


def at_equal(longer, scores):
    """Exercise 3: the fitted chance of a win at no difference in length."""
    intercept, _ = judging.logistic(longer, scores)
    return 1 / (1 + math.exp(-intercept))
